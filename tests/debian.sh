# Debian without an image to pull, for scripts to source: the mirror of this machine, and a root file system from it.
#
# Whoever sources it has a function `fail MESSAGE` that ends the script.
# shellcheck shell=bash

# By default the mirror that this machine installs its own packages from.
# shellcheck disable=SC2016
mirror=${CREANCE_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/$' || true)}
readonly mirror

# debian_root ROOT LOG RELEASE [DEBOOTSTRAP_OPTION...]: makes the directory ROOT anew.
debian_root() {
    local root=$1 log=$2 release=$3
    shift 3
    command -v debootstrap >/dev/null || fail 'debootstrap is not installed'
    [[ -n $mirror ]] || fail 'apt names no Debian mirror here: set CREANCE_DEBIAN_MIRROR'
    rm -rf --one-file-system -- "$root"
    # The script is named, since a debootstrap that is older than a release does not know it.
    debootstrap --variant=minbase "$@" "$release" "$root" "$mirror" /usr/share/debootstrap/scripts/sid \
        >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail 'debootstrap failed'
    }
}

# debian_import ROOT IMAGE [--change CHANGE | TAR_OPTION]...: makes an image of the directory, and removes that.
debian_import() {
    local root=$1 image=$2 changes=() options=()
    shift 2
    while (($# > 0)); do
        if [[ $1 == --change ]]; then
            changes+=("$1" "$2")
            shift
        else
            options+=("$1")
        fi
        shift
    done
    tar -C "$root" --one-file-system "${options[@]}" -c . | docker import "${changes[@]}" - "$image" >/dev/null
    rm -rf --one-file-system -- "$root"
}
