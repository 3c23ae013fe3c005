#!/bin/bash
# Runs each fuzz target on its corpus for some seconds; fails on a finding.
#
#   run.sh FOLDER_OF_TARGETS SECONDS [NAME ...]
#
# What a target finds lies in FOLDER/found; a new input in FOLDER/corpus, for
# one to pick from. tests/fuzz/*_corpus is only read.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=$1 seconds=$2
shift 2
found=$bin/../found
mkdir -p "$found"
failed=0 n=0
[ $# -gt 0 ] || set -- tests/fuzz/*_fuzz.c
for target; do
    name=$(basename "$target" .c)
    name=${name%_fuzz}
    own=$bin/../corpus/$name
    log=$bin/$name.log
    mkdir -p "$own"
    given=tests/fuzz/${name}_corpus
    [ -d "$given" ] || given=
    n=$((n + 1))
    if timeout -k 10 $((seconds + 60)) "$bin/${name}_fuzz" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$found/$name-" \
        "$own" $given >"$log" 2>&1; then
        echo "ok      $name ($(sed -n \
            's/^stat::number_of_executed_units: *//p' "$log") executions)"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        tail -n 40 "$log"
    fi
done
echo "$((n - failed)) passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$n" -gt 0 ]
