#!/usr/bin/env python3
"""`make attack-without`: each defence left out fails the cases that it decides.

usage: without.py [DEFENCE ...]     only these lines of the table

Runs attack.py with programs of a test build that leave defences out, once for
each line of DECIDES; a line fails when one of its cases still passes. Where a
line has several defences they cover for each other, and the cases must pass
without the last one alone.
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# defence: (where, cases that fail without it)
DECIDES = {
    "network_policy": ("vault", "1"),
    "bound_host": ("vault", "1 2"),
    "declared_slot": ("vault", "18 50"),
    "clear_text": ("vault", "11"),
    "clear_text,clear_text_again": ("vault, module", "11"),
    "wildcard_depth": ("vault", "9"),
    "public_suffix": ("vault", "9"),
    "control_characters": ("vault", "27"),
    "stub_length": ("vault", "43"),
    "credential_required": ("vault", "47"),
    "method_scope": ("vault", "48"),
    "path_scope": ("vault", "48"),
    "path_form": ("vault", "48"),
    "bridge_sni": ("bridge", "3 3b 4"),
    "bridge_host": ("bridge", "3c 11"),
    "sni_agrees": ("module", "5"),
    "line_agrees": ("module", "6"),
    "port_agrees": ("module", "10"),
    "public_address": ("module", "15"),
    "public_address,own_address": ("module", "14"),
    "own_address": ("module", "15"),
    "certificates": ("module", "16"),
    "stub_hidden": ("module", "20 21"),
    "scan_body": ("module", "22"),
    "scan_messages": ("module", "24b"),
    "long_body": ("module", "50b"),
    "query_twice": ("module", "50b"),
    "second_slot": ("module", "47"),
    "override": ("module", "48"),
    "upgrade": ("module", "24 46"),
    "range": ("module", "45b"),
    "readable": ("module", "38"),
    "scrub_headers": ("module", "12 37"),
    "scrub_body": ("module", "37 45"),
    "hold_back": ("module", "37"),
    "scrub_escapes": ("module", "39"),
    "scrub_base64": ("module", "39"),
    "scrub_hex": ("module", "39"),
    "log_guard": ("module", "42"),
    "mint": ("module", "44"),
    "dumpable": ("module", "42"),
    "outbound_known": ("module", "59"),
    "outbound_shape": ("module", "59b"),
    "net_namespace,service_network": ("launcher, supervisor", "66"),
    "service_network": ("supervisor", "67 68 69"),
    "caller_folders": ("supervisor", "69"),
    "deployment_list": ("deployment.conf", "68"),
}


def run(without, cases):
    """{case: verdict} of a run."""
    p = subprocess.run(
        [sys.executable, HERE + "/attack.py", *cases],
        env=dict(os.environ, ATTACK_WITHOUT=without, ATTACK_EXACT="1"),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        timeout=600)
    return dict(re.findall(r"(?m)^ *(\w+)  .*  (pass|FAILED|LEAK|skip)$",
                           p.stdout))


def line(without):
    """What a line shows, and whether it is right."""
    where, cases = DECIDES[without][0], DECIDES[without][1].split()
    got = run(without, cases)
    good = all(got.get(c) in ("LEAK", "FAILED") for c in cases)
    if "," in without:
        alone = run(without.rpartition(",")[2], cases)
        good = good and all(alone.get(c) == "pass" for c in cases)
    text = ", ".join(f"{c} {got.get(c, 'did not run')}" for c in cases)
    return f"{without:<28} {where:<14} {text}", good


def main():
    passed, failed = 0, 0
    for without in sys.argv[1:] or DECIDES:
        text, good = line(without)
        print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
