"""Checks task definitions, policies, pods and Dockerfiles: see `run`. The status is 1 if anything is wrong."""

import json
import pathlib
import re
import subprocess
import sys

import botocore.loaders
import botocore.model
import botocore.validate
import kubernetes_validate
import patched
import yaml

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
IMAGES = REPOSITORY / "containerimages"
VERSION, REGISTRY = patched.VERSION, patched.REGISTRY
# The containers that may look into the processes of others.
MAY_TRACE = {("sidecarattach", "attach")}
# The sizes that Fargate has, up to one CPU: units of CPU, and MiB.
SIZES = {256: {512, 1024, 2048}, 512: set(range(1024, 5120, 1024)), 1024: set(range(2048, 9216, 1024))}
KUBERNETES = "1.33"
# hadolint's wish to name each package's version is not ours: a base image of a named release decides that.
HADOLINT_IGNORED = ("DL3008",)

wrong = []
checked = 0


def check(path, holds, message):
    global checked
    checked += 1
    if not holds:
        name = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
        wrong.append(f"{name}: {message}")


def image(path, name):
    """An image is one that containerimages/ builds, in this version."""
    found = re.fullmatch(re.escape(REGISTRY) + r"creance-([a-z]+):(.+)", name)
    check(path, found, f"image {name} is not of {REGISTRY}")
    if found:
        check(path, (IMAGES / found[1] / "Dockerfile").is_file(), f"no Dockerfile makes the image {name}")
        check(path, found[2] == VERSION, f"image {name} is not of version {VERSION}")


def operation(service, name):
    model = botocore.loaders.Loader().load_service_model(service, "service-2")
    return botocore.model.ServiceModel(model, service).operation_model(name)


def task_definition(path, validator, shape):
    task = json.loads(path.read_text())
    report = validator.validate(task, shape)
    check(path, not report.has_errors(), report.generate_report())
    check(path, task.get("requiresCompatibilities") == ["FARGATE"], "not for Fargate")
    check(path, task.get("networkMode") == "awsvpc", "Fargate has no network mode but awsvpc")
    check(path, int(task["memory"]) in SIZES.get(int(task["cpu"]), ()), "Fargate has no task of that size")
    check(path, task["family"] == f"creance-{path.stem}", "the family is not named as the file")
    volumes = {volume["name"] for volume in task.get("volumes", [])}
    containers = {container["name"]: container for container in task["containerDefinitions"]}
    check(path, any(container["essential"] for container in containers.values()), "no container is essential")
    for name, container in containers.items():
        image(path, container["image"])
        mounts = {mount["sourceVolume"] for mount in container.get("mountPoints", [])}
        check(path, mounts <= volumes, f"{name} mounts a volume that is not there: {mounts - volumes}")
        sources = {source["sourceContainer"] for source in container.get("volumesFrom", [])}
        needed = {entry["containerName"] for entry in container.get("dependsOn", [])}
        check(path, sources <= containers.keys() and needed <= containers.keys(), f"{name} needs who is not there")
        check(path, sources <= needed, f"{name} takes a volume of who may not have started")
        added = container.get("linuxParameters", {}).get("capabilities", {}).get("add", [])
        may_trace = {(path.stem, name), (path.parent.name, name)} & MAY_TRACE
        check(path, added == (["SYS_PTRACE"] if may_trace else []), f"{name} adds {added}")
        check(path, not container.get("privileged"), f"{name} is privileged, which Fargate refuses")
        options = container["logConfiguration"]["options"]
        check(path, options.get("mode") == "non-blocking", f"a slow log would stop {name}")


def policy(path):
    document = json.loads(path.read_text())
    check(path, document.get("Version") == "2012-10-17", "no version of the policy language")
    for statement in document["Statement"]:
        check(path, statement["Effect"] in ("Allow", "Deny") and "Action" in statement, "no effect or no action")
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        check(path, not any("*" in action for action in actions), f"{actions} are more than what is needed")
        # To log in to the registry is for no resource.
        is_bounded = statement.get("Resource") != "*" or actions == ["ecr:GetAuthorizationToken"]
        check(path, is_bounded, f"{actions} are allowed on everything")


def is_restricted(pod, container):
    """Whether the pod security standard "restricted" takes it."""
    own = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    return (
        own.get("runAsNonRoot") is True
        and own.get("runAsUser") != 0
        and own.get("allowPrivilegeEscalation") is False
        and own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost")
        and "ALL" in own.get("capabilities", {}).get("drop", [])
        and set(own["capabilities"].get("add", [])) <= {"NET_BIND_SERVICE"}
    )


