"""What creance adds to an image, to the start of a workload and to memory, as tables in Markdown: ../measure.sh."""

import argparse
import dataclasses
import json
import pathlib
import re
import statistics
import time

import patterns

# The first says when its container runs, and becomes creance; the second is the workload, and says when it runs.
TELL = "echo $EPOCHREALTIME"
FIRST = ["bash", "-c", f'{TELL}; exec "$@"', "first"]
WORKLOAD = ["bash", "-c", TELL]
READY = "stand-in for Falco: rules from"
# A task with a CPU for each of its containers, and the smallest one that ECS has.
SIZES = {"a CPU for each container": None, "0.25 CPU for all": 0.25}


def mb(size):
    return f"{size / 1e6:.1f} MB"


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def table(heads, rows):
    print(*(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]), sep="\n", end="\n\n")


def layers(image):
    """The bytes of an image's layers that are more than nothing, the last one first, and what made them."""
    command = ["history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image]
    lines = [line.partition(" ") for line in patterns.docker(*command).splitlines()]
    return [(int(size), made) for size, _, made in lines if int(size) > 0]


def sizes(images):
    def size(name):
        return int(patterns.docker("image", "inspect", "--format", "{{.Size}}", images.named(name)))

    rows = []
    for name in ("binaries", "sidecarvolume", "sidecarptrace", "sidecarattach", "falco", "embeddedbinaries"):
        image = f"creance-{name}"
        own = [(made, mb(count)) for count, made in layers(images.named(image)) if "creance" in made or "attach.sh" in made]
        added = [f"{re.sub(r'.* in ', '', made.split('#(nop) ')[-1]).strip()} {count}" for made, count in own]
        rows.append([image, mb(size(image)), "<br>".join(reversed(added))])
    table(["image", "size", "layers with creance in them"], rows)


class Started:
    """A task whose sidecars run, and whose workload can be started over and over."""

    def __init__(self, images, name, cpus=None, with_falco=True):
        directory = "podspecs" if name == "sidecarptrace" else "taskdefinitions"
        suffix = "yaml" if name == "sidecarptrace" else "json"
        self.pattern = patterns.Pattern(images, patterns.REPOSITORY / directory / f"{name}.{suffix}")
        spec = self.pattern.spec
        self.pattern.spec = dataclasses.replace(spec, cpus=cpus or float(len(spec.parts)))
        self.stage = self.pattern.stage()
        (self.workload,) = (part for part in spec.parts if part.name == "workload")
        self.sidecars = [part for part in spec.parts if part.name != "workload" and (with_falco or part.name != "falco")]

    def __enter__(self):
        self.stage.__enter__()
        try:
            self.stage.infrastructure()
            started = {part.name: self.stage.start(part) for part in self.sidecars}
            if "falco" in started:
                self.wait_for_falco(started["falco"])
        except BaseException as error:
            self.stage.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, *error):
        self.stage.__exit__(*error)

    def wait_for_falco(self, falco):
        patterns.until("Falco", lambda: True if any(line.startswith(READY) for line in falco.output()) else None)

    def launcher(self):
        """What is put in front of the workload."""
        if self.workload.entrypoint:
            return self.workload.entrypoint
        image = self.pattern.images.local(self.workload.image)
        return json.loads(patterns.docker("image", "inspect", "--format", "{{json .Config.Entrypoint}}", image))

    def run(self, launcher):
        """Milliseconds from the first instruction in the container to the first one of the workload."""
        container = self.stage.start(self.workload, [*launcher, *WORKLOAD], FIRST)
        status = container.status()
        times = [float(line) for line in container.output() if re.fullmatch(r"\d{10}\.\d{6}", line)]
        patterns.docker("rm", "--force", "--volumes", container.name)
        self.stage.containers.remove(container)
        if status != 0 or len(times) != 2:
            raise patterns.Failed(f"status {status}, times {times}")
        return (times[1] - times[0]) * 1e3


