# Folders, PostgreSQL and configuration of an instance. Sourced by run.sh and by
# the installer; needs STATE, IMAGES, RUN, BIN, SHARE, LISTEN, GRPC_LISTEN set.

# RUN/<callee>-<caller>: the callee's, open to the caller's group.
layout_sockets() {
    local callee caller
    while read -r callee caller; do
        install -d -m 0710 -o "brainbox-$callee" -g "brainbox-$caller" \
            "$RUN/$callee-$caller"
    done <<'EOF'
keeper vault
vault ingress
vault brain
vault sandbox
vault egress
sandbox brain
brain ingress
egress bridge
egress brain
egress ingress
EOF
    install -d -m 0710 -o root -g brainbox-sandbox "$RUN/launcher-sandbox"
    install -d -m 0710 -o brainbox-vaultbridge -g brainbox-vault \
        "$RUN/egress-vault"
    install -d -m 0710 -o brainbox-bridge -g root "$RUN/bridge-launcher"
    install -d -m 0700 -o brainbox-vault -g root "$RUN/vault-admin"
}

layout_folders() {
    install -d -m 0755 "$RUN" "$STATE" "$IMAGES"
    install -d -m 0750 "$STATE/log"
    layout_sockets
    install -d -m 0755 -o brainbox-keeper -g brainbox-vault "$RUN/public"
    # Two write there: keeper (keys) and vault (generation).
    chmod 0775 "$RUN/public"
    # Its files take the group of egress, which alone may read them.
    install -d -m 2750 -o brainbox-vault -g brainbox-egress "$RUN/egress-ca"
    install -d -m 0755 -o postgres "$RUN/pg"
    install -d -m 0700 -o brainbox-ingress "$RUN/ingress"
    install -d -m 0700 -o brainbox-egress "$RUN/egress"
    install -d -m 0700 -o brainbox-keeper "$STATE/keeper"
    install -d -m 0700 -o brainbox-vault "$STATE/vault"
    install -d -m 0700 -o root "$STATE/work"
    install -d -m 0700 -o brainbox-sandbox "$STATE/output"
}

as_postgres() {
    (cd / && runuser -u postgres -- "$@")
}

# Who may be which role: the kernel says who is at the socket (peer), the map
# says what he may be.
layout_ident() {
    local svc
    cat >"$STATE/pg/pg_hba.conf" <<'EOF'
local all all peer map=brainbox
EOF
    {
        echo "brainbox postgres postgres"
        echo "brainbox root postgres"
        for svc in brain sandbox vault; do
            echo "brainbox brainbox-$svc ${svc}_run"
            echo "brainbox root ${svc}_owner"
        done
    } >"$STATE/pg/pg_ident.conf"
    chown postgres "$STATE/pg/pg_hba.conf" "$STATE/pg/pg_ident.conf"
    cat >"$STATE/pg/brainbox.conf" <<EOF
listen_addresses = ''
unix_socket_directories = '$RUN/pg'
max_connections = 64
EOF
    chown postgres "$STATE/pg/brainbox.conf"
    grep -q brainbox.conf "$STATE/pg/postgresql.conf" ||
        echo "include 'brainbox.conf'" >>"$STATE/pg/postgresql.conf"
}

layout_cluster() {
    local bin
    bin=$(pg_bin)
    if [ ! -s "$STATE/pg/PG_VERSION" ]; then
        rm -rf "$STATE/pg"
        install -d -m 0700 -o postgres "$STATE/pg"
        as_postgres "$bin/initdb" --no-sync -D "$STATE/pg" -U postgres -E UTF8 \
            --locale=C.UTF-8 -A peer >/dev/null
    fi
    layout_ident
}

pg_bin() {
    ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1
}

psql_admin() {
    psql -qXAt -h "$RUN/pg" -U postgres -v ON_ERROR_STOP=1 "$@"
}

# Roles, database and schemas: idempotent.
layout_roles() {
    local svc role
    for svc in brain sandbox vault; do
        for role in owner run; do
            [ -n "$(psql_admin -d postgres -c \
                "SELECT 1 FROM pg_roles WHERE rolname = '${svc}_$role'")" ] ||
                psql_admin -d postgres -c "CREATE ROLE ${svc}_$role LOGIN"
        done
    done
    [ -n "$(psql_admin -d postgres -c \
        "SELECT 1 FROM pg_database WHERE datname = 'brainbox'")" ] ||
        psql_admin -d postgres -c "CREATE DATABASE brainbox"
    for svc in brain sandbox vault; do
        psql_admin -d brainbox -c \
            "SET client_min_messages = warning;
             CREATE SCHEMA IF NOT EXISTS $svc AUTHORIZATION ${svc}_owner"
    done
    psql_admin -d brainbox -c "REVOKE ALL ON SCHEMA public FROM PUBLIC"
}

layout_migrate() {
    "$BIN/vault_svc" --migrate --sql-dir="$SHARE/vault_svc/sql" \
        --keeper="$RUN/keeper-vault/keeper-vault.sock" \
        --database="host=$RUN/pg dbname=brainbox user=vault_run" \
        --database-owner="host=$RUN/pg dbname=brainbox user=vault_owner"
    local svc
    for svc in brain sandbox; do
        "$BIN/${svc}_svc" --migrate --sql-dir="$SHARE/${svc}_svc/sql" \
            --database-owner="host=$RUN/pg dbname=brainbox user=${svc}_owner"
    done
}

layout_keeper() {
    [ -s "$STATE/keeper/master.key" ] ||
        "$BIN/vault_keeper" --init --key-file="$STATE/keeper/master.key" \
            --assertion-pub= --ca-pem=
}

# The templates of nginx/conf with this instance's values.
layout_nginx() {
    local face resolver
    resolver=$(awk '/^nameserver/ { print ($2 ~ /:/) ? "["$2"]" : $2; exit }' \
        /etc/resolv.conf)
    for face in ingress egress; do
        sed -e "s|@RUN@|$RUN|g; s|@STATE@|$STATE|g; s|@LISTEN@|$LISTEN|g" \
            -e "s|@GRPC_LISTEN@|$GRPC_LISTEN|g" \
            -e "s|@MODULE@|$BIN/ngx_agent_module.so|g" \
            -e "s|@RULES@|$SHARE/vault_svc/rules.conf|g" \
            -e "s|@DASHBOARD@|$SHARE/nginx/dashboard|g" \
            -e "s|@PREFIX@|$OPENAPI|g" \
            -e "s|@RESOLVER@|${BRAINBOX_RESOLVER:-${resolver:-127.0.0.1}}|g" \
            "$SHARE/nginx/conf/$face.conf" >"$RUN/$face.conf"
    done
    if [ ! -f "$STATE/deployment.conf" ]; then
        cp "$SHARE/supervisor/deployment.conf" "$STATE/deployment.conf"
    fi
}
