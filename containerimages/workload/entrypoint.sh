#!/usr/bin/env bash
# Starts the server on the loopback interface that the workload asks, then becomes the workload.
set -euo pipefail

# It ends with the workload, however that ends, so that whoever waits for all processes need not wait for it.
setpriv --pdeathsig TERM busybox httpd -f -p 127.0.0.1:8080 -h /srv &
# It listens within a moment, or something is wrong.
for ((tries = 0; tries < 200; tries++)); do
    ! { : </dev/tcp/127.0.0.1/8080; } 2>/dev/null || break
    sleep 0.05
done
exec workload.sh "$@"
