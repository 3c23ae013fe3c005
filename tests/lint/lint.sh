#!/bin/bash
# Rules of safety and layering. Prints each breach as file:line: rule, and exits
# 1 if there is one.
set -uo pipefail
cd "$(dirname "$0")/../.."
breaches=0
ours=$(git ls-files 'lib/*.[ch]' '*_svc/*.[ch]' 'ngx_agent_module/*.[ch]' \
    'tests/*.[ch]')
services=$(git ls-files 'lib/*.[ch]' '*_svc/*.[ch]')

# rule NAME PATTERN FILES...: no line may match.
rule() {
    local name=$1 pattern=$2 found
    shift 2
    [ $# -gt 0 ] || return 0
    found=$(grep -nE "$pattern" "$@" /dev/null | grep -vE ':[0-9]+: *(/?\*|//)')
    if [ -n "$found" ]; then
        echo "$found" | sed "s/^\([^:]*:[0-9]*\):.*/\1: $name/"
        breaches=1
    fi
}

rule "banned function" \
    '(^|[^_[:alnum:]])(strcpy|strcat|strncpy|sprintf|vsprintf|strtok|atoi|gets|alloca)\(' \
    $(printf '%s\n' $ours | grep -v '^tests/')
rule "cJSON" 'cJSON_' $ours
rule "goto" '(^|[^_[:alnum:]])goto ' $services
rule "lib includes a service" '#include "(brain|sandbox|vault)_svc/' \
    $(git ls-files 'lib/*.[ch]')
rule "include without a path" '#include "([b-z]|a[a-fh-z])[a-z_]+\.h"' \
    $services
rule "grpc.h outside lib/rpc*" '#include <grpc/' \
    $(printf '%s\n' $services | grep -v '^lib/rpc')
rule "libpq-fe.h outside lib/db, lib/migrate" '#include <libpq-fe.h>' \
    $(printf '%s\n' $services | grep -vE '^lib/(db|db_result|migrate)\.[ch]')
rule "one service includes another" '#include "(sandbox|vault)_svc/' \
    $(git ls-files 'brain_svc/*.[ch]')
rule "one service includes another" '#include "(brain|vault)_svc/' \
    $(git ls-files 'sandbox_svc/*.[ch]')
rule "one service includes another" '#include "(brain|sandbox)_svc/' \
    $(git ls-files 'vault_svc/*.[ch]')
rule "path of a machine" '(^|[^}a-z])/(work|farm)/' \
    $(git ls-files | grep -vE '^(tests/lint/|sandbox_svc/)')
rule "registry host" '(registry\.npmjs|deb\.debian\.org)' \
    $(git ls-files | grep -vE '^tests/(lint/|e2e/package-lock)')

# Functions are static unless a header declares them.
for c in $(git ls-files 'lib/*.c' '*_svc/*.c'); do
    while read -r name; do
        [ "$name" = main ] && continue
        grep -qhE "(^|[^_[:alnum:]])$name\(" $(git ls-files '*.h') || {
            echo "$c: $name is neither static nor in a header"
            breaches=1
        }
    done < <(awk '/^static/ { s = 1 } /^[a-z_]+\(/ { if (!s) { sub(/\(.*/, "");
        print } s = 0 } /^[a-zA-Z].*[^,;(]$/ && !/^static/ && !/\(/ { s = 0 }
        /^}/ { s = 0 }' "$c")
done

# Every header compiles alone.
if [ -e build/gen/.done ]; then
    for h in $(git ls-files 'lib/*.h' '*_svc/*.h'); do
        echo "#include \"$h\"" | gcc -std=gnu11 -D_GNU_SOURCE -I. -Ibuild/gen \
            -I/usr/include/postgresql -fsyntax-only -Wall -xc - 2>/tmp/lint.$$ ||
            { echo "$h: does not compile alone"; head -n 3 /tmp/lint.$$
              breaches=1; }
    done
    rm -f /tmp/lint.$$
fi

# Layout.
if command -v clang-format >/dev/null; then
    for f in $(git ls-files 'lib/*.[ch]' '*_svc/*.[ch]'); do
        clang-format --dry-run -Werror "$f" >/dev/null 2>&1 ||
            { echo "$f: not formatted (make format)"; breaches=1; }
    done
fi

# Events that are logged stand in their table, options in docs/config.md.
logged=$(sed -n '/^## Of the log/,$p' docs/events.md)
for e in $(cat lib/*.c ./*_svc/*.c | tr '\n' ' ' |
    grep -oE 'ag_log\([^;]*"[a-z_]+\.[a-z_]+"' |
    grep -oE '"[a-z_]+\.[a-z_]+"' | tr -d '"' | sort -u); do
    grep -q "^| \`$e\` |" <<<"$logged" ||
        { echo "docs/events.md: the event $e is missing"; breaches=1; }
done
for b in build/release/bin/{brain_svc,vault_svc,vault_keeper,vault_bridge,sandbox_svc,sandbox_launcher,bridge}; do
    [ -x "$b" ] || continue
    for o in $("$b" --reference | grep -oE '^\| `[a-z_]+`' | tr -d '|` '); do
        grep -qF "\`$o\`" docs/config.md 2>/dev/null ||
            { echo "docs/config.md: option $o of ${b##*/} is missing"
              breaches=1; }
    done
done
[ $breaches -eq 0 ] && echo "lint: no breach"
exit $breaches
