"""What the service and the launcher do with files of a sandbox, and what one
sandbox can do to its neighbour."""
import os
import stat
import subprocess
import threading
import time

from support import base, session, svc


# -------------------------------- what the service does with its files ----

def links_lead_nowhere(w):
    """Links and renames against what service and launcher do with files."""
    target = f"{w.tmp}/precious"
    os.mkdir(target)
    with open(f"{target}/f", "w") as f:
        f.write("kept")
    s = session()
    w.provision(s)
    r, _, _ = w.execute(s, "c1", f"ln -s {target} d; ln -s {target}/f f; "
                        f"ln -s / root; mv .output moved; rmdir .output; "
                        f"rm -rf .output; ln .output/x h; "
                        f"ln /etc/passwd hard; true")
    w.ask("end_turn", f"session_id={s}")
    work = f"{w.tmp}/work/{s}"
    assert os.path.isdir(f"{work}/.output"), os.listdir(work)
    assert not os.path.exists(f"{work}/hard")
    # What a sandbox that could replace it would leave for the next turn.
    os.rmdir(f"{work}/.output")
    os.symlink(target, f"{work}/.output")
    w.provision(s)
    r, out, _ = w.execute(s, "c2", "seq 100000; ls -ld .output; "
                          "echo gone > .output/f")
    assert r["exit_code"] != 0, r
    assert os.listdir(target) == ["f"]
    # Outputs are opened by name in a folder that the sandbox only reads.
    w.ask("end_turn", f"session_id={s}")
    assert w.ask("delete_workspace", f"session_id={s}") == [{}]
    with open(f"{target}/f") as f:
        assert f.read() == "kept"


def renames_race_with_the_next_turn(w):
    """Swaps a folder and a link while turns begin and end."""
    target = f"{w.tmp}/precious"
    os.mkdir(target)
    s = session()
    stop = threading.Event()
    work = f"{w.tmp}/work/{s}"

    def swap():
        while not stop.is_set():
            try:
                os.rename(f"{work}/.output", f"{work}/.o2")
                os.symlink(target, f"{work}/.output")
                time.sleep(0.001)
                os.unlink(f"{work}/.output")
                os.rename(f"{work}/.o2", f"{work}/.output")
            except OSError:
                pass
    t = threading.Thread(target=swap)
    t.start()
    for i in range(12):
        # Either a refusal or a sandbox, and in neither a way to the target.
        if "sandbox_id" in w.provision(s):
            w.execute(s, f"c{i}", "echo x > .output/x; rm -rf .output/*; "
                      "seq 30000")
        w.ask("end_turn", f"session_id={s}")
    stop.set()
    t.join()
    assert os.listdir(target) == []


def workspaces_are_closed_to_users_of_the_machine(w):
    s = session()
    w.provision(s)
    w.execute(s, "c1", "cp /bin/sh suid; chmod 6755 suid; chmod 777 .")
    path = f"{w.tmp}/work/{s}/suid"
    assert os.stat(path).st_mode & stat.S_ISUID
    r = subprocess.run(["runuser", "-u", "nobody", "--", path, "-c", "id"],
                       capture_output=True, check=False)
    assert r.returncode != 0 and b"denied" in r.stderr, r


def no_secret_of_the_services(w):
    s = session()
    w.provision(s)
    _, out, _ = w.execute(s, "c1", "env; cat /proc/*/environ 2>/dev/null; "
                          "grep -rs bbsecret /etc /root /run /tmp /var/lib "
                          "/workspace")
    assert "bbxsstub" in out, out
    assert "from-the-service" not in out, out
    names = {line.split("=")[0] for line in out.split("\n") if "=" in line}
    assert not [n for n in names if "PG" in n or "BRAINBOX" in n
                or "ESCAPE" in n], names


@svc.with_options("--output-file-mib=8")
def output_is_limited(w):
    s = session()
    w.provision(s)
    r = w.ask("execute", f"session_id={s}", "call_id=c1",
              "command=head -c 20M /dev/zero")[-1]["result"]
    assert (r["outcome"], r["limit"]) == ("LIMIT_REACHED", "output"), r
    assert os.path.getsize(f"{w.tmp}/output/{s}/c1.out") == 8 << 20


