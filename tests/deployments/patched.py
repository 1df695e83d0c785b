"""What `creance patch` makes of the files in samples/: it is checked here, and run by containerimages/test.sh."""

import dataclasses
import pathlib
import subprocess
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
VERSION = tomllib.loads((HERE.parent.parent / "Cargo.toml").read_text())["package"]["version"]
REGISTRY = "ACCOUNT_ID.dkr.ecr.REGION.amazonaws.com/"
# Those that leave the workload's image as it is.
UNTOUCHED = ("mountedbinaries", "sidecarattach")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A file that knows nothing of creance, and how it is patched."""

    kind: str
    name: str
    patterns: tuple
    # The containers that creance is to watch, one after the other, and what has to be said of each.
    containers: dict = dataclasses.field(default_factory=lambda: {"workload": ()})
    # Whether its images are ours, so that it can be run.
    is_runnable: bool = True


SAMPLES = (
    Sample("taskdef", "plain.json", ("embeddedbinaries", "mountedbinaries", "sidecarvolume", "sidecarattach")),
    Sample("pod", "plain.yaml", ("embeddedbinaries", "mountedbinaries", "sidecarptrace", "sidecarvolume")),
    Sample("pod", "job.yaml", ("mountedbinaries", "sidecarvolume")),
    Sample(
        "taskdef",
        "two.json",
        ("mountedbinaries", "sidecarvolume"),
        # The file does not say what this one's image runs.
        {"workload": (), "second": ("--entrypoint", "entrypoint.sh", "--command", "")},
    ),
    Sample(
        "pod", "several.yaml", ("embeddedbinaries", "mountedbinaries", "sidecarptrace", "sidecarvolume"), {"web": ()}, False
    ),
)


@dataclasses.dataclass(frozen=True)
class Patched:
    """A patched file."""

    sample: Sample
    pattern: str
    path: pathlib.Path
    # Why it is not there.
    error: str


def patched(creance, directory):
    """The patched samples, in a directory for each pattern."""
    for sample in SAMPLES:
        for pattern in sample.patterns:
            path = pathlib.Path(directory) / pattern / sample.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((HERE / "samples" / sample.name).read_bytes())
            error = ""
            for container, said in sample.containers.items():
                command = [creance, "patch", sample.kind, path, "--in-place", "--pattern", pattern, *said]
                command += ["--container", container, "--image-prefix", REGISTRY]
                if pattern not in UNTOUCHED:
                    command += ["--workload-image", f"{REGISTRY}creance-{pattern}:{VERSION}"]
                if pattern == "sidecarattach":
                    command += ["--program", "workload.sh"]
                done = subprocess.run(command, capture_output=True, text=True)
                error += done.stderr if done.returncode != 0 else ""
            yield Patched(sample, pattern, path, error)
