#!/usr/bin/env python3
"""kill_test.py for the clock that is set forward, which wants an instance of its
own (faults.clock_env)."""
import os
import sys

os.environ["FAULTS"] = "clock"
os.execv(sys.executable, [sys.executable, os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "kill_test.py")])
