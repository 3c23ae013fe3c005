"""What the cases share: a sandbox with the probe inside, and another user."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
import sandbox_launcher_test as base  # noqa: E402
import sandbox_svc_test as svc  # noqa: E402

MB = base.MB
KEPT = "00000000a00000fb"
ROOMY = (512 * base.MB, 1000, 128, 128 * base.MB, 16384, 256)
USER = "setpriv --reuid=33 --regid=33 --clear-groups --inh-caps=-all "
session = svc.session


def pid_of(box):
    with open(f"/proc/self/fdinfo/{box.pidfd}") as f:
        return int([line for line in f if line.startswith("Pid:")][0].split(
            )[1])


def box_with_probe(l, n=1):
    b = l.create(n, ROOMY)
    b.attach(b"sesn_%026d" % n)
    with open(f"{HERE}/probe.c", "rb") as f:
        b.sh("cat > /tmp/probe.c && gcc -O1 -D_GNU_SOURCE -o /tmp/probe "
             "/tmp/probe.c && chmod 755 /tmp/probe", stdin=f.read())
    return b


def probe(check):
    """A test that runs one check of probe.c, as root and as a user."""
    def test(l):
        b = box_with_probe(l)
        for who in ("", USER):
            code, sig, out, errors = b.run(f"{who}/tmp/probe {check}")
            assert (code, sig, out, errors) == (0, 0, "", ""), (
                who or "root", code, sig, out, errors)
        b.destroy()
    test.__name__ = "refused_" + check
    return test
