#!/bin/bash
# Runs a whole instance under s6, in the foreground, until it is told to stop.
#
#   run.sh [--exec COMMAND]
#
# With --exec the instance is stopped when COMMAND has ended, and its exit
# status is returned; COMMAND sees BRAINBOX_URL, BRAINBOX_KEY, BRAINBOX_STATE
# and BRAINBOX_RUN. Settings, all by environment:
#
#   BRAINBOX_STATE   what survives (var)
#   BRAINBOX_RUN     sockets and pids (/run/brainbox)
#   BRAINBOX_LISTEN  address of ingress (127.0.0.1:8080)
#   BRAINBOX_GRPC_LISTEN  the same for gRPC clients (127.0.0.1:8081)
#   BRAINBOX_BIN     binaries (build/release/bin)
#   BRAINBOX_IMAGES  root file systems of sandboxes (BRAINBOX_STATE/images)
#   BRAINBOX_INSTANCE  part of cgroup names (main)
#   MODEL_BASE_URL MODEL_NAME MODEL_API_KEY  the model gateway
#   MODEL_WIRE       what it speaks: chat (default), responses, messages
#   CONTAINER_ENV_X  becomes X in sandboxes of the tenant "default"
#   BRAINBOX_SCRUB_HITS_MAX  the so-manyth answer that held a value freezes (3)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
SHARE=${BRAINBOX_SHARE:-$(dirname "$here")}
STATE=$(realpath -m "${BRAINBOX_STATE:-$SHARE/var}")
RUN=$(realpath -m "${BRAINBOX_RUN:-/run/brainbox}")
LISTEN=${BRAINBOX_LISTEN:-127.0.0.1:8080}
GRPC_LISTEN=${BRAINBOX_GRPC_LISTEN:-127.0.0.1:8081}
BIN=$(realpath -m "${BRAINBOX_BIN:-$SHARE/build/release/bin}")
OPENAPI=${BRAINBOX_OPENAPI:-$SHARE/build/gen}
IMAGES=$(realpath -m "${BRAINBOX_IMAGES:-$STATE/images}")
INSTANCE=${BRAINBOX_INSTANCE:-main}
LOG_LEVEL=${BRAINBOX_LOG_LEVEL:-info}
DB="host=$RUN/pg dbname=brainbox"
SCAN=$RUN/services
PATH=/usr/sbin:/sbin:/usr/bin:/bin:$PATH
. "$here/layout.sh"

command_to_run=
case ${1:-} in
'') ;;
--exec) shift; command_to_run=$* ;;
*) sed -n '2,22s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

