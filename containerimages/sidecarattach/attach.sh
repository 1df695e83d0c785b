#!/usr/bin/env bash
# Attaches creance to the workload of another container that shares its PID namespace with this one, as soon as that is
# there, and again when it was started anew:
#
#   attach.sh NAME [CREANCE_ARGUMENT...]
#
# NAME is the name of the workload's first program or script, without its directory. The other arguments go to `creance
# attach`. To look into the processes of other containers takes CAP_SYS_PTRACE.
set -euo pipefail

say() {
    printf 'attach.sh: %s\n' "$1" >&2
}

(($# > 0)) || {
    say 'usage: attach.sh NAME [CREANCE_ARGUMENT...]'
    exit 2
}
readonly name=$1
shift

# The mount namespace of a process: each container has one of its own.
mounts() {
    readlink "/proc/$1/ns/mnt" 2>/dev/null
}

# Whether a process runs the program or, by an interpreter, the script.
is_named() {
    local words=() word
    { mapfile -d '' -n 2 -t words <"/proc/$1/cmdline"; } 2>/dev/null || return 1
    for word in "${words[@]}"; do
        [[ ${word##*/} != "$name" ]] || return 0
    done
    return 1
}

# The first process of another container that has the name: one whose parent is not in its container.
target() {
    local own directory pid parent
    own=$(mounts self)
    for directory in /proc/[0-9]*; do
        pid=${directory#/proc/}
        is_named "$pid" || continue
        [[ $(mounts "$pid") != "$own" ]] || continue
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "$directory/status" 2>/dev/null) || continue
        [[ -z $parent || $(mounts "$parent") != "$(mounts "$pid")" ]] || continue
        echo "$pid"
        return
    done
    return 1
}

# The id of a process's container, where its control group tells it: as Docker, containerd or ECS name it.
container() {
    sed -nE 's#^.*[/-]([0-9a-f]{64})(\.scope)?$#\1#p; s#^.*/([0-9a-f]{32}-[0-9]+)$#\1#p' "/proc/$1/cgroup" 2>/dev/null \
        | head -n 1
}

mounts 1 >/dev/null || {
    say 'other processes cannot be looked into here: add SYS_PTRACE to the capabilities of this container'
    exit 1
}

# As the first process of a container bash would not end by these, nor while it waits for another program.
attached=
trap '[[ -z $attached ]] || kill -TERM "$attached" 2>/dev/null; [[ -z $attached ]] || wait "$attached"; exit 0' INT TERM

told=no
while true; do
    if pid=$(target); then
        say "attaching to $name, process $pid"
        # creance itself would find out in which container it is, not in which the workload is.
        id=()
        [[ " $* " == *' --container-id'* ]] || id=("$(container "$pid")")
        creance attach "$pid" --children ${id[0]:+--container-id "${id[0]}"} "$@" &
        attached=$!
        status=0
        wait "$attached" || status=$?
        attached=
        say "creance ended with status $status"
        told=no
    elif [[ $told == no ]]; then
        say "waiting for $name in another container"
        told=yes
    fi
    sleep 0.2 &
    wait $!
done
