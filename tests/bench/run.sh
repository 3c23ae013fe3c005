#!/bin/bash
# Measures, prints one line `figure NAME VALUE UNIT` a figure, and writes the
# tables of docs/benchmarks. Needs root, and a machine that does nothing else.
#
#   run.sh BUILD_DIR [PART ...]    PART: sandbox, platform, brain, egress,
#                                  vault, rules (all)
#   OUT=FOLDER run.sh …            tables go there, not to docs/benchmarks
#
# Each part runs on an instance of its own under /tmp that ends with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
shift || true
out=${OUT:-docs/benchmarks}
export BRAINBOX_BUILD=$PWD/$build PATH=/usr/sbin:/sbin:$PATH
# A figure of a machine that had other work says so on its page.
export LOAD_BEFORE=$(cut -d" " -f1 /proc/loadavg)
figures=$(mktemp /tmp/brainbox-bench.XXXXXX)
trap 'rm -f "$figures"' EXIT

make --no-print-directory -s -j2 "$build/tools/sandbox_bench" \
    "$build/tools/sandbox_call" "$build/tools/fake_vault" \
    "$build/tools/vault_call" "$build/tools/egress_load" \
    "$build/tools/vault_load" \
    "$build/tools/launcher_bench" "$build/tools/spawn_bench" \
    "$build/tools/rules_scan"
mkdir -p "$out"
[ $# -gt 0 ] || set -- sandbox platform brain egress vault rules
for p; do
    : >"$figures"
    case $p in
    sandbox) OUT=$out python3 tests/bench/sandbox_bench.py "${SANDBOX_ROUNDS:-200}" ;;
    platform) python3 tests/bench/platform_bench.py ;;
    brain) python3 tests/bench/brain_bench.py ;;
    egress) python3 tests/bench/egress_bench.py ;;
    vault) python3 tests/bench/vault_bench.py &&
           python3 tests/bench/vault_authorize_bench.py ;;
    rules) python3 tests/bench/rules_bench.py ;;
    *) echo "run.sh: no part \"$p\"" >&2; exit 2 ;;
    esac | tee "$figures"
    python3 tests/bench/table.py "$p" <"$figures" >"$out/$p.md.new"
    mv "$out/$p.md.new" "$out/$p.md"
done
