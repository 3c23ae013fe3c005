#!/usr/bin/env python3
"""The rule set (vault_svc/rules.conf): how fast a core reads with it, and what
it finds in files that hold no credential. The corpus is what a machine has
anyway: C headers, Python and Perl libraries, packages' documents, and this
project's own sources but for its tests."""
import os
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SCAN = os.environ.get("BRAINBOX_BUILD", ROOT + "/build/release") \
    + "/tools/rules_scan"
RULES = ROOT + "/vault_svc/rules.conf"
CORPUS = ["/usr/include", "/usr/share/doc", "/usr/share/perl",
          "/usr/lib/python3", ROOT + "/docs", ROOT + "/lib",
          ROOT + "/brain_svc", ROOT + "/sandbox_svc"]
# Keys that packages ship as examples are keys: found rightly.
KEYS = (".pem", ".key", ".p8")


def files():
    for top in CORPUS:
        for folder, _, names in os.walk(top):
            for n in names:
                path = os.path.join(folder, n)
                if os.path.isfile(path) and not os.path.islink(path) \
                        and 0 < os.path.getsize(path) < 4 << 20:
                    yield path


def scan(*args):
    return subprocess.run([SCAN, *args], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def main():
    paths = sorted(files())
    size = sum(os.path.getsize(p) for p in paths)
    found = []
    for at in range(0, len(paths), 500):
        found += scan(RULES, *paths[at:at + 500]).splitlines()
    wrong = [f for f in found if "(log)" not in f
             and not f.split(" ")[0].endswith(KEYS)]
    for f in found:
        print(f, file=sys.stderr)

    rates = []
    sample = paths[::max(1, len(paths) // 400)]
    for _ in range(5):
        n, seconds, _ = scan("-b", RULES, *sample).split()
        rates.append(int(n) / float(seconds) / 1e9)
    print("figure vault.rules_gb_s %.2f GB/s" % sorted(rates)[2])
    print("figure vault.rules_corpus_mb %.0f MB" % (size / 1e6))
    print("figure vault.rules_false_positives %d count" % len(wrong))
    print("figure vault.rules_noted %d count"
          % sum("(log)" in f for f in found))


if __name__ == "__main__":
    main()
