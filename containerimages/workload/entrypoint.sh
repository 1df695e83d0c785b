#!/usr/bin/env bash
# Starts the server on the loopback interface that the workload asks, then becomes the workload.
set -euo pipefail

busybox httpd -p 127.0.0.1:8080 -h /srv
exec workload.sh "$@"
