#!/bin/bash
# Installs what is missing and makes the system users.
#
#   deps.sh             what building and running needs
#   deps.sh --tests     and what the tests need besides
#
# Says what it installs. Services of the packages are not started: Brainbox
# runs its own nginx and PostgreSQL.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

build=(gcc libc6-dev make python3 python3-protobuf protobuf-compiler
       libprotobuf-dev protobuf-c-compiler libprotobuf-c-dev libgrpc-dev
       libpq-dev libssl-dev libjansson-dev libcurl4-openssl-dev libidn2-dev
       libpsl-dev publicsuffix libseccomp-dev libcap-dev libnftnl-dev
       libmnl-dev uthash-dev libhyperscan-dev libpcre2-dev nginx nginx-dev postgresql-15 mmdebstrap s6 musl-tools
       iproute2 util-linux openssl curl ca-certificates jq git)
tests=(clang clang-format libclang-rt-14-dev lld libcmocka-dev nodejs npm
       chromium wrk nghttp2-client bubblewrap procps libfaketime python3-grpcio
       hey openjdk-17-jre-headless libnss3-tools)

if [ "$(id -u)" -ne 0 ]; then
    echo "deps: installing packages needs root: run \`sudo make deps\`" >&2
    exit 1
fi

want=("${build[@]}")
[ "${1:-}" = --tests ] && want+=("${tests[@]}")
missing=()
for p in "${want[@]}"; do
    # A machine may have node and npm from elsewhere; these will do.
    case $p in
    nodejs) command -v node >/dev/null && continue ;;
    npm) command -v npm >/dev/null && continue ;;
    esac
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null)" = "ii " ] ||
        missing+=("$p")
done

if [ ${#missing[@]} -gt 0 ]; then
    echo "deps: installing ${missing[*]}"
    # The packages' own services must not take ports here.
    guard=/usr/sbin/policy-rc.d
    if [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' >$guard
        chmod 755 $guard
        trap 'rm -f $guard' EXIT
    fi
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" \
            >/etc/postgresql-common/createcluster.conf
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        >/tmp/brainbox-deps.log 2>&1 || {
        tail -n 20 /tmp/brainbox-deps.log >&2
        exit 1
    }
else
    echo "deps: nothing is missing"
fi

for name in keeper vault vaultbridge sandbox bridge brain ingress egress; do
    id -u "brainbox-$name" >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent \
            --shell /usr/sbin/nologin "brainbox-$name"
done
