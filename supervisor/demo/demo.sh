#!/bin/bash
# Starts everything in a state of its own and carries one session to its end.
# The API host that the session calls is demo/api_host.py on loopback.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
export BRAINBOX_STATE=${BRAINBOX_STATE:-$top/var/demo}
export BRAINBOX_IMAGES=${BRAINBOX_IMAGES:-$top/var/images}
export BRAINBOX_RUN=${BRAINBOX_RUN:-/run/brainbox-demo}
export BRAINBOX_LISTEN=${BRAINBOX_LISTEN:-127.0.0.1:18080}
export BRAINBOX_GRPC_LISTEN=${BRAINBOX_GRPC_LISTEN:-127.0.0.1:18081}
export BRAINBOX_INSTANCE=${BRAINBOX_INSTANCE:-demo}

hosts=$(mktemp -d /tmp/brainbox-demo.XXXXXX)
chmod 755 "$hosts"
python3 "$here/api_host.py" "$hosts" api.demo.test other.demo.test &
host_pid=$!
trap 'kill $host_pid 2>/dev/null; rm -rf "$hosts"' EXIT
for _ in $(seq 100); do [ -s "$hosts/hosts.json" ] && break; sleep 0.1; done

rm -rf "$BRAINBOX_STATE"
mkdir -p "$BRAINBOX_STATE"
jq -r --arg ca "$hosts/ca.pem" 'to_entries[] |
    "destination \(.key):443 address=127.0.0.1:\(.value) ca=\($ca)"' \
    "$hosts/hosts.json" >"$BRAINBOX_STATE/deployment.conf"
"$top/supervisor/run.sh" --exec "python3 '$here/demo.py' '$hosts'"
