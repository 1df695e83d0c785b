"""Runs each task definition and each pod by docker as ECS or the kubelet would, and looks for the alerts: ../test.sh.

Every check is one line, `ok` or `FAILED`. The exit status is 1 if any failed.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import readmes
import specs

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "deployments"))

import patched  # noqa: E402

# What the sample workload sets off as root, and as a user who cannot write among the programs.
RULES_OF_A_USER = {
    "Creance Shell Started",
    "Creance Download Tool Started",
    "Creance SSH Keys Written",
    "Creance Shell History Read",
}
RULES_OF_ROOT = RULES_OF_A_USER | {"Creance Program Written", "Creance Directory Among Programs"}

# What the rules of a task's own say: taskdefinitions/configuration/rules.yaml.
RULE_OF_A_TASK = "Creance Example Page Read"

# A machine may be slow, and a task of a quarter of a CPU is: only what never comes is too late.
LIMIT_S = 90
POLL_S = 0.2
# What the metadata endpoint of ECS says of a container: its number in the task comes from its place in it.
TASK = "0123456789abcdef0123456789abcdef"
FIRST_NUMBER = 2495160603
REPOSITORY_OF_WORKLOAD = "registry.example/shop/web"
METADATA_PORT = 51678
# A workload that ends at once, with a line on each stream.
OUTPUT, ERROR = "to standard output", "to standard error"
ENDING = f"echo {OUTPUT}; echo {ERROR} >&2; exit 42"


class Failed(Exception):
    """What a check found."""


def docker(*arguments, check=True):
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise Failed(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def until(what, found, limit_s=LIMIT_S):
    """The first thing that `found` gives which is not None: it has to come within a bound."""
    end = time.monotonic() + limit_s
    while (value := found()) is None:
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {limit_s} s")
        time.sleep(POLL_S)
    return value


def host_pids(container, word):
    """The numbers, on this machine, of the container's processes that have a word in their command."""
    lines = docker("top", container, "-eo", "pid,args").splitlines()[1:]
    return [int(pid) for pid, args in (line.split(None, 1) for line in lines) if word in args]


class Container:
    """A container that is removed at the end."""

    def __init__(self, stage, role, image, command, options):
        self.name = f"{stage.name}-{role}"
        stage.containers.append(self)
        # As Falco shows it.
        self.id = docker("run", "--detach", "--name", self.name, *options, image, *command)[:12]

    def streams(self):
        """The lines of standard output and those of standard error, each as it is."""
        done = subprocess.run(["docker", "logs", self.name], capture_output=True)
        return [text.decode(errors="replace").splitlines() for text in (done.stdout, done.stderr)]

    def output(self):
        return [line for stream in self.streams() for line in stream]

    def alerts(self):
        for line in self.output():
            with contextlib.suppress(ValueError):
                alert = json.loads(line)
                if isinstance(alert, dict) and "rule" in alert:
                    yield alert

    def state(self, field):
        return docker("inspect", "--format", f"{{{{.State.{field}}}}}", self.name)

    def status(self, limit_s=LIMIT_S):
        """The exit status, once it has ended."""
        until(f"the end of {self.name}", lambda: None if self.state("Running") == "true" else True, limit_s)
        return int(self.state("ExitCode"))


