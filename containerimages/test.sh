#!/usr/bin/env bash
# Builds the images of all patterns and runs each pattern by docker as its task or its pod would be: Docker's default
# seccomp profile, the capabilities that Fargate gives, the smallest size of a task, no IPC shared. The sample workload
# acts, and the alerts have to come.
#
#   containerimages/test.sh [--verbose] [PATTERN...]
#
# Needs root, docker, debootstrap, binutils and python3 with yaml, CREANCE_BINARY, a static creance, and
# target/release/libcreance.so (or CREANCE_PLUGIN), which must be no newer than Debian bookworm. How they are built:
# binaries/Dockerfile. How the images are made, and what stands for Falco: test/images.sh.
set -euo pipefail

fail() {
    echo "containerimages/test.sh: $1" >&2
    exit 1
}

# shellcheck source=test/images.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/test/images.sh"
# shellcheck source=test/push.sh
. "$images_dir/test/push.sh"

start=$SECONDS
make_images
echo "ok      the images of all patterns are built ($((SECONDS - start)) s)"
check_push
exec python3 -B "$images_dir/test/patterns.py" --prefix "$prefix" --version "$version" \
    --creance "$binary" "$@"
