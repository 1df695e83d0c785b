"""Runs the commands of the patterns' READMEs as they are written, and looks for the alerts: ../test.sh.

A command `docker` of our own stands before the true one. It names images, containers and volumes as the tests have them,
and nothing else of a command is changed. What builds the images is left out: the tests have built them by the same script.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import textwrap

import yaml

IMAGES = pathlib.Path(__file__).resolve().parent.parent
# The options of docker whose value names a container or a volume.
NAMING = ("--name", "--pid", "--ipc", "--volumes-from", "-v")
NAMES = ("attach", "binaries", "falco", "link", "workload")
DOCKER = f"""#!{sys.executable} -B
import os, sys
sys.path.insert(0, {str(pathlib.Path(__file__).resolve().parent)!r})
import readmes
os.execv(os.environ["README_DOCKER"], ["docker", *readmes.renamed(sys.argv[1:])])
"""


def renamed(words):
    """The words of a docker command, with our names in them."""
    own, prefix = os.environ["README_NAME"], os.environ["README_PREFIX"]
    told, before = [], ""
    for word in words:
        if re.fullmatch(r"creance-[a-z]+:[0-9.]+", word):
            word = prefix + word
        elif before in NAMING or words[0] in ("logs", "volume"):
            word = re.sub(rf"^(container:)?({'|'.join(NAMES)})(?=$|:)", rf"\1{own}-\2", word)
        told.append(word)
        before = word
    if told[0] == "run":
        told[1:1] = ["--label", f"creance-readme={own}"]
    return told


@dataclasses.dataclass
class Block:
    """Commands that belong together."""

    title: str
    text: str


def blocks():
    """The commands of all READMEs that run something."""
    for path in sorted(IMAGES.glob("*/README.md")):
        if path.parent.name in ("falco", "workload"):
            # They are parts of the others, and set off nothing that could be seen.
            continue
        found = re.findall(r"(?:^(?: {4}.*)?\n)+", path.read_text(), re.M)
        for text in (textwrap.dedent(block) for block in found if "docker run" in block):
            kind = "supervisord" if "supervisord" in text else path.parent.name
            lines = [line for line in text.splitlines() if not line.startswith("../build.sh")]
            yield Block(f"containerimages/{path.parent.name}/README.md ({kind})", "\n".join(lines))


class Run:
    """Commands that run, or have run, and all that they have started."""

    def __init__(self, block, name, prefix, docker):
        self.name, self.docker = name, docker
        self.directory = tempfile.TemporaryDirectory(prefix="creance-readme-")
        home = pathlib.Path(self.directory.name)
        home.chmod(0o755)
        (home / "bin").mkdir()
        (home / "bin" / "docker").write_text(DOCKER)
        (home / "bin" / "docker").chmod(0o755)
        self.write_configuration(home)
        self.output = home / "output"
        environment = {**os.environ, "README_DOCKER": docker, "README_NAME": name, "README_PREFIX": prefix}
        environment["PATH"] = f"{home / 'bin'}:{environment['PATH']}"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", block.text], cwd=home, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def write_configuration(self, home):
        """The file that sidecarptrace asks for: the pod has it."""
        (maps,) = (
            entry["data"]
            for entry in yaml.safe_load_all((IMAGES.parent / "podspecs" / "sidecarptrace.yaml").read_text())
            if entry["kind"] == "ConfigMap"
        )
        (home / "creance.yaml").write_text(maps["creance.yaml"])

    def rules(self):
        """The rules that were set off, as the commands or Falco's container show them."""
        shown = self.output.read_text(errors="replace").splitlines()
        falco = subprocess.run([self.docker, "logs", f"{self.name}-falco"], capture_output=True, text=True)
        found = set()
        for line in [*shown, *falco.stdout.splitlines()]:
            try:
                alert = json.loads(line)
            except ValueError:
                continue
            if isinstance(alert, dict) and "rule" in alert:
                found.add(alert["rule"])
        return found

    def status(self):
        """The exit status of the commands, if they have ended."""
        return self.process.poll()

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        label = f"label=creance-readme={self.name}"
        started = subprocess.run([self.docker, "ps", "-aq", "--filter", label], capture_output=True, text=True)
        # Those that were started last are in the namespaces of the first.
        for id in started.stdout.split():
            subprocess.run([self.docker, "rm", "--force", "--volumes", id], capture_output=True)
        subprocess.run([self.docker, "volume", "rm", "--force", f"{self.name}-link"], capture_output=True)
        self.directory.cleanup()