class Stage:
    """The containers and volumes of one task or pod, as docker runs them."""

    count = 0

    def __init__(self, images, spec):
        Stage.count += 1
        self.images, self.spec, self.name = images, spec, f"creance-pattern-{os.getpid()}-{Stage.count}"
        self.containers, self.volumes, self.files = [], {}, tempfile.TemporaryDirectory(prefix="creance-pattern-")
        # Any user reads what a ConfigMap holds.
        os.chmod(self.files.name, 0o755)

    def volume(self, role):
        if role not in self.volumes:
            name = self.volumes[role] = f"{self.name}-{role}"
            docker("volume", "create", name)
            if self.spec.is_pod:
                # An emptyDir may be written by every user.
                docker("run", "--rm", "--network", "none", "--volume", f"{name}:/volume", "--entrypoint", "chmod",
                       self.images.named("creance-workload"), "0777", "/volume")
        return self.volumes[role]

    def number(self, name):
        return FIRST_NUMBER + [part.name for part in self.spec.parts].index(name)

    def identity(self, name):
        """Id, name and image's repository of a container of a task, as alerts have to show them."""
        return f"{self.number(name)}ee", f"ecs-shop-1-{name}", REPOSITORY_OF_WORKLOAD

    def infrastructure(self):
        """What Fargate has in each task of its own: the namespaces that the containers share, and ECS's metadata."""
        serve = "mkdir -p /metadata/v4 && cd /metadata/v4"
        for name in (part.name for part in self.spec.parts):
            told = {"DockerId": f"{TASK}-{self.number(name)}", "Name": name, "DockerName": self.identity(name)[1],
                    "Image": f"{REPOSITORY_OF_WORKLOAD}:1.2"}
            serve += f" && echo '{json.dumps(told)}' >{name}"
        serve += f" && exec busybox httpd -f -p 127.0.0.1:{METADATA_PORT} -h /metadata"
        ipc = "shareable" if self.spec.shares_ipc else "private"
        options = ["--init", "--network", "none", "--ipc", ipc, "--entrypoint", "bash"]
        command = ["-c", "exec sleep infinity" if self.spec.is_pod else serve]
        return Container(self, "infrastructure", self.images.named("creance-workload"), command, options)

    def start(self, part, command=None, entrypoint=None):
        """A container of the task, perhaps with another command."""
        owner, count = f"container:{self.name}-infrastructure", sum(not part.is_init for part in self.spec.parts)
        # The containers share what the task has.
        options = ["--cpus", f"{self.spec.cpus / count:.3f}", "--memory", f"{self.spec.memory_mb // count}m",
                   "--network", owner, "--ipc", owner if self.spec.shares_ipc else "private", *part.options]
        if self.spec.shares_pids:
            options += ["--pid", owner]
        if not self.spec.is_pod:
            options += ["--env", f"ECS_CONTAINER_METADATA_URI_V4=http://127.0.0.1:{METADATA_PORT}/v4/{part.name}"]
        if part.is_restarted:
            options += ["--restart", "always"]
        for volume, path, is_read_only in part.volumes:
            options += ["--volume", f"{self.volume(volume)}:{path}:{'ro' if is_read_only else 'rw'}"]
        for source, is_read_only in part.volumes_from:
            options += ["--volumes-from", f"{self.name}-{source}:{'ro' if is_read_only else 'rw'}"]
        for number, (path, text) in enumerate(part.files):
            file = pathlib.Path(self.files.name) / f"{part.name}-{number}"
            file.write_text(text)
            options += ["--volume", f"{file}:{path}:ro"]
        first, *rest = entrypoint or part.entrypoint or [None]
        if first is not None:
            options += ["--entrypoint", first]
        words = [*rest, *(command or part.command or [])]
        return Container(self, part.name, self.images.local(part.image), words, options)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is not None and self.images.is_verbose:
            for container in self.containers:
                print(f"--- {container.name}", *container.output()[-25:], sep="\n", file=sys.stderr)
        # Those that were started last are in the namespaces of the first.
        for container in reversed(self.containers):
            docker("rm", "--force", "--volumes", container.name, check=False)
        for volume in self.volumes.values():
            docker("volume", "rm", "--force", volume, check=False)
        self.files.cleanup()


class Images:
    def __init__(self, prefix, version, is_verbose):
        self.prefix, self.version, self.is_verbose = prefix, version, is_verbose

    def named(self, name):
        return f"{self.prefix}{name}:{self.version}"

    def local(self, image):
        """An image of a task or pod, as it is named here. A version that was not built is not there."""
        return f"{self.prefix}{image}"


