#!/bin/bash
# Makes folders, cluster, image and configuration of an installed instance, and
# brings the schemas up to date. systemd runs it in steps:
#
#   prepare.sh layout     before anything starts
#   prepare.sh migrate    once PostgreSQL and the keeper answer
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
SHARE=$(dirname "$here")
STATE=${BRAINBOX_STATE:-/var/lib/brainbox}
RUN=${BRAINBOX_RUN:-/run/brainbox}
IMAGES=$STATE/images
BIN=${BRAINBOX_BIN:?}
LISTEN=${BRAINBOX_LISTEN:-127.0.0.1:8080}
GRPC_LISTEN=${BRAINBOX_GRPC_LISTEN:-127.0.0.1:8081}
OPENAPI=$SHARE
PATH=/usr/sbin:/sbin:/usr/bin:/bin
. "$here/layout.sh"

case ${1:-} in
layout)
    layout_folders
    "$SHARE/sandbox_svc/image.sh" "$IMAGES/base"
    layout_cluster
    layout_keeper
    layout_nginx
    ;;
migrate)
    for _ in $(seq 200); do
        psql_admin -d postgres -c 'SELECT 1' >/dev/null 2>&1 && break
        sleep 0.1
    done
    layout_roles
    layout_migrate
    ;;
*)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
