#!/usr/bin/env bash
# Measures what creance adds to an image, to the start of a workload and to memory, and prints tables in Markdown.
#
#   containerimages/measure.sh [--runs N]
#
# It builds the images that test.sh builds, from the same binaries, and needs the same. What stands for Falco there is not
# Falco: its own size and memory, and how long it takes to start, are not those of Falco.
set -euo pipefail

fail() {
    echo "containerimages/measure.sh: $1" >&2
    exit 1
}

# shellcheck source=test/images.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/test/images.sh"

make_images
exec python3 -B "$images_dir/test/measure.py" --prefix "$prefix" --version "$version" "$@"