def without_waiting(launcher):
    """The same launcher, which lets the workload start before Falco is connected."""
    at = launcher.index("--wait-consumer")
    return launcher[:at] + launcher[at + 2 :]


def delays(images, runs):
    rows = []
    for name in ("sidecarvolume", "sidecarptrace", "mountedbinaries", "embeddedbinaries"):
        for title, cpus in SIZES.items():
            with Started(images, name, cpus) as started:
                launchers = {"natively": [], name: started.launcher()}
                if name == "sidecarvolume":
                    launchers[f"{name}, not waiting for Falco"] = without_waiting(started.launcher())
                # In turns, so that whatever else the machine does meets all of them.
                rounds = [[started.run(launcher) for launcher in launchers.values()] for _ in range(runs)]
            native, *under = zip(*rounds)
            for launched, values in zip(list(launchers)[1:], under):
                added = statistics.median(values) - statistics.median(native)
                rows.append([launched, title, quartiles(native), quartiles(values), f"{added:.1f}"])
    table(["pattern", "size", "natively, ms", "under creance, ms", "added, ms"], rows)


def memory_of(pid):
    """PSS and the most resident memory ever, in bytes."""
    proc = pathlib.Path("/proc") / str(pid)
    pss = re.search(r"^Pss:\s+(\d+) kB$", (proc / "smaps_rollup").read_text(), re.M)
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", (proc / "status").read_text(), re.M)
    return int(pss[1]) * 1024, int(peak[1]) * 1024


def roles(container):
    """The processes of a container that are creance's or Falco's, by what they are."""
    lines = patterns.docker("top", container.name, "-eo", "pid,ppid,args").splitlines()[1:]
    rows = [line.split(None, 2) for line in lines]
    creance = {pid for pid, _, args in rows if args.split()[0].rsplit("/", 1)[-1] == "creance"}
    found = {}
    for pid, parent, args in rows:
        if "/usr/share/falco/" in args:
            found.setdefault("consumer: the stand-in, not Falco", []).append(pid)
        elif pid in creance and " pause" in args:
            found["pause"] = [pid]
        elif pid in creance and " attach " in args:
            found["attach, which is engine and guardian in one"] = [pid]
        elif pid in creance and parent in creance:
            found["engine"] = [pid]
        elif pid in creance:
            found["guardian"] = [pid]
    return found


def memory(images):
    rows = []
    for name in ("sidecarvolume", "mountedbinaries", "embeddedbinaries", "sidecarattach"):
        with Started(images, name) as started:
            part = started.workload
            if name == "sidecarattach":
                workload = started.stage.start(part, ["--sleep", "2"], ["entrypoint.sh"])
            else:
                workload = started.stage.start(part, ["entrypoint.sh", "--sleep", "2"])
            falco = next((container for container in started.stage.containers if container.name.endswith("-falco")), workload)
            # It has acted some times, and sleeps most of the time.
            patterns.until("alerts", lambda: True if len(list(falco.alerts())) > 25 else None)
            time.sleep(1)
            for container in started.stage.containers[1:]:
                for role, pids in sorted(roles(container).items()):
                    both = [memory_of(pid) for pid in pids]
                    pss, peak = (sum(values) for values in zip(*both))
                    rows.append([name, role, mb(pss), mb(peak)])
    table(["pattern", "process", "PSS", "most resident (VmHWM)"], rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--runs", type=int, default=21, help="how often each start is measured")
    given = parser.parse_args()
    images = patterns.Images(given.prefix, given.version, False)
    cpus = re.findall(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    kernel = pathlib.Path("/proc/sys/kernel/osrelease").read_text().strip()
    print(f"{time.strftime('%Y-%m-%d')}, {len(cpus)} x {cpus[0] if cpus else '?'}, Linux {kernel}, load {load} at the start; "
          f"{given.runs} starts each, median (quartiles)\n")  # fmt: skip
    sizes(images)
    delays(images, given.runs)
    memory(images)


if __name__ == "__main__":
    main()