say() { echo "brainbox: $*"; }
die() { echo "brainbox: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "needs root: namespaces, mounts and users are made"
[ ${#RUN} -le 60 ] || die "BRAINBOX_RUN is too long for unix sockets: $RUN"
for b in brain_svc vault_svc vault_keeper sandbox_svc sandbox_launcher bridge \
    vault_bridge; do
    [ -x "$BIN/$b" ] || die "$BIN/$b is missing: run \`make\` first"
done
mkdir -p "$RUN"
exec 8>"$RUN/instance.lock"
flock -n 8 || die "an instance runs in $RUN already"

# ------------------------------------------------------------- services ----

# service NAME NOTIFY(yes|no) DOWN_SIGNAL: the run script comes on stdin.
service() {
    local dir=$SCAN/$1
    rm -rf "$dir"
    mkdir -p "$dir/log"
    { echo '#!/bin/bash'; echo 'exec 2>&1 8>&-'; cat; } >"$dir/run"
    printf '#!/bin/sh\nexec s6-log -b n5 s4194304 %q\n' "$STATE/log/$1" \
        >"$dir/log/run"
    [ "$2" = no ] || echo 3 >"$dir/notification-fd"
    [ -z "${3:-}" ] || echo "$3" >"$dir/down-signal"
    # A clean stop may take its grace; then it is killed.
    echo 15000 >"$dir/timeout-kill"
    touch "$dir/down"
    chmod 755 "$dir/run" "$dir/log/run"
}

# A network namespace with nothing but loopback, and a clean environment.
inside="exec unshare --net -- /bin/sh -c 'ip link set lo up; exec \"\$@\"' - \
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8"
# Words VAR=value for binaries that are built with a sanitizer. nginx is not:
# with a module that is, the libraries come first, and nginx itself frees
# nothing at exit.
: "${BRAINBOX_SANITIZER_ENV:=}"
nginx_sanitizer=
[ -z "${BRAINBOX_SANITIZER_LIBS:-}" ] ||
    nginx_sanitizer="$BRAINBOX_SANITIZER_ENV LD_PRELOAD=$BRAINBOX_SANITIZER_LIBS \
            ASAN_OPTIONS=detect_leaks=0:abort_on_error=0"

write_services() {
    local vault_env=
    service postgres no SIGINT <<EOF
$inside setpriv --reuid=postgres --regid=postgres --init-groups \
    $(pg_bin)/postgres -D $STATE/pg
EOF
    service vault_keeper yes <<EOF
$inside $BRAINBOX_SANITIZER_ENV $BIN/vault_keeper --notify-fd=3 --log-level=$LOG_LEVEL \
    --listen=$RUN/keeper-vault/keeper-vault.sock \
    --key-file=$STATE/keeper/master.key \
    --assertion-pub=$RUN/public/assertion.pub --ca-pem=$RUN/public/ca.pem
EOF
    service vault_svc yes <<EOF
set -a; . $RUN/vault.env; set +a
exec unshare --net -- /bin/sh -c 'ip link set lo up; exec "\$@"' - \
    env $BRAINBOX_SANITIZER_ENV $BIN/vault_svc --notify-fd=3 --log-level=$LOG_LEVEL \
    --listen-ingress=$RUN/vault-ingress/vault-ingress.sock \
    --listen-brain=$RUN/vault-brain/vault-brain.sock \
    --listen-sandbox=$RUN/vault-sandbox/vault-sandbox.sock \
    --listen-egress=$RUN/vault-egress/vault-egress.sock \
    --listen-admin=$RUN/vault-admin/vault-admin.sock \
    --keeper=$RUN/keeper-vault/keeper-vault.sock \
    --database="$DB user=vault_run" --rules=$SHARE/vault_svc/rules.conf \
    --deployment=$STATE/deployment.conf --generation=$RUN/public/generation \
    --intermediate=$RUN/egress-ca/intermediate.pem \
    --audit-heads=$STATE/vault/audit-heads
EOF
    # In the machine's own network namespace, as egress is.
    service vault_bridge yes <<EOF
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    $BRAINBOX_SANITIZER_ENV $BIN/vault_bridge --notify-fd=3 \
    --log-level=$LOG_LEVEL --deployment=$STATE/deployment.conf \
    --listen=$RUN/egress-vault/egress-vault.sock
EOF
    service bridge yes <<EOF
$inside $BRAINBOX_SANITIZER_ENV $BIN/bridge --notify-fd=3 --user=brainbox-bridge \
    --log-level=$LOG_LEVEL \
    --listen=$RUN/bridge-launcher/bridge-launcher.sock \
    --egress-tls=$RUN/egress-bridge/egress-bridge.sock \
    --egress-plain=$RUN/egress-bridge/egress-bridge-plain.sock \
    --egress-report=$RUN/egress-bridge/egress-bridge-report.sock
EOF
    service launcher yes <<EOF
$inside $BRAINBOX_SANITIZER_ENV $BIN/sandbox_launcher --notify-fd=3 --log-level=$LOG_LEVEL \
    --listen=$RUN/launcher-sandbox/launcher-sandbox.sock \
    --peer-user=brainbox-sandbox --instance=$INSTANCE \
    --bridge=$RUN/bridge-launcher/bridge-launcher.sock \
    --image-dir=$IMAGES --work-dir=$STATE/work \
    --output-dir=$STATE/output
EOF
    service sandbox_svc yes <<EOF
$inside $BRAINBOX_SANITIZER_ENV $BIN/sandbox_svc --notify-fd=3 --user=brainbox-sandbox \
    --log-level=$LOG_LEVEL \
    --listen-brain=$RUN/sandbox-brain/sandbox-brain.sock \
    --launcher=$RUN/launcher-sandbox/launcher-sandbox.sock \
    --vault=unix:$RUN/vault-sandbox/vault-sandbox.sock \
    --database="$DB user=sandbox_run" --output-dir=$STATE/output
EOF
    service brain_svc yes <<EOF
$inside $BRAINBOX_SANITIZER_ENV \
    MODEL_BASE_URL=${MODEL_BASE_URL:-} MODEL_NAME=${MODEL_NAME:-} \
    MODEL_WIRE=${MODEL_WIRE:-chat} \
    BRAINBOX_HARNESS=${BRAINBOX_HARNESS:-} \
    $BIN/brain_svc --notify-fd=3 --user=brainbox-brain --log-level=$LOG_LEVEL \
    --listen-ingress=$RUN/brain-ingress/brain-ingress.sock \
    --vault=unix:$RUN/vault-brain/vault-brain.sock \
    --sandbox=unix:$RUN/sandbox-brain/sandbox-brain.sock \
    --database="$DB user=brain_run" --ca-file=$RUN/public/ca.pem \
    --assertion-key=$RUN/public/assertion.pub \
    --egress-plain=$RUN/egress-brain/egress-brain-plain.sock \
    --egress-tls=$RUN/egress-brain/egress-brain.sock \
    ${BRAINBOX_BRAIN_OPTIONS:-}
EOF
    # nginx: a pid namespace, so that no worker outlives its master (unshare
    # itself ignores SIGTERM, so it is passed on); stale sockets are removed
    # under a lock that master and workers hold.
    for face in ingress egress; do
        service $face no <<EOF
setpriv --pdeathsig KILL unshare --pid --fork --kill-child=TERM -- \
    flock -F -w 10 $RUN/$face.lock /bin/sh -c '
        rm -f $RUN/egress-bridge/$face-*.sock $RUN/egress-brain/$face-*.sock \
            $RUN/egress-ingress/$face-*.sock
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin $nginx_sanitizer \
            nginx -c $RUN/$face.conf -p $RUN/$face \
                -e $STATE/log/$face-error.log -g "daemon off;"' &
pid=\$!
trap 'kill -TERM \$(cat /proc/\$pid/task/\$pid/children)' TERM
while kill -0 \$pid 2>/dev/null; do wait \$pid; done
EOF
    done
}

# The vault alone sees CONTAINER_ENV_ and the model key: by a root-only file.
write_vault_env() {
    (umask 077; env | grep -E \
        '^(CONTAINER_ENV_|MODEL_BASE_URL=|MODEL_API_KEY=|BRAINBOX_SCRUB_HITS_MAX=)' |
        while IFS='=' read -r name value; do
            printf '%s=%q\n' "$name" "$value"
        done >"$RUN/vault.env") || true
    for name in $(compgen -e); do
        case $name in CONTAINER_ENV_*|MODEL_API_KEY) unset "$name" ;; esac
    done
}

# up NAME [SECONDS]: start it and wait until it says that it answers. One that
# says why it cannot is not waited for.
up() {
    local log=$STATE/log/$1/current from end=$((SECONDS + ${2:-20}))
    from=$(($(stat -c %s "$log" 2>/dev/null || echo 0) + 1))
    s6-svc -u "$SCAN/$1"
    [ -f "$SCAN/$1/notification-fd" ] || return 0
    until s6-svwait -U -t 200 "$SCAN/$1" 2>/dev/null; do
        if [ $SECONDS -ge $end ] || tail -c "+$from" "$log" 2>/dev/null |
            grep -q '"event":"[a-z]*\.failed"'; then
            tail -c "+$from" "$log" | tail -n 5 >&2
            die "$1 did not come up; its log is $log"
        fi
    done
}

wait_for() {
    local what=$1 i
    shift
    for i in $(seq 200); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    die "$what did not come up; see $STATE/log"
}

# Callers before callees, so that nobody talks to what is gone.
order="ingress brain_svc sandbox_svc launcher bridge egress vault_svc
       vault_bridge vault_keeper postgres"
scan_pid=
command_pid=
stop() {
    trap '' INT TERM
    [ -z "$command_pid" ] || kill "$command_pid" 2>/dev/null || true
    [ -n "$scan_pid" ] || return 0
    local s
    for s in $order; do
        [ -d "$SCAN/$s" ] || continue
        s6-svc -wD -T 20000 -d "$SCAN/$s" 2>/dev/null || true
    done
    s6-svscanctl -t "$SCAN" 2>/dev/null || true
    wait "$scan_pid" 2>/dev/null || true
    scan_pid=
    rm -rf "$RUN/vault.env" "$SCAN"
}
trap stop EXIT
trap 'exit 0' INT TERM

# ---------------------------------------------------------------- start ----

say "state in $STATE, sockets in $RUN"
layout_folders
if [ ! -e "$IMAGES/base/.brainbox-image" ]; then
    say "building the sandbox image (once, about half a minute)"
fi
"$SHARE/sandbox_svc/image.sh" "$IMAGES/base"
layout_cluster
layout_keeper
layout_nginx
write_services
write_vault_env
setpriv --pdeathsig TERM s6-svscan -t0 "$SCAN" 8>&- 2>"$STATE/log/svscan.log" &
scan_pid=$!
wait_for s6-svscan test -e "$SCAN/.s6-svscan/control"
for s in $order; do
    wait_for "supervision of $s" s6-svok "$SCAN/$s"
done

up postgres
wait_for postgres psql_admin -d postgres -c 'SELECT 1'
layout_roles
up vault_keeper
layout_migrate
up vault_bridge
up vault_svc
# nginx writes its pid when it listens.
rm -f "$RUN/egress/nginx.pid"
up egress
wait_for egress test -s "$RUN/egress/nginx.pid"
up bridge
up launcher
up sandbox_svc 60
up brain_svc
up ingress
wait_for ingress curl -sf "http://$LISTEN/healthz"

new_key="$BIN/vault_svc key create \
    --listen-admin=$RUN/vault-admin/vault-admin.sock"
export BRAINBOX_URL=http://$LISTEN BRAINBOX_STATE=$STATE BRAINBOX_RUN=$RUN
export BRAINBOX_BIN=$BIN BRAINBOX_SHARE=$SHARE

if [ -n "$command_to_run" ]; then
    BRAINBOX_KEY=$($new_key --name="of --exec")
    export BRAINBOX_KEY
    status=0
    # Beside this shell, so that a signal is not kept waiting for its end.
    bash -c "$command_to_run" 8>&- <&0 &
    command_pid=$!
    wait "$command_pid" || status=$?
    command_pid=
    stop
    exit "$status"
fi

echo
echo "Brainbox runs.  Dashboard and API: $BRAINBOX_URL/"
key='$KEY'
if [ ! -e "$STATE/first-key-made" ]; then
    key=$($new_key --name="first key")
    touch "$STATE/first-key-made"
    echo "API key (shown once; keep it):     $key"
else
    echo "Keys made before still work; another one:"
    echo "    $new_key"
fi
cat <<EOF

    curl -s $BRAINBOX_URL/v1/agents -H "x-api-key: $key" \\
        -H 'content-type: application/json' -d '{"name": "first agent"}'

Ctrl-C stops everything.  Logs: $STATE/log
EOF
wait "$scan_pid"
