#!/usr/bin/env python3
"""tests/support/failures.awk: whatever ran a test that failed, its name and its
assertion are what tests/run.sh ends with."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ingress_support  # noqa: E402

AWK = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                   "../support/failures.awk")
CHAINED = '''ok      first (0.10 s)
FAILED  second_is_two
Traceback (most recent call last):
  File "/x/tests/e2e/bb.py", line 99, in open
    raise Refused(e.code)
bb.Refused: 404 {}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/x/tests/e2e/some_test.py", line 12, in second_is_two
    assert two == 2, two
           ^^^^^^^^
AssertionError: 3
1 passed, 1 failed
--- log/brain_svc/current
{"level":"warn","event":"x"}
'''
TAP = '''ok 1 - a wrong key is refused
not ok 2 - a turn can be interrupted
  ---
  duration_ms: 30009.1
  location: '/x/tests/e2e/dashboard_test.mjs:161:1'
  failureType: 'testCodeFailure'
  error: |-
    page.waitForFunction: Timeout 30000ms exceeded.
    Call log:
  code: 'ERR_TEST_FAILURE'
  ...
'''
CMOCKA = '''[ RUN      ] one_is_two
[  ERROR   ] --- 0x1 != 0x2
[   LINE   ] --- tests/unit/x_test.c:7: error: Failure!
[  FAILED  ] one_is_two
[==========] 1 test(s) run.
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] one_is_two
'''
UNITTEST = '''import unittest
class T(unittest.TestCase):
    def test_one(self):
        self.assertEqual(1, 2)
    def test_two(self):
        raise OSError("gone")
unittest.main()
'''


def failures(text):
    return subprocess.run(["awk", "-f", AWK], input=text, check=True,
                          capture_output=True, text=True).stdout.split("\n")


class Failures(unittest.TestCase):
    def test_python_test_is_named_with_its_assertion(self):
        self.assertEqual(failures(CHAINED), [
            "FAILED  second_is_two", "  bb.Refused: 404 {}",
            "    at bb.py:99: raise Refused(e.code)", "  AssertionError: 3",
            "    at some_test.py:12: assert two == 2, two", ""])

    def test_test_of_the_page_is_named_with_its_reason(self):
        self.assertEqual(failures(TAP)[:3], [
            "not ok 2 - a turn can be interrupted",
            "    at '/x/tests/e2e/dashboard_test.mjs:161:1'",
            "      page.waitForFunction: Timeout 30000ms exceeded."])

    def test_unit_test_is_named_behind_its_line(self):
        self.assertIn("[  FAILED  ] one_is_two", failures(CMOCKA))
        self.assertIn("x_test.c:7", failures(CMOCKA)[1])

    def test_unittest_names_failures_and_errors(self):
        p = subprocess.run([sys.executable, "-c", UNITTEST],
                           capture_output=True, text=True)
        got = "\n".join(failures(p.stderr))
        for words in ("FAIL: test_one", "AssertionError: 1 != 2",
                      "ERROR: test_two", "OSError: gone"):
            self.assertIn(words, got)

    def test_nothing_is_said_of_what_passed(self):
        self.assertEqual(failures("ok 1 - a\nok   b\n2 passed, 0 failed\n"),
                         [""])


if __name__ == "__main__":
    ingress_support.main()
