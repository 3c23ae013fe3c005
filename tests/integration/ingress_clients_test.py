#!/usr/bin/env python3
"""Published clients against ingress with fake_brain: the SDK and the
dashboard in chromium, with the scripts that the whole platform is tested by
too. Runs `npm ci` in tests/e2e when that was not done."""
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingress_support import ROOT, Ingress, main  # noqa: E402

E2E = os.path.join(ROOT, "tests/e2e")
NODE = os.path.join(E2E, "node_modules/.bin/node")


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not os.path.exists(NODE):
            out = subprocess.run(["npm", "ci", "--no-progress"], cwd=E2E,
                                 capture_output=True, text=True)
            if not os.path.exists(NODE):
                raise unittest.SkipTest("npm ci in tests/e2e did not work: "
                                        + out.stderr[-200:])
        cls.i = Ingress()

    @classmethod
    def tearDownClass(cls):
        cls.i.stop()

    def node(self, script):
        env = dict(os.environ, BRAINBOX_URL=f"http://127.0.0.1:{self.i.port}",
                   BRAINBOX_KEY="key-good")
        env.pop("LD_PRELOAD", None)
        out = subprocess.run([NODE, "--test-reporter=tap", script], cwd=E2E,
                             env=env, capture_output=True, text=True,
                             timeout=240)
        self.assertEqual(out.returncode, 0, out.stdout + out.stderr)
        self.assertIn("# fail 0", out.stdout)
        self.assertNotIn("# pass 0", out.stdout)

    def test_the_published_sdk_works_unmodified(self):
        self.node("sdk_test.mjs")

    @unittest.skipUnless(shutil.which("chromium"), "chromium is missing")
    def test_the_dashboard_works_in_a_browser(self):
        self.node("dashboard_test.mjs")


if __name__ == "__main__":
    main()
