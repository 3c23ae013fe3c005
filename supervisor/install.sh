#!/bin/bash
# Installs binaries, data and systemd units. Called by `make install`.
#
#   PREFIX (/usr/local)  DESTDIR ()  BIN (build/release/bin)
#
# Afterwards: `systemctl enable --now brainbox.target`, and
# `vault_svc key create` prints a first key.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
PREFIX=${PREFIX:-/usr/local} DESTDIR=${DESTDIR:-}
BIN=${BIN:-$top/build/release/bin}
libexec=$PREFIX/libexec/brainbox share=$PREFIX/share/brainbox
units=${UNITS:-/etc/systemd/system}

install -d "$DESTDIR$libexec" "$DESTDIR$share" "$DESTDIR$PREFIX/sbin" \
    "$DESTDIR$units"
for b in brain_svc sandbox_svc sandbox_launcher sandbox_init bridge vault_svc \
    vault_keeper vault_bridge; do
    install -m 0755 "$BIN/$b" "$DESTDIR$libexec/$b"
done
install -m 0644 "$BIN/ngx_agent_module.so" "$DESTDIR$libexec/"
ln -sf "$libexec/vault_svc" "$DESTDIR$PREFIX/sbin/vault_svc"
for d in brain_svc/sql sandbox_svc/sql vault_svc/sql nginx/conf \
    nginx/dashboard supervisor; do
    install -d "$DESTDIR$share/$d"
    cp -a "$top/$d/." "$DESTDIR$share/$d/"
done
install -m 0755 "$top/sandbox_svc/image.sh" "$DESTDIR$share/sandbox_svc/"
install -m 0644 "$top/vault_svc/rules.conf" "$DESTDIR$share/vault_svc/"
install -m 0644 "$top/build/gen/openapi.json" "$DESTDIR$share/"
for u in "$top"/supervisor/systemd/*; do
    sed -e "s|@LIBEXEC@|$libexec|g; s|@SHARE@|$share|g" "$u" \
        >"$DESTDIR$units/$(basename "$u")"
done
echo "installed under $DESTDIR$PREFIX; units in $DESTDIR$units"
