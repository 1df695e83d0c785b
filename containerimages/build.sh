#!/usr/bin/env bash
# Builds the images of the patterns, tagged with the version of the crate.
#
#   containerimages/build.sh [--prefix PREFIX] [--platform PLATFORM[,...]] [--push REGISTRY] [--without-binaries] [IMAGE...]
#
#   --prefix PREFIX      put before the names, as in example/creance-falco
#   --push REGISTRY      the same with REGISTRY/, and the images are pushed there and their digests printed
#   --platform           build for these platforms (linux/amd64, linux/arm64); of several ones together with --push
#   --without-binaries   creance-binaries is there already
#   IMAGE...             only these, without `creance-` before them: binaries falco workload embeddedbinaries ...
#
# RUST_IMAGE, FALCO_IMAGE and DEBIAN_IMAGE name other base images than those in the Dockerfiles, and WORKLOAD_IMAGE
# another workload than the sample. --platform needs docker's buildx.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd -- "$here/.." && pwd)
version=$(sed -n '/^\[package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$repository/Cargo.toml")
readonly here repository version
# In the order in which they need each other.
readonly images=(binaries falco workload embeddedbinaries supervisord sidecarvolume sidecarptrace sidecarattach)

fail() {
    echo "containerimages/build.sh: $1" >&2
    exit 2
}

prefix='' platform='' push=no without_binaries=no wanted=()
while (($# > 0)); do
    case $1 in
        --prefix | --platform | --push)
            (($# > 1)) || fail "$1 needs a value"
            case $1 in
                --prefix) prefix=$2 ;;
                --platform) platform=$2 ;;
                --push) prefix=${2%/}/ push=yes ;;
            esac
            shift
            ;;
        --without-binaries) without_binaries=yes ;;
        -h | --help)
            sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        -*) fail "unknown argument: $1" ;;
        *)
            [[ " ${images[*]} " == *" $1 "* ]] || fail "there is no image '$1': known are ${images[*]}"
            wanted+=("$1")
            ;;
    esac
    shift
done
[[ -n $version ]] || fail 'Cargo.toml has no version'
[[ $platform != *,* || $push == yes ]] || fail 'several platforms together can only be pushed: add --push REGISTRY'
((${#wanted[@]} > 0)) || wanted=("${images[@]}")

# The directory of the build and the arguments of each image.
build() {
    local name=$1 tag=${prefix}creance-$1:$version directory=$here/$1 arguments=() command=(docker build)
    case $name in
        binaries)
            directory=$repository
            arguments=(--file "$here/binaries/Dockerfile")
            [[ -z ${RUST_IMAGE:-} ]] || arguments+=(--build-arg "RUST=$RUST_IMAGE")
            ;;
        workload)
            [[ -z ${DEBIAN_IMAGE:-} ]] || arguments=(--build-arg "BASE=$DEBIAN_IMAGE")
            ;;
        *)
            arguments=(--build-arg "PREFIX=$prefix" --build-arg "VERSION=$version")
            case $name in
                supervisord) directory=$here/embeddedbinaries/supervisord ;;
                falco) [[ -z ${FALCO_IMAGE:-} ]] || arguments+=(--build-arg "FALCO=$FALCO_IMAGE") ;;
                sidecarattach) [[ -z ${DEBIAN_IMAGE:-} ]] || arguments+=(--build-arg "BASE=$DEBIAN_IMAGE") ;;
                *) arguments+=(--build-arg "WORKLOAD=${WORKLOAD_IMAGE:-${prefix}creance-workload:$version}") ;;
            esac
            ;;
    esac
    if [[ -n $platform ]]; then
        command=(docker buildx build)
        arguments+=(--platform "$platform")
        # An image that stays here is loaded, so that the next one can be built on it.
        if [[ $push == yes ]]; then arguments+=(--push); else arguments+=(--load); fi
    fi
    echo "building $tag" >&2
    "${command[@]}" "${arguments[@]}" --tag "$tag" "$directory"
    if [[ $push == no ]]; then
        docker image inspect --format "$tag {{.Id}}" "$tag"
    elif [[ -n $platform ]]; then
        docker buildx imagetools inspect "$tag" --format '{{.Name}} {{.Manifest.Digest}}'
    else
        docker push --quiet "$tag" >&2
        pushed "$tag"
    fi
}

# The digest of what was pushed. The image may have been pushed to other registries too.
pushed() {
    local digest
    while IFS= read -r digest; do
        [[ $digest != "${1%:*}"@* ]] || echo "$1 ${digest##*@}"
    done < <(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1")
}

for name in "${images[@]}"; do
    [[ " ${wanted[*]} " == *" $name "* ]] || continue
    [[ $name != binaries || $without_binaries == no ]] || continue
    build "$name"
done
