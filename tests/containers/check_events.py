#!/usr/bin/env python3
"""Checks that every action of the sample workload is among the events that creance wrote as JSON lines."""

import argparse
import json
import re
import sys

KEY = "creance-workload.authorized_keys"


def read_events(path):
    """All events of a file, one JSON object a line; a line that is none is an error with its number."""
    events = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                event = json.loads(line)
            except ValueError as error:
                sys.exit(f"{path}:{number}: not JSON: {error}: {line[:200]!r}")
            if not isinstance(event, dict) or "type" not in event:
                sys.exit(f"{path}:{number}: no object with a type: {line[:200]!r}")
            events.append(event)
    return events


def has_path(event, pattern):
    """Whether an argument, as written or as resolved, is a path that the pattern matches as a whole."""
    values = [*event.get("args", {}).values(), *event.get("paths", {}).values()]
    return any(isinstance(value, str) and re.fullmatch(pattern, value) for value in values)


def is_call(event, types, process):
    """Whether an event is one of these calls, made by this program, and succeeded."""
    return (
        event["type"] in types
        and event.get("proc", {}).get("name") == process
        and isinstance(event.get("res"), int)
        and event["res"] >= 0
    )


def connects_to_server(event):
    """Whether curl asked the server. A non-blocking connect is in progress when it returns: EINPROGRESS."""
    if event["type"] != "connect" or event.get("proc", {}).get("name") != "curl":
        return False
    begun = event.get("res", -1) >= 0 or event.get("errno") == "EINPROGRESS"
    address = event.get("addr", {})
    return begun and address.get("ip") == "127.0.0.1" and address.get("port") == 8080


def expectations(bin_dir, home):
    """What the workload does: a title, and the predicate that its event satisfies."""
    ours = re.escape(f"{bin_dir}/creance-workload.") + "[0-9]+"
    ssh, history = re.escape(f"{home}/.ssh"), re.escape(f"{home}/.bash_history")
    key = ssh + "/" + re.escape(KEY)
    opens = {"open", "openat", "openat2", "creat"}
    mkdirs, unlinks, rmdirs = {"mkdir", "mkdirat"}, {"unlink", "unlinkat"}, {"rmdir", "unlinkat"}

    def call(types, process, pattern):
        return lambda event: is_call(event, types, process) and has_path(event, pattern)

    def creates(process, pattern):
        return lambda event: call(opens, process, pattern)(event) and "O_CREAT" in json.dumps(event["args"])

    def starts(process):
        return lambda event: (
            is_call(event, {"execve", "execveat"}, process)
            and process in event["proc"].get("cmdline", "")
            and event["proc"].get("exe", "").endswith("/" + process)
        )

    return [
        ("mkdir among the programs", call(mkdirs, "mkdir", ours + r"\.d")),
        ("a file made among the programs", creates("touch", ours)),
        ("mkdir of the ssh directory", call(mkdirs, "mkdir", ssh)),
        ("a file of ssh keys made", creates("touch", key)),
        ("curl started", starts("curl")),
        ("curl connected to the server", connects_to_server),
        ("the shell history made", creates("touch", history)),
        ("cat started", starts("cat")),
        ("the shell history read", call(opens, "cat", history)),
        ("the shell history removed", call(unlinks, "rm", history)),
        ("the file of ssh keys removed", call(unlinks, "rm", key)),
        ("the ssh directory removed", call(rmdirs, "rmdir", ssh)),
        ("the file among the programs removed", call(unlinks, "rm", ours)),
        ("the directory among the programs removed", call(rmdirs, "rmdir", ours + r"\.d")),
        ("the end of a process", lambda event: event["type"] == "procexit"),
    ]


def check_whole(path, events):
    """Nothing was lost, and the sequence numbers of each producer have no gap."""
    if any(event["type"] == "drop" for event in events):
        sys.exit(f"{path}: records were lost")
    expected = {}
    for event in events:
        producer = event.get("producer", 0)
        if producer in expected and event["seq"] != expected[producer]:
            sys.exit(f"{path}: producer {producer}: record {expected[producer]} is missing before {event['seq']}")
        expected[producer] = event["seq"] + 1


def main():
    """Prints what is missing; the exit status tells whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events")
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--home", required=True)
    options = parser.parse_args()
    events = read_events(options.events)
    check_whole(options.events, events)
    wanted = expectations(options.bin_dir, options.home)
    missing = [title for title, found in wanted if not any(map(found, events))]
    for title in missing:
        print(f"missing among {len(events)} events: {title}", file=sys.stderr)
    if missing:
        print("\n".join(json.dumps(event) for event in events), file=sys.stderr)
        sys.exit(1)
    print(f"  all {len(wanted)} actions are among {len(events)} events")


if __name__ == "__main__":
    main()
