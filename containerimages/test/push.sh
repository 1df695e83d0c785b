# Pushes an image to a registry of our own, for test.sh to source after images.sh: `check_push`.
# shellcheck shell=bash
# The variables are those of images.sh.
# shellcheck disable=SC2154

# What build.sh prints of what it pushed is what can be pulled. A small image stands for all.
check_push() {
    local registry directory told registry_pid status=0 start=$SECONDS
    command -v docker-registry >/dev/null || {
        # It is the only thing that is not tried then.
        (skip 'there is no docker-registry') || return 0
    }
    # Docker asks for no certificate on the loopback interface.
    registry=127.0.0.1:$((20000 + RANDOM % 10000))
    directory=$(mktemp -d -- "$work_dir/registry.XXXXXX")
    cat >"$directory/config.yml" <<CONFIG
version: 0.1
storage: {filesystem: {rootdirectory: $directory}}
http: {addr: $registry}
CONFIG
    docker-registry serve "$directory/config.yml" >"$directory/log" 2>&1 &
    registry_pid=$!
    push_and_pull || status=$?
    kill -TERM "$registry_pid"
    wait "$registry_pid" || true
    docker image rm --force "$registry/creance-binaries:$version" "$registry/creance-sidecarattach:$version" \
        >/dev/null 2>&1 || true
    rm -rf -- "$directory"
    ((status == 0)) || fail 'what build.sh pushed cannot be pulled'
    echo "ok      an image is pushed, and is there under the digest that is told ($((SECONDS - start)) s)"
}

# Part of check_push, whose variables it has.
push_and_pull() {
    local tries name=$registry/creance-sidecarattach
    for ((tries = 0; tries < 100; tries++)); do
        ! { : <"/dev/tcp/${registry/://}"; } 2>/dev/null || break
        sleep 0.1
    done
    docker tag "${prefix}creance-binaries:$version" "$registry/creance-binaries:$version" || return
    told=$(DEBIAN_IMAGE=${prefix}creance-binaries:$version "$images_dir/build.sh" --push "$registry" sidecarattach \
        2>"$work_dir/build.log" | tail -n 1) || return
    [[ $told =~ ^"$name:$version "(sha256:[0-9a-f]{64})$ ]] || {
        tail -n 30 "$work_dir/build.log" >&2
        echo "build.sh told: $told" >&2
        return 1
    }
    docker pull --quiet "$name@${BASH_REMATCH[1]}" >/dev/null
}
