#!/usr/bin/env bash
# Builds the images of all patterns and runs each pattern by docker as its task or its pod would be: Docker's default
# seccomp profile, the capabilities that Fargate gives, the smallest size of a task, no IPC shared. The sample workload
# acts, and the alerts have to come.
#
#   containerimages/test.sh [--verbose] [PATTERN...]
#
# Needs root, docker, debootstrap and python3 with yaml, and target/release/{creance,libcreance.so} (or CREANCE_BINARY and
# CREANCE_PLUGIN), of which creance must be static or no newer than Debian bookworm. No image is pulled: what would be
# debian:bookworm-slim is made by debootstrap, and what would be Falco is a stand-in on a real libsinsp (test/standin),
# which reads the same configuration and the same rules. All images are named creance-test/..., and are kept.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd -- "$here/.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$repository/target}
binary=${CREANCE_BINARY:-$target_dir/release/creance}
plugin=${CREANCE_PLUGIN:-$target_dir/release/libcreance.so}
version=$(sed -n '/^\[package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$repository/Cargo.toml")
# By default the mirror that this machine installs its own packages from.
# shellcheck disable=SC2016
mirror=${CREANCE_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/$' || true)}
work_dir=$target_dir/containerimages
readonly here repository target_dir binary plugin version mirror work_dir
readonly prefix=creance-test/
readonly debian=${prefix}debian:bookworm-slim falco=${prefix}falco:0.44.0

# What a machine cannot do is told, and appended to the list that the checks compare with what they allow.
skip() {
    echo "SKIP patterns: $1" >&2
    if [[ -n ${CREANCE_TEST_SKIPS:-} ]]; then
        echo "patterns: $1" >>"$CREANCE_TEST_SKIPS"
    fi
    exit 77
}

fail() {
    echo "containerimages/test.sh: $1" >&2
    exit 1
}

# build TAG DOCKER_ARGUMENT...: quietly, unless it fails.
build() {
    local tag=$1
    shift
    docker build --tag "$tag" "$@" >"$work_dir/build.log" 2>&1 || {
        tail -n 30 "$work_dir/build.log" >&2
        fail "the image $tag cannot be built"
    }
}

make_debian() {
    local root=$work_dir/root
    if docker image inspect "$debian" >/dev/null 2>&1; then
        return
    fi
    command -v debootstrap >/dev/null || fail 'debootstrap is not installed'
    [[ -n $mirror ]] || fail 'apt names no Debian mirror here: set CREANCE_DEBIAN_MIRROR'
    rm -rf --one-file-system -- "$root"
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$work_dir/debootstrap.log" 2>&1 || {
        tail -n 20 "$work_dir/debootstrap.log" >&2
        fail 'debootstrap failed'
    }
    tar -C "$root" --one-file-system --exclude='./var/cache/apt/*' -c . \
        | docker import --change 'CMD ["bash"]' - "$debian" >/dev/null
    rm -rf --one-file-system -- "$root"
}

make_standin() {
    local context=$work_dir/standin
    rm -rf -- "$context"
    cp -r -- "$here/test/standin" "$context"
    cp -- "$repository/tests/libsinsp/rules.d/conditions.py" "$context/"
    build "$falco" --build-arg "BASE=$debian" "$context"
}

make_binaries() {
    local context=$work_dir/binaries
    rm -rf -- "$context"
    cp -r -- "$here/test/binaries" "$context"
    cp -- "$binary" "$context/creance"
    cp -- "$plugin" "$context/libcreance.so"
    build "${prefix}creance-binaries:$version" "$context"
}

command -v docker >/dev/null || skip 'there is no docker command'
docker info >/dev/null 2>&1 || skip 'the docker daemon does not answer'
[[ -x $binary ]] || fail "there is no $binary: run 'cargo build --release' first, or set CREANCE_BINARY"
[[ -e $plugin ]] || fail "there is no $plugin: see docs/falco.md, or set CREANCE_PLUGIN"

mkdir -p -- "$work_dir"
start=$SECONDS
"$repository/tests/libsinsp/image" || exit $?
make_debian
make_standin
make_binaries
# The builder that is always there; buildx would look for the bases elsewhere.
DEBIAN_IMAGE=$debian FALCO_IMAGE=$falco "$here/build.sh" --prefix "$prefix" --without-binaries >"$work_dir/build.log" 2>&1 || {
    tail -n 30 "$work_dir/build.log" >&2
    fail 'an image of a pattern cannot be built'
}
echo "ok      the images of all patterns are built ($((SECONDS - start)) s)"
exec python3 -B "$here/test/patterns.py" --prefix "$prefix" --version "$version" "$@"
