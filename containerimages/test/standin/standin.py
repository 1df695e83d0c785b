"""Stands in for Falco: reads its configuration and its rules, and prints what matches as Falco's alerts.

The engine is a real libsinsp in the program `driver` beside this file. What Falco's container plugin would tell is
taken from where creance tells it: the id from the control groups, name and image from the event `container`.
"""

import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import conditions  # noqa: E402
import yaml  # noqa: E402

PLUGINS = pathlib.Path("/usr/share/falco/plugins")
FIELD = re.compile(r"%([a-z][a-z0-9_.]*(?:\[[^\]]*\])?)")
CGROUP, ASYNC_NAME, ASYNC_DATA = "thread.cgroup.memory", "evt.asynctype", "evt.arg.data"
ALWAYS = ("evt.type", "evt.time.iso8601", CGROUP, ASYNC_NAME, ASYNC_DATA)
PR_SET_PDEATHSIG = 1
DAY_S = "86400"


def fail(message):
    sys.exit(f"Error: {message}")


def say(message):
    print(f"stand-in for Falco: {message}", file=sys.stderr, flush=True)


def yaml_files(path):
    """A file, or those in a directory, in the order of their names. What is not there is no error."""
    path = pathlib.Path(path)
    return sorted(path.glob("*.yaml")) if path.is_dir() else [path] if path.exists() else []


def configuration(path):
    """The main file and those that it names: lists are appended to, all else is replaced."""
    merged = yaml.safe_load(pathlib.Path(path).read_text())
    for name in merged.get("config_files", []):
        for file in yaml_files(name):
            say(f"configuration from {file}")
            for key, value in (yaml.safe_load(file.read_text()) or {}).items():
                merged[key] = merged.get(key, []) + value if isinstance(value, list) else value
    return merged


def source(config):
    """The plugin that the configuration loads beside the container plugin: its library, init and open parameters."""
    if config.get("engine", {}).get("kind") != "nodriver":
        fail("engine.kind is not nodriver")
    loaded = [plugin for plugin in config["plugins"] if plugin["name"] in config["load_plugins"]]
    if "container" not in [plugin["name"] for plugin in loaded]:
        fail("the container plugin is not loaded any more")
    (plugin,) = (plugin for plugin in loaded if plugin["name"] != "container")
    return str(PLUGINS / plugin["library_path"]), plugin.get("init_config", ""), plugin.get("open_params", "")


def in_memory(text):
    """A file that is nowhere: its descriptor. The root file system may be read-only."""
    number = os.memfd_create("falco", 0)
    os.write(number, text.encode())
    return number


def rules(config):
    """Name, condition, priority and output of each enabled rule."""
    files = [file for name in config["rules_files"] for file in yaml_files(name)]
    text = "\n".join(file.read_text() for file in files)
    say(f"rules from {', '.join(map(str, files))}")
    loaded = conditions.RuleFile(f"/proc/self/fd/{in_memory(text)}")
    for rule in loaded.rules:
        raw = loaded.raw_rules[rule.name]
        condition = rule.condition(conditions.CONTAINER)
        if rule.is_enabled and condition is not None:
            yield rule.name, condition.replace("\n", " "), raw["priority"], raw["output"].strip()


def start(plugin, loaded):
    library, init, params = plugin
    filters = in_memory("".join(f"{name}\t{condition}\n" for name, condition, _, _ in loaded))
    wanted = {field for _, _, _, output in loaded for field in FIELD.findall(output)}
    command = [HERE / "ld.so", "--library-path", HERE / "lib", HERE / "driver", "--plugin", library,
               "--config", init, "--params", params, "--timeout", DAY_S, "--filters", f"/proc/self/fd/{filters}",
               "--fields", ",".join(sorted({*wanted, *ALWAYS}))]

    def die_with_parent():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    say(f"opening 'syscall' source with plugin {library} on {params}")
    return subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[filters], preexec_fn=die_with_parent)


def learn(containers, fields):
    """What the event `container` tells."""
    # The NUL at the end is shown as a dot.
    told = json.JSONDecoder().raw_decode(fields[ASYNC_DATA])[0]["container"]
    containers[told["id"]] = told
    say(f"container {told['id']} is {told['name']} of {told['image']}")


def alert(rule, fields, containers):
    name, _, priority, output = rule
    id = (fields[CGROUP] or "").rpartition("/")[2][:12]
    told = containers.get(id, {})
    shown = {field: fields[field] for field in FIELD.findall(output)}
    text = FIELD.sub(lambda found: str(fields[found[1]] if fields[found[1]] is not None else "<NA>"), output)
    shown |= {"container.id": id, "container.name": told.get("name")}
    shown |= {"container.image.repository": told.get("imagerepo")}
    line = {"time": fields["evt.time.iso8601"], "rule": name, "priority": priority, "source": "syscall",
            "output": text, "output_fields": shown}
    print(json.dumps(line), flush=True)


def main():
    arguments = sys.argv[1:]
    if arguments and (len(arguments) != 2 or arguments[0] != "-c"):
        fail("usage: falco [-c FILE]")
    config = configuration(arguments[1] if arguments else "/etc/falco/falco.yaml")
    loaded = list(rules(config))
    driver = start(source(config), loaded)

    def end(*_):
        driver.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    by_name = {rule[0]: rule for rule in loaded}
    containers = {}
    for line in map(json.loads, driver.stdout):
        if "fields" not in line:
            say(f"the engine ended: {line}")
            continue
        if line["fields"][ASYNC_NAME] == "container":
            learn(containers, line["fields"])
        for name in line["matches"]:
            alert(by_name[name], line["fields"], containers)
    fail(f"the engine ended with status {driver.wait()}")


main()
