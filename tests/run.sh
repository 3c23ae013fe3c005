#!/bin/bash
# Runs tests and counts them.
#
#   run.sh BUILD_DIR KIND ...     KIND: unit, integration, e2e, threads
#   ONLY=word run.sh …            only the files whose name holds the word
#
# A test is a cmocka program, or a script that ends with a line
# "N passed, N failed" (", N skipped" may follow). Each runs alone, with
# BRAINBOX_BUILD set, under a time limit; its output is shown when it fails, and
# always with VERBOSE=1. Exit status 0 only if something ran and all passed.
set -uo pipefail
cd "$(dirname "$0")/.."
build=$1
shift
export BRAINBOX_BUILD=$PWD/$build PATH=/usr/sbin:/sbin:$PATH
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=0:detect_leaks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-ignore_noninstrumented_modules=1:suppressions=$PWD/tests/support/tsan.supp}
passed=0 failed=0 skipped=0 bad=""
log=$(mktemp /tmp/brainbox-test.XXXXXX)
# Sanitizers write here, so that what a service reports fails its test too.
reports=$(mktemp -d /tmp/brainbox-reports.XXXXXX)
chmod 1777 "$reports"
trap 'rm -rf "$log" "$reports"' EXIT
ASAN_OPTIONS+=:log_path=$reports/asan
UBSAN_OPTIONS+=:log_path=$reports/asan
TSAN_OPTIONS+=:log_path=$reports/tsan

# Adds what the output says; a failure that it does not count is one.
count() {
    local status=$1 p f s
    p=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) test.*/\1/p;
                 s/^([0-9]+) passed, [0-9]+ failed.*/\1/p' "$log" |
        awk '{ n += $1 } END { print n + 0 }')
    f=$(sed -nE 's/^\[  FAILED  \] ([0-9]+) test.*/\1/p;
                 s/^[0-9]+ passed, ([0-9]+) failed.*/\1/p' "$log" |
        awk '{ n += $1 } END { print n + 0 }')
    s=$(sed -nE 's/^\[  SKIPPED \] ([0-9]+) test.*/\1/p;
                 s/^[0-9]+ passed, [0-9]+ failed, ([0-9]+) skipped.*/\1/p' \
        "$log" | awk '{ n += $1 } END { print n + 0 }')
    [ "$status" -ne 0 ] && [ "$f" -eq 0 ] && f=1
    [ "$status" -eq 0 ] && [ $((p + f + s)) -eq 0 ] && f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    verdict="$p passed, $f failed, $s skipped"
    [ "$f" -eq 0 ]
}

# The names of the tests that failed, and why; without one, how it ended.
failures() {
    local found
    found=$(awk -f tests/support/failures.awk "$log" | head -n 24)
    if [ -n "$found" ]; then
        sed 's/^/  /' <<<"$found"
    else
        tail -n 4 "$log" | cut -c1-600 | sed 's/^/  /'
    fi
}

run() {
    local name=$1 limit=$2 start=$SECONDS status=0
    shift 2
    case $name in *"${ONLY:-}"*) ;; *) return ;; esac
    timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ -n "$(ls -A "$reports")" ]; then
        { echo "sanitizers reported:"; head -n 60 "$reports"/*; } >>"$log"
        rm -f "$reports"/*
        status=1
    fi
    if count "$status"; then
        echo "ok      $name ($verdict, $((SECONDS - start)) s)"
        [ -z "${VERBOSE:-}" ] || cat "$log"
    else
        echo "FAILED  $name ($verdict, exit $status, $((SECONDS - start)) s)"
        tail -n "${TAIL:-80}" "$log"
        # What failed comes last: logs of services are long.
        bad+="FAILED  $name ($verdict, exit $status)"$'\n'$(failures)$'\n'
    fi
    grep -hE '^skip' "$log"
}

script() {
    case $1 in
    *.py) run "$1" "$2" python3 "$1" ;;
    *.sh) run "$1" "$2" bash "$1" ;;
    *.mjs) run "$1" "$2" node "$1" ;;
    esac
}

for kind in "$@"; do
    case $kind in
    unit)
        for t in "$build"/unit/*_test; do
            [ -x "$t" ] && run "$t" 120 "$t"
        done ;;
    threads)
        for t in "$build"/integration/{rpc,db}_test; do
            run "$t" 180 "$t"
        done ;;
    integration)
        for t in "$build"/integration/*_test; do
            [ -x "$t" ] && run "$t" 180 "$t"
        done
        for t in tests/integration/*_test.{py,sh}; do
            [ -e "$t" ] && script "$t" 600
        done ;;
    e2e)
        for t in tests/e2e/*_test.{py,sh}; do
            [ -e "$t" ] && script "$t" 900
        done ;;
    esac
done

echo
printf '%s' "$bad"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
