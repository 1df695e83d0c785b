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
    # Names of their own: what the script that sources this has made readonly cannot be a local either.
    local debian_root=$1 debian_log=$2 debian_release=$3
    shift 3
    command -v debootstrap >/dev/null || fail 'debootstrap is not installed'
    [[ -n $mirror ]] || fail 'apt names no Debian mirror here: set CREANCE_DEBIAN_MIRROR'
    rm -rf --one-file-system -- "$debian_root"
    # The script is named, since a debootstrap that is older than a release does not know it.
    debootstrap --variant=minbase "$@" "$debian_release" "$debian_root" "$mirror" \
        /usr/share/debootstrap/scripts/sid >"$debian_log" 2>&1 || {
        tail -n 20 "$debian_log" >&2
        fail 'debootstrap failed'
    }
}

# debian_import ROOT IMAGE [--change CHANGE | TAR_OPTION]...: makes an image of the directory, and removes that.
debian_import() {
    local debian_root=$1 debian_image=$2 debian_changes=() debian_options=()
    shift 2
    while (($# > 0)); do
        if [[ $1 == --change ]]; then
            debian_changes+=("$1" "$2")
            shift
        else
            debian_options+=("$1")
        fi
        shift
    done
    tar -C "$debian_root" --one-file-system "${debian_options[@]}" -c . \
        | docker import "${debian_changes[@]}" - "$debian_image" >/dev/null
    rm -rf --one-file-system -- "$debian_root"
}
