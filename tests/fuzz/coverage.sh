#!/bin/bash
# How many lines of each parser the inputs of its fuzz target reach: those that
# lie beside it, and those that `make fuzz` found. Fails below 80 %.
#
#   coverage.sh FOLDER_OF_TARGETS FOLDER_OF_CORPORA
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=$1 corpora=$2 failed=0 n=0
# target: the parser's files
parsers="
bridge_dns: sandbox_svc/bridge_dns.c
bridge_hello: sandbox_svc/bridge_hello.c
http_head: lib/http_head.c
name: ngx_agent_module/ngx_agent_name.c
swap: ngx_agent_module/ngx_agent_swap.c
scrub: ngx_agent_module/ngx_agent_scrub.c
codec: ngx_agent_module/ngx_agent_codec.c ngx_agent_module/ngx_agent_codec_json.c
"
while IFS=: read -r name files; do
    [ -n "$name" ] || continue
    n=$((n + 1))
    inputs=
    for d in "tests/fuzz/${name}_corpus" "$corpora/$name"; do
        [ -d "$d" ] && inputs+=" $d"
    done
    LLVM_PROFILE_FILE=$bin/$name.profraw "$bin/${name}_fuzz" -runs=0 $inputs \
        >"$bin/$name.log" 2>&1 || { echo "FAILED  $name"; failed=$((failed + 1)); continue; }
    llvm-profdata merge -o "$bin/$name.profdata" "$bin/$name.profraw"
    percent=$(llvm-cov export -summary-only "$bin/${name}_fuzz" \
        -instr-profile="$bin/$name.profdata" $files |
        python3 -c 'import json, sys
t = json.load(sys.stdin)["data"][0]["totals"]["lines"]
print("%d %d %.0f" % (t["covered"], t["count"], t["percent"]))')
    set -- $percent
    echo "figure fuzz.${name}_lines $3 %   ($1 of $2)"
    [ "$3" -ge 80 ] || { echo "FAILED  $name is below 80 %"; failed=$((failed + 1)); }
done <<<"$parsers"
echo "$((n - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
