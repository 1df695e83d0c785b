"""Does, one after the other, what rules of Falco's default set look for. It is the workload: run it as root, under
creance.

    provocations.py DIRECTORY REPORT    do them all below that directory, and write to the report how each one ended
    provocations.py DIRECTORY -- NAME   do this one, in this process

A rule is known here by its name only. Each provocation is a process of its own, whose environment names it: that is how
an event is known to be of it. Nothing outside of the directory is changed: what needs a mount, a root directory or a
network of its own makes one, and a file of the system is at most read. A program that a rule asks for by name is a copy
of `true` or of `bash` under that name.
"""

import json
import os
import subprocess
import sys

# An isolated interpreter does not look beside its script.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import further  # noqa: E402
import stable  # noqa: E402
from machine import PROVOCATIONS, TIMEOUT_S, Skipped  # noqa: E402

API_SERVER_ADDRESS = stable.API_SERVER_ADDRESS
UNPROVOKED = further.UNPROVOKED
VARIABLE = "CREANCE_PROVOCATION"
SKIPPED = 77


def do_one(name):
    """The exit status of one provocation, with the reason on standard error where it is not 0."""
    try:
        PROVOCATIONS[name].act()
    except Skipped as skipped:
        print(skipped, file=sys.stderr)
        return SKIPPED
    return 0


def do_all(directory, report):
    outcomes = {}
    for name in PROVOCATIONS:
        room = os.path.join(directory, name)
        os.mkdir(room)
        command = [sys.executable, "-B", "-I", "-S", os.path.abspath(__file__), directory, "--", name]
        environment = {"PATH": os.defpath, "LC_ALL": "C", VARIABLE: name}
        done = subprocess.run(
            command, cwd=room, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=TIMEOUT_S
        )
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        outcomes[name] = {"status": done.returncode, "reason": reason[-1] if reason else ""}
    with open(report, "w", encoding="utf-8") as file:
        json.dump(outcomes, file)


if __name__ == "__main__":
    if sys.argv[2] == "--":
        sys.exit(do_one(sys.argv[3]))
    do_all(os.path.abspath(sys.argv[1]), sys.argv[2])
