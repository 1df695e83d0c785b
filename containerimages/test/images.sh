# The images of all patterns as the tests have them, for scripts to source: `make_images`.
#
# No image is pulled: what would be debian:bookworm-slim is made by debootstrap, and what would be Falco is a stand-in on a
# real libsinsp (standin/). All are named creance-test/..., and are kept. Whoever sources this has a function `fail MESSAGE`
# that ends the script.
# shellcheck shell=bash

images_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
repository=$(cd -- "$images_dir/.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$repository/target}
binary=${CREANCE_BINARY:-$target_dir/release/creance}
plugin=${CREANCE_PLUGIN:-$target_dir/release/libcreance.so}
version=$(sed -n '/^\[package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$repository/Cargo.toml")
work_dir=$target_dir/containerimages
readonly images_dir repository target_dir binary plugin version work_dir
readonly prefix=creance-test/
readonly debian=${prefix}debian:bookworm-slim falco=${prefix}falco:0.44.0

# shellcheck source=../../tests/debian.sh
. "$repository/tests/debian.sh"

# What a machine cannot do is told, and appended to the list that the checks compare with what they allow.
skip() {
    echo "SKIP patterns: $1" >&2
    if [[ -n ${CREANCE_TEST_SKIPS:-} ]]; then
        echo "patterns: $1" >>"$CREANCE_TEST_SKIPS"
    fi
    exit 77
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
    if docker image inspect "$debian" >/dev/null 2>&1; then
        return
    fi
    debian_root "$work_dir/root" "$work_dir/debootstrap.log" bookworm
    debian_import "$work_dir/root" "$debian" --exclude='./var/cache/apt/*' --change 'CMD ["bash"]'
}

make_standin() {
    local context=$work_dir/standin
    rm -rf -- "$context"
    cp -r -- "$images_dir/test/standin" "$context"
    cp -- "$repository/tests/libsinsp/rules.d/conditions.py" "$context/"
    build "$falco" --build-arg "BASE=$debian" "$context"
}

make_binaries() {
    local context=$work_dir/binaries
    rm -rf -- "$context"
    cp -r -- "$images_dir/test/binaries" "$context"
    # Without the line tables, as binaries/Dockerfile builds them.
    strip --strip-debug -o "$context/creance" -- "$binary"
    strip --strip-debug -o "$context/libcreance.so" -- "$plugin"
    build "${prefix}creance-binaries:$version" "$context"
}

make_images() {
    command -v docker >/dev/null || skip 'there is no docker command'
    docker info >/dev/null 2>&1 || skip 'the docker daemon does not answer'
    [[ -x $binary ]] || fail "there is no $binary: run 'cargo build --release' first, or set CREANCE_BINARY"
    [[ -e $plugin ]] || fail "there is no $plugin: see docs/falco.md, or set CREANCE_PLUGIN"
    command -v strip >/dev/null || fail 'there is no strip (apt-get install binutils)'
    # In an image from scratch there is nothing that could load it otherwise.
    ! readelf --program-headers --wide -- "$binary" | grep INTERP >/dev/null \
        || fail "$binary is not static: build it as containerimages/binaries/Dockerfile does, and set CREANCE_BINARY"
    mkdir -p -- "$work_dir"
    "$repository/tests/libsinsp/image" || exit $?
    make_debian
    make_standin
    make_binaries
    # The builder that is always there; buildx would look for the bases elsewhere.
    DEBIAN_IMAGE=$debian FALCO_IMAGE=$falco "$images_dir/build.sh" --prefix "$prefix" --without-binaries \
        >"$work_dir/build.log" 2>&1 || {
        tail -n 30 "$work_dir/build.log" >&2
        fail 'an image of a pattern cannot be built'
    }
}
