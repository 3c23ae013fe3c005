#!/bin/bash
# A private PostgreSQL cluster for tests and for `make run`.
#
#   pg.sh start DIR            make the cluster in DIR/pg if need be, start it on
#                              the socket folder DIR/sock, print its conninfo
#   pg.sh stop DIR             stop it
#
# The cluster listens on a unix socket only. Whoever reaches the socket is asked
# by the kernel who he is (peer); the map lets root be any owner, and, here,
# every role. Needs root, since initdb refuses it: runs as user postgres.
set -euo pipefail
verb=$1 dir=$2
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
as_postgres() { runuser -u postgres -- "$@"; }
case $verb in
start)
    mkdir -p "$dir/sock"
    chown postgres "$dir/sock" && chmod 0755 "$dir/sock"
    if [ ! -s "$dir/pg/PG_VERSION" ]; then
        install -d -o postgres -m 0700 "$dir/pg"
        as_postgres "$bin/initdb" --no-sync -D "$dir/pg" -U postgres \
            -E UTF8 --locale=C.UTF-8 --auth-local=trust >/dev/null
    fi
    as_postgres "$bin/pg_ctl" -D "$dir/pg" -w -s -l "$dir/pg/log" \
        -o "-c listen_addresses='' -c unix_socket_directories='$dir/sock' \
            -c max_connections=60" start
    psql="as_postgres psql -qX -h $dir/sock -U postgres -d postgres"
    for svc in brain sandbox vault; do
        for role in owner run; do
            $psql -tAc "SELECT 1 FROM pg_roles WHERE rolname='${svc}_$role'" |
                grep -q 1 || $psql -c "CREATE ROLE ${svc}_$role LOGIN"
        done
        $psql -c "CREATE SCHEMA IF NOT EXISTS $svc AUTHORIZATION ${svc}_owner"
    done
    echo "host=$dir/sock dbname=postgres"
    ;;
stop)
    as_postgres "$bin/pg_ctl" -D "$dir/pg" -m fast -w -s stop
    ;;
*)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
