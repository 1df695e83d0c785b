"""Runs each pattern by docker as its task or its pod would be, and looks for the alerts: see ../test.sh.

Every check is one line, `ok` or `FAILED`. The exit status is 1 if any failed.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

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
LINK = "/run/creance"
# What the metadata endpoint of ECS says of the workload.
TASK = "0123456789abcdef0123456789abcdef"
ECS = {"id": "2495160603ee", "name": "ecs-shop-1-workload", "repository": "registry.example/shop/web"}
METADATA_PORT = 51678
# The size of the smallest task: a quarter of a CPU and half a GiB.
TASK_CPUS, TASK_MEMORY_MB = 0.25, 512


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
        docker("run", "--detach", "--name", self.name, *options, image, *command)
        self.stage = stage
        stage.containers.append(self)

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

    def long_id(self):
        return docker("inspect", "--format", "{{.Id}}", self.name)


class Stage:
    """The containers and the volume of one task or pod."""

    count = 0

    def __init__(self, images, size=1):
        Stage.count += 1
        self.images, self.name = images, f"creance-pattern-{os.getpid()}-{Stage.count}"
        self.containers, self.volumes = [], []
        # The containers of a task share what the task has.
        self.limits = ["--cpus", TASK_CPUS / size, "--memory", f"{TASK_MEMORY_MB // size}m"]

    def volume(self, role):
        name = f"{self.name}-{role}"
        docker("volume", "create", name)
        self.volumes.append(name)
        return name

    def start(self, role, image, command=(), options=()):
        return Container(self, role, f"{self.images.prefix}{image}", command, [*self.limits, *options])

    def infrastructure(self):
        """What ECS has in a task of its own: the network that all its containers share, with the metadata endpoint."""
        told = {"DockerId": f"{TASK}-2495160603", "Name": "workload", "DockerName": ECS["name"],
                "Image": f"{ECS['repository']}:1.2"}
        script = (f"mkdir -p /metadata/v4 && echo '{json.dumps(told)}' >/metadata/v4/workload "
                  f"&& exec busybox httpd -f -p 127.0.0.1:{METADATA_PORT} -h /metadata")
        Container(self, "task", f"{self.images.prefix}creance-workload:{self.images.version}", ["-c", script],
                  ["--network", "none", "--entrypoint", "bash"])
        return ["--network", f"container:{self.name}-task"]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is not None and self.images.is_verbose:
            for container in self.containers:
                print(f"--- {container.name}", *container.output()[-25:], sep="\n", file=sys.stderr)
        for container in self.containers:
            docker("rm", "--force", "--volumes", container.name, check=False)
        for volume in self.volumes:
            docker("volume", "rm", "--force", volume, check=False)


METADATA = ["--env", f"ECS_CONTAINER_METADATA_URI_V4=http://127.0.0.1:{METADATA_PORT}/v4/workload"]


class Pattern:
    """How the containers of a pattern are started: the workload's own, and the one that shows the alerts."""

    rules = RULES_OF_ROOT
    identity = ECS
    restarts = ["--restart", "on-failure"]
    acting = ("entrypoint.sh", "--sleep", "1")
    ending = ("bash", "-c", "exit 42")
    one_round = ("entrypoint.sh", "--rounds", "1")

    def __init__(self, images):
        self.images = images
        self.tag = f":{images.version}"

    def sidecar(self, stage, link, *options):
        return stage.start("falco", f"creance-falco{self.tag}", [],
                           [*self.restarts, "--volume", f"{link}:{LINK}", "--read-only", *options])


class Embedded(Pattern):
    title = "embeddedbinaries"
    containers = 1

    def start(self, stage, command, with_falco=True):
        options = [*stage.infrastructure(), *METADATA]
        if not with_falco:
            # The consumer that the image names ends at once, as a Falco without its library would.
            options += ["--volume", "/bin/false:/usr/bin/falco:ro"]
        workload = stage.start("workload", f"creance-embeddedbinaries{self.tag}", command, options)
        return workload, workload


class SidecarVolume(Pattern):
    title = "sidecarvolume"
    containers = 2

    def start(self, stage, command, with_falco=True):
        network, link = stage.infrastructure(), stage.volume("link")
        falco = self.sidecar(stage, link, *network) if with_falco else None
        options = [*network, *METADATA, "--volume", f"{link}:{LINK}", "--ipc", "private"]
        return stage.start("workload", f"creance-sidecarvolume{self.tag}", command, options), falco


class Mounted(Pattern):
    """The workload's image is as it was: creance comes with a volume, and only the entry point is another one."""

    title = "mountedbinaries"
    containers = 2

    def start(self, stage, command, with_falco=True):
        network, link = stage.infrastructure(), stage.volume("link")
        binaries = stage.start("binaries", f"creance-binaries{self.tag}", [], ["--network", "none"])
        falco = self.sidecar(stage, link, *network) if with_falco else None
        options = [*network, *METADATA, "--volume", f"{link}:{LINK}", "--volumes-from", f"{binaries.name}:ro",
                   "--entrypoint", "/creance/creance"]
        flags = ["run", "--link", LINK, "--wait-consumer", "30", "--"]
        return stage.start("workload", f"creance-workload{self.tag}", [*flags, *command], options), falco


