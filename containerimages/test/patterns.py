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
import signal
import subprocess
import sys
import tempfile
import time

import specs

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent

# What the sample workload sets off as root, and as a user who cannot write among the programs.
RULES_OF_A_USER = {
    "Creance Shell Started",
    "Creance Download Tool Started",
    "Creance SSH Keys Written",
    "Creance Shell History Read",
}
RULES_OF_ROOT = RULES_OF_A_USER | {"Creance Program Written", "Creance Directory Among Programs"}

# A machine may be slow, and a task of a quarter of a CPU is: only what never comes is too late.
LIMIT_S = 90
POLL_S = 0.2
# What the metadata endpoint of ECS says of the workload.
TASK = "0123456789abcdef0123456789abcdef"
ECS = {"id": "2495160603ee", "name": "ecs-shop-1-workload", "repository": "registry.example/shop/web"}
METADATA_PORT = 51678


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
        docker("run", "--detach", "--name", self.name, *options, image, *command)

    def output(self):
        """Both streams, each line as it is."""
        done = subprocess.run(["docker", "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode(errors="replace").splitlines()

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

    def id(self):
        return docker("inspect", "--format", "{{.Id}}", self.name)[:12]


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

    def infrastructure(self):
        """What Fargate has in each task of its own: the namespaces that the containers share, and ECS's metadata."""
        told = {"DockerId": f"{TASK}-2495160603", "Name": "workload", "DockerName": ECS["name"],
                "Image": f"{ECS['repository']}:1.2"}
        serve = (f"mkdir -p /metadata/v4 && echo '{json.dumps(told)}' >/metadata/v4/workload "
                 f"&& exec busybox httpd -f -p 127.0.0.1:{METADATA_PORT} -h /metadata")
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

    def __init__(self, images, path):
        self.images = images
        self.is_pod = path.suffix == ".yaml"
        self.title = f"{path.parent.name}/{path.name}"
        self.spec = (specs.pod if self.is_pod else specs.task)(path)
        self.is_embedded = [part.name for part in self.spec.parts] == ["workload"]
        self.is_attached = any(part.name == "attach" for part in self.spec.parts)
        # In a pod the user may not write among the programs.
        place = ["--bin-dir", "/home/workload"] if self.is_pod else []
        self.rules = RULES_OF_A_USER if self.is_pod else RULES_OF_ROOT
        # What has started already when creance attaches may be told or not.
        self.needed = self.rules - {"Creance Shell Started"} if self.is_attached else self.rules
        self.acting = ["--sleep", "1", *place]
        self.one_round = ["--rounds", "1", *place]
        self.ending = ["-c", "exit 42"]

    def stage(self):
        return Stage(self.images, self.spec)

    def start(self, stage, arguments, with_falco=True, script="entrypoint.sh"):
        """The containers of the workload and of Falco, which may be one."""
        infrastructure, started = stage.infrastructure(), {}
        for part in self.spec.parts:
            if part.name == "falco" and not with_falco:
                continue
            if part.is_init:
                if (status := stage.start(part).status()) != 0:
                    raise Failed(f"{part.name} ended with status {status}")
            elif part.name != "workload":
                started[part.name] = stage.start(part)
            elif self.is_attached:
                # The image is as it was, with an entry point of its own.
                started[part.name] = stage.start(part, arguments, [script])
            elif self.is_embedded and not with_falco:
                # A Falco that ends at once, as one without its libraries would.
                broken = dataclasses.replace(part, options=[*part.options, "--volume", "/bin/false:/usr/bin/falco:ro"])
                started[part.name] = stage.start(broken, [script, *arguments])
            else:
                started[part.name] = stage.start(part, [script, *arguments])
        self.infrastructure = infrastructure
        return started["workload"], started.get("falco", started["workload"])

    def is_right(self, workload, alert):
        """Whether an alert names the container of the workload."""
        fields = alert["output_fields"]
        if self.is_attached:
            return (fields["container.id"], fields["container.name"]) == (workload.id(), "workload")
        if self.is_pod:
            # The files under /etc belong to who owns the network, which is all that some cgroups leave to tell.
            return fields["container.id"] in (workload.id(), self.infrastructure.id())
        return (fields["container.id"], fields["container.name"], fields["container.image.repository"]) == (
            ECS["id"], ECS["name"], ECS["repository"])  # fmt: skip


class Supervised(Pattern):
    """embeddedbinaries with a supervisor as the first process, which gives the container a status of its own."""

    def __init__(self, images, path):
        super().__init__(images, path)
        self.title = "containerimages/embeddedbinaries/supervisord"

    def start(self, stage, arguments, with_falco=True, script="entrypoint.sh"):
        self.infrastructure = stage.infrastructure()
        (part,) = self.spec.parts
        command = " ".join([script, *arguments])
        image = part.image.replace("creance-embeddedbinaries", "creance-supervisord")
        part = dataclasses.replace(part, image=image, command=None, options=[*part.options, "--env", f"WORKLOAD={command}"])
        container = stage.start(part)
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

    def all(self, pattern):
        title = pattern.title
        self.check(f"{title}: the alerts of the right rules arrive", self.alerts_arrive, pattern)
        self.check(f"{title}: Falco is killed, comes back and alerts again", self.falco_comes_back, pattern)
        self.check(f"{title}: the workload's exit status is the container's", self.status_is_kept, pattern)
        self.check(f"{title}: a workload that is killed ends its container", self.workload_is_killed, pattern)
        self.check(f"{title}: without Falco the workload runs all the same", self.without_falco, pattern)

    def supervised(self, pattern):
        title = pattern.title
        self.check(f"{title}: the alerts of the right rules arrive", self.alerts_arrive, pattern)
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
            workload, falco = pattern.start(stage, pattern.acting)
            start = time.monotonic()

            def complete():
                alerts = list(falco.alerts())
                return alerts if pattern.needed <= {alert["rule"] for alert in alerts} else None

            try:
                alerts = until("alerts", complete)
            except Failed as failure:
                missing = pattern.needed - {alert["rule"] for alert in falco.alerts()}
                raise Failed(f"{failure}: no alert of {', '.join(sorted(missing))}") from None
            took_s = time.monotonic() - start
            self.identity_is_right(pattern, workload, alerts)
            wrong = {alert["rule"] for alert in alerts} - pattern.rules
            if wrong:
                raise Failed(f"alerts of other rules too: {', '.join(sorted(wrong))}")
            return f"{len(pattern.needed)} rules within {took_s:.0f} s of the start, container right"

    def identity_is_right(self, pattern, workload, alerts):
        for alert in alerts:
            if not pattern.is_right(workload, alert):
                raise Failed(f"the container of '{alert['rule']}' is another one: {alert['output_fields']}")

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
            workload, falco = pattern.start(stage, pattern.ending, script="bash")
            if (status := workload.status()) != 42:
                raise Failed(f"status {status}, not 42")
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
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="how many of them are tried at a time")
    parser.add_argument("patterns", nargs="*", help="words of the names of task definitions and pods")
    given = parser.parse_args()
    images = Images(given.prefix, given.version, given.verbose)
    files = sorted([*REPOSITORY.glob("taskdefinitions/*.json"), *REPOSITORY.glob("podspecs/*.yaml")])
    checks = Checks(images)
    words = given.patterns or [""]
    wanted = [path for path in files if any(word in str(path.relative_to(REPOSITORY)) for word in words)]
    # A variant of a task definition has no file of its own, and goes by the name of its image.
    supervised = REPOSITORY / "taskdefinitions" / "embeddedbinaries.json"
    tasks = [lambda path=path: checks.all(Pattern(images, path)) for path in wanted]
    if any(word in "embeddedbinaries/supervisord" for word in words):
        tasks.append(lambda: checks.supervised(Supervised(images, supervised)))
    # They wait more than they work.
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda task: task(), tasks))
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
