#!/usr/bin/env python3
"""Published clients against the whole platform: the npm SDK, and the dashboard
in a real browser (tests/e2e/*_test.mjs)."""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import bb  # noqa: E402


def install():
    if os.path.exists(HERE + "/node_modules/.package-lock.json"):
        return
    p = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE,
                       capture_output=True, text=True)
    if p.returncode != 0:
        sys.exit(f"npm ci: {p.stdout[-2000:]}{p.stderr[-2000:]}")


def node():
    """Node 22 as its npm package brings it; Debian's own is too old."""
    for path in ("node_modules/node/bin/node",
                 "node_modules/.bin/node"):
        if os.access(f"{HERE}/{path}", os.X_OK):
            return f"{HERE}/{path}"
    return "node"


def main():
    if not os.environ.get("BRAINBOX_HOSTS"):
        install()
    p = bb.enter(os.path.abspath(__file__))
    p.environment()
    passed = failed = 0
    for name in ("sdk_test.mjs", "dashboard_test.mjs"):
        r = subprocess.run([node(), "--test", "--test-reporter=tap", name],
                           cwd=HERE, capture_output=True, text=True,
                           timeout=400)
        ok = int((re.findall(r"^# pass (\d+)", r.stdout, re.M) or [0])[-1])
        bad = int((re.findall(r"^# fail (\d+)", r.stdout, re.M) or [1])[-1])
        bad = bad or (1 if r.returncode != 0 or ok == 0 else 0)
        passed, failed = passed + ok, failed + bad
        print(f"{'ok     ' if not bad else 'FAILED '} {name}: {ok} passed, "
              f"{bad} failed")
        if bad:
            print(r.stdout[-60000:], r.stderr[-3000:])
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
