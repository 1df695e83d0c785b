"""Reads task definitions and pods, and tells how docker runs their containers as ECS or the kubelet would."""

import dataclasses
import json
import pathlib

import yaml

# What stands in the files for the registry of whoever deploys them.
REGISTRY = "ACCOUNT_ID.dkr.ecr.REGION.amazonaws.com/"


@dataclasses.dataclass
class Part:
    """A container: what docker needs to know of it. Volumes, and the containers it takes some from, go by name."""

    name: str
    image: str
    entrypoint: list = None
    command: list = None
    options: list = dataclasses.field(default_factory=list)
    volumes: list = dataclasses.field(default_factory=list)
    volumes_from: list = dataclasses.field(default_factory=list)
    # Files of a ConfigMap: path in the container, text.
    files: list = dataclasses.field(default_factory=list)
    is_restarted: bool = False
    # It ends before the others start.
    is_init: bool = False
    # It is one of ours beside the workload.
    is_ours: bool = False


@dataclasses.dataclass
class Spec:
    """A task or a pod."""

    parts: list
    shares_pids: bool = False
    shares_ipc: bool = False
    is_pod: bool = False
    # It ends when its workload does.
    is_job: bool = False
    # Half a GiB and a quarter of a CPU, unless the task says otherwise.
    memory_mb: int = 512
    cpus: float = 0.25


# The containers that are added to those of the workload.
OURS = ("attach", "binaries", "configuration", "creance-binaries", "falco")
# What is in the parameter store of Systems Manager, by its names.
PARAMETERS = {"/creance/rules": pathlib.Path(__file__).parents[2] / "taskdefinitions" / "configuration" / "rules.yaml"}


def local(image):
    assert image.startswith(REGISTRY), image
    return image.removeprefix(REGISTRY)


def in_order(definitions):
    """Containers after those that they depend on."""
    waiting, done = list(definitions), []
    while waiting:
        started = {definition["name"] for definition in done}
        ready = next(
            definition for definition in waiting
            if {entry["containerName"] for entry in definition.get("dependsOn", [])} <= started
        )  # fmt: skip
        waiting.remove(ready)
        done.append(ready)
    return done


def capabilities(drop, add):
    changes = [("--cap-drop", name) for name in drop] + [("--cap-add", name) for name in add]
    return [word for change in changes for word in change]


def task(path):
    """A task definition of ECS."""
    definition = json.loads(pathlib.Path(path).read_text())
    size = {"memory_mb": int(definition["memory"]), "cpus": int(definition["cpu"]) / 1024}
    spec = Spec([], definition.get("pidMode") == "task", **size)
    needs = [need for container in definition["containerDefinitions"] for need in container.get("dependsOn", [])]
    for container in in_order(definition["containerDefinitions"]):
        changes = container.get("linuxParameters", {}).get("capabilities", {})
        options = capabilities(changes.get("drop", []), changes.get("add", []))
        if container.get("readonlyRootFilesystem"):
            options.append("--read-only")
        if "user" in container:
            options += ["--user", container["user"]]
        for variable in container.get("environment", []):
            options += ["--env", f"{variable['name']}={variable['value']}"]
        for secret in container.get("secrets", []):
            text = PARAMETERS[secret["valueFrom"].partition(":parameter")[2]].read_text()
            options += ["--env", f"{secret['name']}={text}"]
        image, entrypoint, command = local(container["image"]), container.get("entryPoint"), container.get("command")
        spec.parts.append(Part(
            container["name"], image, entrypoint, command, options,
            [(mount["sourceVolume"], mount["containerPath"], mount.get("readOnly", False))
             for mount in container.get("mountPoints", [])],
            [(source["sourceContainer"], source.get("readOnly", False)) for source in container.get("volumesFrom", [])],
            is_restarted=container.get("restartPolicy", {}).get("enabled", False),
            is_init={"containerName": container["name"], "condition": "SUCCESS"} in needs,
            is_ours=container["name"] in OURS,
        ))  # fmt: skip
    return spec


def pod(path):
    """The pod of a file, or that of its job, with the ConfigMaps beside it."""
    objects = list(yaml.safe_load_all(pathlib.Path(path).read_text()))
    maps = {entry["metadata"]["name"]: entry["data"] for entry in objects if entry["kind"] == "ConfigMap"}
    (found,) = (entry["spec"] for entry in objects if entry["kind"] in ("Pod", "Job"))
    is_job = "template" in found
    found = found["template"]["spec"] if is_job else found
    context = found.get("securityContext", {})
    volumes = {volume["name"]: volume for volume in found.get("volumes", [])}
    # A pod's containers share IPC, and with it /dev/shm.
    spec = Spec([], found.get("shareProcessNamespace", False), shares_ipc=True, is_pod=True, is_job=is_job)
    init = found.get("initContainers", [])
    for container in [*init, *found["containers"]]:
        own = {**context, **container.get("securityContext", {})}
        changes = own.get("capabilities", {})
        options = capabilities(changes.get("drop", []), changes.get("add", []))
        if own.get("readOnlyRootFilesystem"):
            options.append("--read-only")
        if own.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt", "no-new-privileges"]
        if "runAsUser" in own:
            options += ["--user", f"{own['runAsUser']}:{own.get('runAsGroup', 0)}"]
        for variable in container.get("env", []):
            options += ["--env", f"{variable['name']}={variable['value']}"]
        name, image = container["name"], container["image"]
        command, arguments = container.get("command"), container.get("args")
        # A pod starts all of its containers again; but that the workload ended is what a test waits for.
        part = Part(name, local(image), command, arguments, options)
        # One that is always started again goes on beside the others, and starts before them.
        part.is_init = container in init and container.get("restartPolicy") != "Always"
        part.is_ours = name in OURS
        part.is_restarted = part.is_ours and not part.is_init
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                text = maps[volume["configMap"]["name"]][mount["subPath"]]
                part.files.append((mount["mountPath"], text))
            else:
                part.volumes.append((mount["name"], mount["mountPath"], mount.get("readOnly", False)))
        spec.parts.append(part)
    return spec
