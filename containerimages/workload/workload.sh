#!/usr/bin/env bash
# A workload that does, over and over, what Falco's rules react to, and leaves nothing behind.
#
# It only ever makes files with names of its own and removes only what it made: it is safe to run in a container
# that holds something else, but it belongs into a container all the same.
set -euo pipefail

readonly NAME=creance-workload

usage() {
    cat <<USAGE
usage: workload.sh [--rounds N] [--sleep SECONDS] [--bin-dir DIR] [--url URL]

  --rounds N        how many rounds to make; 0 (the default) makes rounds until it is stopped
  --sleep SECONDS   pause between two rounds (default 5)
  --bin-dir DIR     where programs live, and where the workload makes a directory and a file (default /usr/bin)
  --url URL         what to ask curl for (default http://127.0.0.1:8080/)

The home directory is taken from HOME.
USAGE
}

fail() {
    printf 'workload.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

rounds=0
sleep_s=5
bin_dir=/usr/bin
url=http://127.0.0.1:8080/
while (($# > 0)); do
    case $1 in
        --help | -h)
            usage
            exit 0
            ;;
        --rounds | --sleep | --bin-dir | --url)
            (($# > 1)) || fail "$1 needs a value" 2
            case $1 in
                --rounds) rounds=$2 ;;
                --sleep) sleep_s=$2 ;;
                --bin-dir) bin_dir=$2 ;;
                --url) url=$2 ;;
            esac
            shift 2
            ;;
        *)
            usage >&2
            fail "unknown argument: $1" 2
            ;;
    esac
done
[[ $rounds =~ ^[0-9]{1,9}$ ]] || fail "--rounds takes a whole number, not '$rounds'" 2
[[ $sleep_s =~ ^[0-9]{1,9}(\.[0-9]+)?$ ]] || fail "--sleep takes seconds, not '$sleep_s'" 2
[[ -d $bin_dir ]] || fail "--bin-dir: there is no directory $bin_dir" 2
[[ -n ${HOME:-} && -d $HOME ]] || fail "HOME does not name a directory: '${HOME:-}'" 2
command -v curl >/dev/null || fail "curl is not installed, and the workload cannot do without it" 127

# What exists only because of us, in the order in which it was made.
made=()

# Removes what was made, last things first. Never recursive: a directory that holds something else stays.
clean_up() {
    local i path
    for ((i = ${#made[@]} - 1; i >= 0; i--)); do
        path=${made[i]}
        if [[ -d $path && ! -L $path ]]; then
            rmdir -- "$path" || printf 'workload.sh: could not remove the directory %s\n' "$path" >&2
        else
            rm -f -- "$path"
        fi
    done
    made=()
}
trap clean_up EXIT
# A signal ends the workload between two rounds, with the status that a shell gives it. In the middle of one it could
# come just after something was made and just before we remember it.
stop_status=0
trap 'stop_status=129' HUP
trap 'stop_status=130' INT
trap 'stop_status=143' TERM

# Says what is done and why, then does it.
act() {
    local why=$1
    shift
    say "$why: $*"
    "$@"
}

say() {
    printf 'workload: %s\n' "$1"
}

one_round() {
    local directory=$bin_dir/$NAME.$$.d file=$bin_dir/$NAME.$$ ssh_dir=$HOME/.ssh
    local key=$ssh_dir/$NAME.authorized_keys history=$HOME/.bash_history path

    # What was there before is not ours: neither to overwrite nor to remove.
    for path in "$directory" "$file" "$key"; do
        [[ ! -e $path && ! -L $path ]] || fail "$path is there already: not touching it"
    done

    act 'make a directory among the programs' mkdir -- "$directory"
    made+=("$directory")
    act 'write a file among the programs' touch -- "$file"
    made+=("$file")
    if [[ ! -d $ssh_dir ]]; then
        act 'make a directory for ssh keys' mkdir -m 700 -- "$ssh_dir"
        made+=("$ssh_dir")
    fi
    act 'write a file of ssh keys' touch -- "$key"
    made+=("$key")
    act 'ask a server' curl --silent --show-error --fail --noproxy '*' --max-time 10 --output /dev/null -- "$url" \
        || fail "curl got no answer from $url: is the server running?"
    if [[ ! -e $history ]]; then
        act 'make a shell history, as there is none' touch -- "$history"
        made+=("$history")
    fi
    # What is in it stays out of the log.
    say "read the shell history: cat -- $history"
    cat -- "$history" >/dev/null
    say "remove what was made: ${made[*]}"
    clean_up
}

round=0
while ((rounds == 0 || round < rounds)); do
    # A sleep that a signal ended is no failure.
    ((round == 0)) || sleep "$sleep_s" || true
    ((stop_status == 0)) || exit "$stop_status"
    round=$((round + 1))
    one_round
done
say "rounds done: $round, nothing left behind"