class Pattern:
    """A task or a pod, and what the workload is told to do in it."""

    def __init__(self, images, path, title=None):
        self.images = images
        self.is_pod = path.suffix == ".yaml"
        self.title = title or f"{path.parent.name}/{path.name}"
        self.spec = (specs.pod if self.is_pod else specs.task)(path)
        self.workloads = [part.name for part in self.spec.parts if not part.is_ours]
        self.is_embedded = [part.name for part in self.spec.parts] == ["workload"]
        self.is_attached = any(part.name == "attach" for part in self.spec.parts)
        # In a pod the user may not write among the programs.
        place = ["--bin-dir", "/home/workload"] if self.is_pod else []
        self.rules = RULES_OF_A_USER if self.is_pod else RULES_OF_ROOT
        if any(part.name == "configuration" for part in self.spec.parts):
            self.rules = self.rules | {RULE_OF_A_TASK}
        # What has started already when creance attaches may be told or not.
        self.needed = self.rules - {"Creance Shell Started"} if self.is_attached else self.rules
        self.acting = ["--sleep", "1", *place]
        self.one_round = ["--rounds", "1", *place]

    def stage(self):
        return Stage(self.images, self.spec)

    def start(self, stage, arguments=None, with_falco=True, script="entrypoint.sh"):
        """The containers of the workload and of Falco, which may be one: as the file says, or with other arguments."""
        infrastructure, started = stage.infrastructure(), {}
        for part in self.spec.parts:
            if part.name == "falco" and not with_falco:
                continue
            if part.is_init:
                if (status := stage.start(part).status()) != 0:
                    raise Failed(f"{part.name} ended with status {status}")
                continue
            command, entrypoint = (None, None) if part.is_ours or arguments is None else ([script, *arguments], None)
            if self.is_attached and command:
                # The image is as it was, with an entry point of its own.
                command, entrypoint = arguments, [script]
            if self.is_embedded and not with_falco:
                # A Falco that ends at once, as one without its libraries would.
                part = dataclasses.replace(part, options=[*part.options, "--volume", "/bin/false:/usr/bin/falco:ro"])
            started[part.name] = stage.start(part, command, entrypoint)
        self.infrastructure, self.started = infrastructure, started
        return started["workload"], started.get("falco", started["workload"])

    def watched(self, stage, alert):
        """The name of the container that an alert tells of; nothing if it is none of the workload's."""
        fields = alert["output_fields"]
        id, name, repository = (fields[f"container.{field}"] for field in ("id", "name", "image.repository"))
        for workload in self.workloads:
            own = self.started[workload].id
            if self.is_attached:
                is_right = (id, name) == (own, workload)
            elif self.is_pod:
                # The files under /etc belong to who owns the network, which is all that some cgroups leave to tell.
                is_right = id in (own, self.infrastructure.id)
            else:
                is_right = (id, name, repository) == stage.identity(workload)
            if is_right:
                return workload
        return None


class Supervised(Pattern):
    """embeddedbinaries with a supervisor as the first process, which gives the container a status of its own."""

    def __init__(self, images, path):
        super().__init__(images, path)
        self.title = "containerimages/embeddedbinaries/supervisord"

    def start(self, stage, arguments=None, with_falco=True, script="entrypoint.sh"):
        self.infrastructure = stage.infrastructure()
        (part,) = self.spec.parts
        command = " ".join(part.command if arguments is None else [script, *arguments])
        image = part.image.replace("creance-embeddedbinaries", "creance-supervisord")
        part = dataclasses.replace(part, image=image, command=None, options=[*part.options, "--env", f"WORKLOAD={command}"])
        container = stage.start(part)
        self.started = {part.name: container}
        return container, container