# ------------------------------------------------------------ the hogs ----

HOG_OPTIONS = ["--memory-mib=128", "--pids=64", "--disk-mib=64",
               "--disk-inodes=16384", "--open-files=256",
               "--output-file-mib=8"]


def hog(command, limit=None, code=None, **options):
    """Runs `command` in one session and looks after a neighbour meanwhile."""
    def test(w):
        a, b = session(), session()
        w.provision(a)
        w.provision(b)
        ends = []
        t = threading.Thread(target=lambda: ends.append(w.execute(
            a, "hog", command, "timeout_seconds=20")[0]))
        t.start()
        slowest = n = 0
        while t.is_alive() and n < 200:
            begun = time.monotonic()
            r, out, _ = w.execute(b, f"c{n}", "echo fine")
            slowest = max(slowest, time.monotonic() - begun)
            assert (r["outcome"], out) == ("EXITED", "fine\n"), r
            n += 1
            time.sleep(0.05)
        t.join()
        r = ends[0]
        print(f"     {n} commands of a neighbour, slowest "
              f"{slowest * 1000:.0f} ms; hog: {r['outcome']} {r['limit']}")
        assert n > 0 and slowest < 5, slowest
        if limit is not None:
            assert (r["outcome"], r["limit"]) == ("LIMIT_REACHED", limit), r
        if code is not None:
            assert (r["outcome"], r["exit_code"]) == ("EXITED", code), r
        # Its sandbox can be used, or replaced, and nothing is left of it.
        r, out, _ = w.execute(a, "after", "echo alive")
        assert out == "alive\n", r
        w.ask("end_turn", f"session_id={a}")
    test.options = HOG_OPTIONS
    test.command = command
    return test


fork_bomb = hog(svc.FORK_BOMB + " sleep 60", limit="pids")
memory_hog = hog("python3 -c 'x = b\"a\" * (500 << 20)'", limit="memory")
memory_hog_in_files = hog("head -c 500M /dev/zero > /dev/shm/x; rm /dev/shm/x;"
                          " exit 0", code=None)
disk_fill = hog("head -c 200M /dev/zero > /root/x && exit 9; rm /root/x; "
                "exit 7", code=7)
inode_fill = hog("cd /root; python3 -c '\nfor i in range(40000): "
                 "open(\"f%d\" % i, \"w\")' 2>&1 | grep -q 'No space' && "
                 "rm -f f* && exit 7", code=7)
cpu_spin = hog("for i in 1 2 3 4 5 6; do while :; do :; done & done; sleep 3; "
               "kill $(jobs -p); exit 7", code=7)
output_flood = hog("yes", limit="output")
descriptor_hog = hog("python3 -c '\nimport os\nl = []\ntry:\n while True: "
                     "l.append(os.open(\"/dev/null\", 0))\nexcept OSError as "
                     "e: os._exit(7 if len(l) < 256 else 1)'", code=7)
socket_hog = hog("python3 -c '\nimport os, socket\nl = []\ntry:\n while True:"
                 " l.append(socket.socketpair())\nexcept OSError: os._exit(7)'",
                 code=7)
connection_hog = hog("python3 -c '\nimport os, socket\nl = []\ntry:\n"
                     " for i in range(240):\n"
                     "  s = socket.socket(); s.settimeout(2)\n"
                     "  s.connect((\"198.18.3.4\", 443)); l.append(s)\n"
                     "except OSError: pass\nos._exit(7)'", code=7)
# Their commands by name, for tests/bench too.
HOGS = {}
for name in ("fork_bomb", "memory_hog", "memory_hog_in_files", "disk_fill",
             "inode_fill", "cpu_spin", "output_flood", "descriptor_hog",
             "socket_hog", "connection_hog"):
    globals()[name].__name__ = name
    HOGS[name] = globals()[name].command


TESTS = [
    no_secret_of_the_services, links_lead_nowhere,
    renames_race_with_the_next_turn,
    workspaces_are_closed_to_users_of_the_machine, output_is_limited, fork_bomb, memory_hog,
    memory_hog_in_files, disk_fill, inode_fill, cpu_spin, output_flood,
    descriptor_hog, socket_hog, connection_hog]