class SidecarPtrace(Pattern):
    """A pod whose containers satisfy the restricted profile: no user root, no capability, no new privileges."""

    title = "sidecarptrace"
    containers = 2
    rules = RULES_OF_A_USER
    identity = None
    restricted = ["--user", "65532:65532", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"]

    acting = (*Pattern.acting, "--bin-dir", "/home/workload")
    one_round = (*Pattern.one_round, "--bin-dir", "/home/workload")

    def start(self, stage, command, with_falco=True):
        # A pod shares network and IPC, and an emptyDir can be written by everybody.
        link = stage.volume("link")
        docker("run", "--rm", "--network", "none", "--volume", f"{link}:{LINK}", "--entrypoint", "chmod",
               f"{self.images.prefix}creance-workload{self.tag}", "0777", LINK)
        falco = self.sidecar(stage, link, *self.restricted, "--network", "none") if with_falco else None
        options = [*self.restricted, "--network", "none", "--volume", f"{link}:{LINK}",
                   "--tmpfs", "/home/workload:mode=0700,uid=65532,gid=65532"]
        return stage.start("workload", f"creance-sidecarptrace{self.tag}", command, options), falco


class SidecarAttach(Pattern):
    """A task whose containers share their PIDs: the workload's runs as ever, and the sidecar may trace it."""

    title = "sidecarattach"
    containers = 3
    identity = None

    def start(self, stage, command, with_falco=True):
        network, link = stage.infrastructure(), stage.volume("link")
        pids = ["--pid", f"container:{stage.name}-task"]
        falco = self.sidecar(stage, link, *network, *pids) if with_falco else None
        stage.start("attach", f"creance-sidecarattach{self.tag}",
                    ["workload.sh", "--link", LINK],
                    [*network, *pids, "--cap-add", "SYS_PTRACE", "--volume", f"{link}:{LINK}", "--read-only"])
        options = [*network, *pids, "--entrypoint", command[0]]
        return stage.start("workload", f"creance-workload{self.tag}", command[1:], options), falco


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

    def stage(self, pattern):
        return Stage(self.images, pattern.containers)

    def all(self, pattern):
        title = pattern.title
        self.check(f"{title}: the alerts of the right rules arrive", self.alerts_arrive, pattern)
        self.check(f"{title}: Falco is killed, comes back and alerts again", self.falco_comes_back, pattern)
        self.check(f"{title}: the workload's exit status is the container's", self.status_is_kept, pattern)
        self.check(f"{title}: a workload that is killed ends its container", self.workload_is_killed, pattern)
        self.check(f"{title}: without Falco the workload runs all the same", self.without_falco, pattern)

    def alerts_arrive(self, pattern):
        with self.stage(pattern) as stage:
            workload, falco = pattern.start(stage, pattern.acting)
            start = time.monotonic()

            def complete():
                alerts = list(falco.alerts())
                return alerts if pattern.rules <= {alert["rule"] for alert in alerts} else None

            try:
                alerts = until("alerts", complete)
            except Failed as failure:
                missing = pattern.rules - {alert["rule"] for alert in falco.alerts()}
                raise Failed(f"{failure}: no alert of {', '.join(sorted(missing))}") from None
            took_s = time.monotonic() - start
            self.identity_is_right(pattern, workload, alerts)
            wrong = {alert["rule"] for alert in alerts} - pattern.rules
            if wrong:
                raise Failed(f"alerts of other rules too: {', '.join(sorted(wrong))}")
            return f"{len(pattern.rules)} rules within {took_s:.0f} s of the start, container right"

    def identity_is_right(self, pattern, workload, alerts):
        wanted = pattern.identity or {"id": workload.long_id()[:12]}
        fields = {"id": "container.id", "name": "container.name", "repository": "container.image.repository"}
        for alert in alerts:
            got = {key: alert["output_fields"][fields[key]] for key in wanted}
            if got != wanted:
                raise Failed(f"the container of '{alert['rule']}' is {got}, not {wanted}")

    def falco_comes_back(self, pattern):
        with self.stage(pattern) as stage:
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
        with self.stage(pattern) as stage:
            workload, falco = pattern.start(stage, pattern.ending)
            if (status := workload.status()) != 42:
                raise Failed(f"status {status}, not 42")
            if falco is not workload and falco.state("Running") != "true":
                raise Failed("Falco's container ended with the workload's")

    def workload_is_killed(self, pattern):
        with self.stage(pattern) as stage:
            workload, falco = pattern.start(stage, pattern.acting)
            until("the first alert", lambda: next(falco.alerts(), None))
            pids = [pid for pid in host_pids(workload.name, "workload.sh") if pid not in host_pids(workload.name, "creance")]
            for pid in pids[:1]:
                os.kill(pid, signal.SIGKILL)
            if (status := workload.status()) != 137:
                raise Failed(f"status {status}, not 137")

    def without_falco(self, pattern):
        with self.stage(pattern) as stage:
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
    parser.add_argument("patterns", nargs="*")
    images = parser.parse_args()
    images.is_verbose = images.verbose
    checks = Checks(images)
    for kind in (Embedded, SidecarVolume, Mounted, SidecarPtrace, SidecarAttach):
        if not images.patterns or kind.title in images.patterns:
            checks.all(kind(images))
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