class Checks:
    def __init__(self, images):
        self.images, self.failed, self.passed = images, 0, 0

    def check(self, title, body, *arguments):
        start = time.monotonic()
        try:
            told = body(*arguments) or ""
            self.passed += 1
            print(f"ok      {title}{told and ': '}{told} ({time.monotonic() - start:.0f} s)", flush=True)
        except Failed as failure:
            self.failed += 1
            print(f"FAILED  {title}: {failure}", flush=True)

    def arriving(self, pattern):
        self.check(f"{pattern.title}: the alerts of the right rules arrive", self.alerts_arrive, pattern)

    def all(self, pattern):
        title = pattern.title
        self.arriving(pattern)
        self.check(f"{title}: Falco is killed, comes back and alerts again", self.falco_comes_back, pattern)
        self.check(f"{title}: the workload's exit status and its lines are the container's", self.status_is_kept, pattern)
        self.check(f"{title}: a workload that is killed ends its container", self.workload_is_killed, pattern)
        self.check(f"{title}: without Falco the workload runs all the same", self.without_falco, pattern)

    def patched(self, images, file, title):
        self.check(f"{title}: the alerts of the right rules arrive", self.alerts_of_patched_arrive, images, file, title)

    def alerts_of_patched_arrive(self, images, file, title):
        if file.error:
            raise Failed(file.error)
        return self.alerts_arrive(Pattern(images, file.path, title))

    def empty_image(self, images):
        title = "in an image with nothing else, which cannot be written"
        for user in ("0:0", "65532:65532"):
            self.check(f"{title}, user {user}: the workload's calls are told", self.calls_are_told, images, user)

    def calls_are_told(self, images, user):
        creance = "/creance/creance"
        options = ["--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", user]
        # The one program that is there without a C library.
        command = [creance, "run", "--output", "json", "--", creance, "--version"]
        done = subprocess.run(
            ["docker", "run", *options, images.named("creance-binaries"), *command], capture_output=True, text=True
        )
        if done.returncode != 0 or done.stdout.strip() != f"creance {images.version}":
            raise Failed(f"status {done.returncode}: {done.stdout}{done.stderr}")
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        if not any(event.get("type") == "execve" for event in events):
            raise Failed(f"no execve is told: {done.stderr}")

    def readme(self, images, block):
        self.check(f"{block.title}: its commands show the alerts", self.alerts_are_shown, images, block)

    def alerts_are_shown(self, images, block):
        needed = RULES_OF_A_USER if "sidecarptrace" in block.title else RULES_OF_ROOT
        if "sidecarattach" in block.title:
            needed = needed - {"Creance Shell Started"}
        Stage.count += 1
        name = f"creance-readme-{os.getpid()}-{Stage.count}"
        running = readmes.Run(block, name, images.prefix, shutil.which("docker"))

        def complete():
            if running.status() not in (None, 0):
                raise Failed(f"a command ended with status {running.status()}")
            return True if needed <= running.rules() else None

        try:
            until(f"alerts of {sorted(needed)}", complete)
        except Failed as failure:
            shown = running.output.read_text(errors="replace").splitlines()
            raise Failed("\n".join([str(failure), *shown[-10:]])) from None
        finally:
            running.end()

    def supervised(self, pattern):
        title = pattern.title
        self.arriving(pattern)
        self.check(f"{title}: Falco is killed, comes back and alerts again", self.falco_comes_back, pattern)
        self.check(f"{title}: the container ends with the workload", self.ends_with_workload, pattern)

    def ends_with_workload(self, pattern):
        with pattern.stage() as stage:
            container, _ = pattern.start(stage, pattern.one_round)
            container.status()
            if not any("rounds done: 1" in line for line in container.output()):
                raise Failed("the workload did not say that it is done")

    def alerts_arrive(self, pattern):
        with pattern.stage() as stage:
            workload, falco = pattern.start(stage)
            start = time.monotonic()

            def seen():
                """The rules that each container has set off."""
                rules = {name: set() for name in pattern.workloads}
                for alert in falco.alerts():
                    if (name := pattern.watched(stage, alert)) is None:
                        raise Failed(f"the container of '{alert['rule']}' is another one: {alert['output_fields']}")
                    rules[name].add(alert["rule"])
                return rules

            def complete():
                rules = seen()
                return rules if all(pattern.needed <= found for found in rules.values()) else None

            try:
                rules = until("alerts", complete)
            except Failed as failure:
                missing = {name: sorted(pattern.needed - found) for name, found in seen().items()}
                raise Failed(f"{failure}: no alerts of {missing}") from None
            took_s = time.monotonic() - start
            wrong = set().union(*rules.values()) - pattern.rules
            if wrong:
                raise Failed(f"alerts of other rules too: {', '.join(sorted(wrong))}")
            if pattern.spec.is_job and (status := workload.status()) != 0:
                raise Failed(f"the job ended with status {status}")
            return f"{len(pattern.needed)} rules within {took_s:.0f} s of the start, container right"

    def falco_comes_back(self, pattern):
        with pattern.stage() as stage:
            _, falco = pattern.start(stage, pattern.acting)
            until("the first alert", lambda: next(falco.alerts(), None))
            pids = until("Falco", lambda: host_pids(falco.name, "standin.py") or None)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            before = len(list(falco.alerts()))
            starts = "stand-in for Falco: rules from"
            until("Falco's second start",
                  lambda: True if sum(line.startswith(starts) for line in falco.output()) > 1 else None)
            until("alerts after the restart", lambda: True if len(list(falco.alerts())) > before else None)

    def status_is_kept(self, pattern):
        with pattern.stage() as stage:
            workload, falco = pattern.start(stage, ["-c", ENDING], script="bash")
            if (status := workload.status()) != 42:
                raise Failed(f"status {status}, not 42")
            output, error = ([line for line in stream if line in (OUTPUT, ERROR)] for stream in workload.streams())
            if (output, error) != ([OUTPUT], [ERROR]):
                raise Failed(f"the workload's own lines are {output} on standard output and {error} on standard error")
            if falco is not workload and falco.state("Running") != "true":
                raise Failed("Falco's container ended with the workload's")

    def workload_is_killed(self, pattern):
        with pattern.stage() as stage:
            workload, falco = pattern.start(stage, pattern.acting)
            until("the first alert", lambda: next(falco.alerts(), None))
            # The first alert may be of the script before, which becomes the workload.
            pids = until("the workload", lambda: host_pids(workload.name, "workload.sh") or None)
            os.kill(pids[0], signal.SIGKILL)
            if (status := workload.status()) != 137:
                raise Failed(f"status {status}, not 137")

    def without_falco(self, pattern):
        with pattern.stage() as stage:
            workload, _ = pattern.start(stage, pattern.one_round, with_falco=False)
            if (status := workload.status()) != 0:
                raise Failed(f"the workload ended with status {status}")
            if not any("rounds done: 1" in line for line in workload.output()):
                raise Failed("the workload did not say that it is done")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--creance", required=True, help="the creance that patches")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--jobs", type=int, default=4, help="how many of them are tried at a time")
    parser.add_argument("patterns", nargs="*", help="words of the names of task definitions and pods")
    given = parser.parse_args()
    images = Images(given.prefix, given.version, given.verbose)
    checks = Checks(images)
    with tempfile.TemporaryDirectory(prefix="creance-patched-") as directory:
        run(list(all_tasks(images, checks, given.creance, pathlib.Path(directory))), given)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


