#!/usr/bin/env bash
# An event listener of supervisord: when the workload has ended, so does supervisord, and the container with it. Otherwise
# the task would go on with Falco alone.
set -euo pipefail

while true; do
    echo READY
    read -r header
    read -r -N "${header##*len:}" payload
    [[ $payload != *processname:workload* ]] || kill -TERM "$PPID"
    printf 'RESULT 2\nOK'
done