def pod_file(path):
    objects = list(yaml.safe_load_all(path.read_text()))
    maps = {entry["metadata"]["name"]: entry["data"] for entry in objects if entry["kind"] == "ConfigMap"}
    for entry in objects:
        try:
            kubernetes_validate.validate(entry, KUBERNETES, strict=True)
            check(path, True, "")
        except kubernetes_validate.ValidationError as error:
            check(path, False, f"{entry['kind']}: {error.message}")
    for text in (text for data in maps.values() for text in data.values()):
        check(path, yaml.safe_load(text), "a file of a ConfigMap is no YAML")
    for pod in (entry["spec"] for entry in objects if entry["kind"] in ("Pod", "Job")):
        pod = pod.get("template", {}).get("spec", pod)
        check(path, not pod.get("hostPID") and not pod.get("hostNetwork"), "Fargate has no host to share")
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            name = container["name"]
            image(path, container["image"])
            check(path, is_restricted(pod, container), f"{name} does not satisfy the restricted profile")
            check(path, "limits" in container.get("resources", {}), f"{name} has no limits")
            for mount in container.get("volumeMounts", []):
                volume = volumes.get(mount["name"])
                check(path, volume, f"{name} mounts {mount['name']}, which is not there")
                if volume and "configMap" in volume:
                    data = maps.get(volume["configMap"]["name"], {})
                    check(path, mount.get("subPath") in data, f"{name} mounts what no ConfigMap has: {mount}")


def dockerfile(path, hadolint):
    text = path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"line {number}: "
        check(path, ":latest" not in line, f"{where}an image that is another one tomorrow")
        check(path, not re.search(r"(curl|wget)[^|]*\|\s*(ba)?sh", line), f"{where}runs what the network gives")
        if match := re.match(r"ARG (\w+)=(.+)", line):
            name, value = match.groups()
            check(path, name != "VERSION" or value == VERSION, f"{where}VERSION is not {VERSION}")
            if name in ("BASE", "FALCO", "RUST", "WORKLOAD"):
                check(path, re.search(r":[\w.-]+$", value), f"{where}{name} has no tag")
            if name == "WORKLOAD":
                check(path, value.endswith(f":{VERSION}"), f"{where}the workload is not of version {VERSION}")
        if match := re.match(r"FROM (\S+)", line):
            check(path, ":" in match[1] or "${" in match[1] or match[1] == "scratch", f"{where}a base without a tag")
    ignored = [word for rule in HADOLINT_IGNORED for word in ("--ignore", rule)]
    done = subprocess.run([hadolint, "--no-color", *ignored, path], capture_output=True, text=True)
    check(path, done.returncode == 0, done.stdout.strip() or done.stderr.strip())


def patched_files(creance, directory):
    """The files that `creance patch` makes of the samples."""
    for file in patched.patched(creance, directory):
        check(file.path, not file.error, file.error)
        if not file.error:
            yield file.path


def main():
    validator = botocore.validate.ParamValidator()
    shape = operation("ecs", "RegisterTaskDefinition").input_shape
    files = list(patched_files(sys.argv[2], pathlib.Path(sys.argv[3])))
    kinds = {
        "patched task definitions": [
            (path for path in files if path.suffix == ".json"),
            lambda path: task_definition(path, validator, shape),
        ],
        "patched files of Kubernetes": [(path for path in files if path.suffix == ".yaml"), pod_file],
        "task definitions": [
            REPOSITORY.glob("taskdefinitions/*.json"),
            lambda path: task_definition(path, validator, shape),
        ],
        "policies": [REPOSITORY.glob("taskdefinitions/iam/*.json"), policy],
        "pods": [REPOSITORY.glob("podspecs/*.yaml"), pod_file],
        "Dockerfiles": [IMAGES.rglob("Dockerfile"), lambda path: dockerfile(path, sys.argv[1])],
    }
    for title, (found, examine) in kinds.items():
        paths = sorted(found)
        if not paths:
            wrong.append(f"there are no {title}")
        for path in paths:
            examine(path)
        print(f"deployments: {len(paths)} {title}")
    print("\n".join(f"deployments: {complaint}" for complaint in wrong), end="\n" if wrong else "")
    print(f"deployments: {checked} checks, {len(wrong)} failed")
    sys.exit(1 if wrong else 0)


main()
