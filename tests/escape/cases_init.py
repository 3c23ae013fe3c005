"""An init that was taken over, and lies: the service tells what it gets, ends the
sandbox, and goes on for its neighbours."""
import os
import subprocess
import threading
import time

from support import HERE, base, session, svc


class Hostile(svc.Stack):
    def arguments(self):
        program = f"{self.tmp}/hostile_init"
        subprocess.run(["gcc", "-static", "-O1", "-w", "-D_GNU_SOURCE",
                        f"-I{base.ROOT}", "-o", program,
                        f"{HERE}/hostile_init.c"], check=True)
        return super().arguments() + [f"--init={program}"]


def logged(w, *words):
    with open(f"{w.tmp}/log") as f:
        return [line for line in f if all(x in line for x in words)]


def descriptors(w):
    return len(os.listdir(f"/proc/{w.svc.pid}/fd"))


def lies(how, event='"sandbox.misbehaved"', words=()):
    """A test in which one init misbehaves while a neighbour works."""
    def test(w):
        a, b = session(), session()
        first = w.provision(a)["sandbox_id"]
        w.provision(b)
        assert w.execute(b, "c0", "echo fine")[1] == "fine\n"
        ends = []
        t = threading.Thread(target=lambda: ends.append(w.execute(
            a, "hostile", f": HOSTILE {how}", "timeout_seconds=2",
            "@timeout_ms=20000")[0]))
        t.start()
        n = 0
        while t.is_alive() or n < 3:
            begun = time.monotonic()
            r, out, _ = w.execute(b, f"n{n}", "echo fine", "@timeout_ms=8000")
            assert (r.get("outcome"), out) == ("EXITED", "fine\n"), (n, r)
            assert time.monotonic() - begun < 5
            n += 1
        t.join()
        assert ends[0]["outcome"] in ("UNKNOWN", "TIMED_OUT"), ends
        svc.wait_for(lambda: logged(w, event, *words))
        svc.wait_for(lambda: first not in w.boxes())
        e = w.execute(a, "after", "true")[0]
        assert e["error"] == "precondition" and "has ended" in e["message"], e
        # The session goes on with another one.
        p = w.provision(a)
        assert p.get("sandbox_id", first) != first, p
        assert w.execute(a, "again", "echo on")[1] == "on\n"
        assert w.svc.poll() is None and descriptors(w) < 100
    test.__name__ = "init_lies_" + how
    test.world = Hostile
    return test


def an_init_cannot_answer_in_the_name_of_another(w):
    """What it says of commands it does not run changes no result."""
    a, b = session(), session()
    w.provision(a)
    w.provision(b)
    ends = []
    t = threading.Thread(target=lambda: ends.append(w.execute(
        b, "c1", "sleep 2; exit 5")[0]))
    t.start()
    w.execute(a, "hostile", ": HOSTILE other_runs", "timeout_seconds=1")
    t.join()
    assert (ends[0]["outcome"], ends[0]["exit_code"]) == ("EXITED", 5), ends


an_init_cannot_answer_in_the_name_of_another.world = Hostile

TESTS = [lies("short", words=["packet of 10 bytes"]),
         lies("long", words=["too many bytes"]),
         lies("magic", words=["wrong magic"]),
         lies("type", words=["unknown message"]),
         lies("values", words=["with values 9999"]),
         lies("no_run", words=["of no request"]),
         lies("exits", event='"sandbox.died"'),
         lies("other_runs", words=["more than was asked"]),
         lies("flood", words=["more than was asked"]),
         lies("descriptors", event='"sandbox.ending"'),
         lies("lingers", event='"command.unkillable"'),
         lies("silent", event='"command.unkillable"'),
         an_init_cannot_answer_in_the_name_of_another]