def all_tasks(images, checks, creance, directory):
    """What is tried: its name, and how."""
    for path in sorted([*REPOSITORY.glob("taskdefinitions/*.json"), *REPOSITORY.glob("podspecs/*.yaml")]):
        # A variant of a pattern differs from it in one thing only.
        tried = checks.arriving if "-" in path.stem else checks.all
        yield str(path.relative_to(REPOSITORY)), lambda tried=tried, path=path: tried(Pattern(images, path))
    # A variant of a task definition has no file of its own, and goes by the name of its image.
    supervised = REPOSITORY / "taskdefinitions" / "embeddedbinaries.json"
    yield "embeddedbinaries/supervisord", lambda: checks.supervised(Supervised(images, supervised))
    yield "binaries", lambda: checks.empty_image(images)
    for block in readmes.blocks():
        yield block.title, lambda block=block: checks.readme(images, block)
    for file in patched.patched(creance, directory):
        if file.sample.is_runnable:
            title = f"patched/{file.pattern}/{file.sample.name}"
            yield title, lambda file=file, title=title: checks.patched(images, file, title)


def run(tasks, given):
    wanted = [task for name, task in tasks if any(word in name for word in given.patterns or [""])]
    # They wait more than they work.
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda task: task(), wanted))


if __name__ == "__main__":
    main()
