#!/usr/bin/env python3
"""kill_test.py for the clock that is set forward, which wants an instance of its
own (faults.clock_env)."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import bb  # noqa: E402

if bb.SANITIZED:
    print("skip    the clock: nginx hangs with libfaketime and ASan's runtime")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
os.environ["FAULTS"] = "clock"
os.execv(sys.executable, [sys.executable, HERE + "/kill_test.py"])
