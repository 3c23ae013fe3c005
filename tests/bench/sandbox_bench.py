#!/usr/bin/python3
"""Times of provision and execute over gRPC, with a real launcher, bridge and
PostgreSQL and a fake vault.

    tests/bench/sandbox_bench.py [ROUNDS]

Prints a line "figure NAME VALUE UNIT" for each. Needs root and a base image, as
tests/integration/sandbox_launcher_test.py.
"""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
import sandbox_svc_test as svc  # noqa: E402


def main():
    rounds = sys.argv[1] if len(sys.argv) > 1 else "200"
    svc.base.make_image()
    svc.start_database()
    with tempfile.TemporaryDirectory(prefix="bb", dir="/tmp") as tmp:
        stack = svc.Stack(tmp)
        try:
            subprocess.run([f"{svc.TOOLS}/sandbox_bench",
                            f"unix:{tmp}/svc/s", rounds], check=True)
            stack.stop()
        finally:
            stack.kill()


if __name__ == "__main__":
    main()
