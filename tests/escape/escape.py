#!/usr/bin/python3
"""Attempts to get out of a sandbox, to see another one, or to take the machine
along: one named test each, in real sandboxes. docs/sandbox.md lists them.

    tests/escape/escape.py [NAME...]
    tests/escape/escape.py --without-each

The probes (probe.c) are compiled inside and run as root inside and as an
ordinary user. Needs root and a base image, as
tests/integration/sandbox_launcher_test.py.
"""
import os
import select
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
import sandbox_launcher_test as base  # noqa: E402
import sandbox_svc_test as svc  # noqa: E402

ROOMY = (512 * base.MB, 1000, 128, 128 * base.MB, 256)
USER = "setpriv --reuid=33 --regid=33 --clear-groups --inh-caps=-all "
KEPT = "00000000a00000fb"
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


# ------------------------------------------------------ what it is given ----

def capabilities_are_nine(l):
    b = l.create(1)
    def of(who):
        lines = b.sh(f"{who}grep ^Cap /proc/self/status").split()
        return dict(zip(lines[::2], lines[1::2]))
    root, user = of(""), of(USER)
    assert root["CapEff:"] == root["CapPrm:"] == root["CapBnd:"] == KEPT, root
    assert int(root["CapInh:"], 16) == int(root["CapAmb:"], 16) == 0, root
    assert int(user["CapEff:"], 16) == int(user["CapPrm:"], 16) == 0, user
    assert user["CapBnd:"] == KEPT, user
    b.destroy()


def nothing_raises_privileges(l):
    b = l.create(1)
    for who in ("", USER):
        status = b.sh(f"{who}grep -E '^(NoNewPrivs|Seccomp|Seccomp_filters):' "
                      "/proc/self/status").split()
        assert status[1::2] == ["1", "2", "1"], status
    b.sh("cp /usr/bin/id /tmp/id && chmod 6755 /tmp/id; cp /usr/bin/id "
         "/dev/shm/id && chmod 6755 /dev/shm/id")
    for path in ("/tmp/id", "/dev/shm/id"):
        assert b.sh(f"{USER}{path} -u") == "33"
    b.sh("command -v setcap && setcap cap_sys_admin+ep /tmp/id || true")
    b.destroy()


def ids_are_of_no_one(l):
    b = l.create(1)
    line = b.sh("cat /proc/self/uid_map; cat /proc/self/gid_map").split()
    assert line[0] == "0" and int(line[1]) >= 100000, line
    assert line[1:3] == line[4:6] and line[2] == "65536", line
    b.sh("touch /tmp/x; chown 65535:65535 /tmp/x")
    b.fails("chown 65536 /tmp/x")
    st = os.stat(f"/proc/{pid_of(b)}/root/tmp/x")
    assert st.st_uid == int(line[1]) + 65535, st
    # And nobody else's: two sandboxes have different ranges.
    other = l.create(2)
    assert other.sh("cat /proc/self/uid_map").split()[1] != line[1]
    b.destroy()
    other.destroy()


def only_six_device_nodes(l):
    b = l.create(1)
    out = b.sh("find /dev -xdev \\( -type c -o -type b \\) -printf "
               "'%f %y %m\\n' | sort")
    assert out == "\n".join(f"{n} c 666" for n in (
        "full", "null", "random", "tty", "urandom", "zero")), out
    assert "Read-only" in b.fails("touch /dev/x")
    b.fails("rm -f /dev/null")
    b.fails("chmod 600 /dev/null")
    # Nothing that is mounted lets a node work, were one there.
    with open(f"/proc/{pid_of(b)}/mountinfo") as f:
        for line in f:
            fields = line.split()
            assert fields[4] in ("/dev", "/dev/pts") or "nodev" in \
                fields[5].split(","), line
            assert "nosuid" in fields[5].split(","), line
    b.destroy()


def nothing_inherited(l):
    b = box_with_probe(l)
    for who in ("", USER):
        assert b.sh(f"{who}/tmp/probe descriptors") == ""
    fds = {os.readlink(f"/proc/{pid_of(b)}/fd/{n}")
           for n in os.listdir(f"/proc/{pid_of(b)}/fd")}
    assert all(f == "/dev/null" or f.startswith(("socket:", "anon_inode:["))
               for f in fds), fds
    with open(f"/proc/{pid_of(b)}/environ") as f:
        assert f.read() == ""
    b.destroy()


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


# --------------------------------------------------------- what it sees ----

def only_loopback(l):
    b = l.create(1)
    assert b.sh("ls /proc/sys/net/ipv4/conf | sort").split() == [
        "all", "default", "lo"]
    assert b.sh("ip -o link | wc -l") == "1"
    # A route to the machine or further: none.
    assert b.sh("ip route; ip -6 route show default") == ""
    b.fails("ip link add d0 type dummy")
    b.fails("ip addr add 10.9.9.9/8 dev lo")
    b.fails("ip route add default dev lo")
    b.fails("nft list ruleset")
    b.fails("iptables -F")
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0escape-{os.getpid()}")
    abstract.listen()
    tcp = socket.create_server(("127.0.0.1", 0))
    py = "python3 -c \"import socket; socket.socket(socket.%s).connect(%s)\""
    assert "refused" in b.fails(py % (
        "AF_UNIX", f"'\\0escape-{os.getpid()}'"))
    assert "refused" in b.fails(py % (
        "AF_INET", f"('127.0.0.1', {tcp.getsockname()[1]})"))
    b.destroy()


def nothing_of_the_machine_is_mounted(l):
    b = l.create(1)
    b.attach()
    lines = [line.split() for line in b.sh("cat /proc/self/mountinfo").split(
        "\n")]
    seen = {f[4]: (f[3], f[f.index("-") + 1]) for f in lines}
    assert set(seen) == {"/", "/dev", "/dev/pts", "/dev/shm", "/proc",
                         "/workspace", "/workspace/.output"}, seen
    for at, (root, kind) in seen.items():
        if at.startswith("/workspace"):
            continue
        assert root in ("/", "/root"), seen
        assert kind in ("overlay", "tmpfs", "devpts", "proc"), seen
    assert b.sh("ls -A /sys /mnt /media /srv; ls -A /boot") .replace(
        "\n", "").replace("/sys:", "").replace("/mnt:", "").replace(
            "/media:", "").replace("/srv:", "") == ""
    assert b.sh("cat /proc/self/cgroup | cut -d: -f3 | sort -u") == "/"
    machine = socket.gethostname()
    assert b.sh("hostname; cat /etc/hostname 2>/dev/null || true").split()[
        0] == "sandbox" and (machine == "sandbox"
                             or machine not in b.sh("uname -a"))
    b.fails("ls /proc/1/root/")
    b.destroy()


def other_sandboxes_are_not_there(l):
    a, b = l.create(1, ROOMY), l.create(2, ROOMY)
    a.attach(b"sesn_" + b"1" * 26)
    b.attach(b"sesn_" + b"2" * 26)
    server = """
import ctypes, mmap, os, socket, time
s = socket.socket(socket.AF_UNIX); s.bind('\\0neighbour'); s.listen()
t = socket.create_server(('127.0.0.1', 7777))
c = ctypes.CDLL(None)
assert c.shmget(0x5eed, 4096, 0o1666) >= 0
assert c.msgget(0x5eed, 0o1666) >= 0
assert c.semget(0x5eed, 1, 0o1666) >= 0
open('/dev/shm/neighbour', 'w').write('x')
open('/tmp/neighbour', 'w').write('x')
open('/workspace/neighbour', 'w').write('x')
os.write(1, b'up')
time.sleep(60)
"""
    a.start("exec python3 -", stdin=server.encode())
    assert a.event()[0] == base.STARTED
    assert os.read(a.pipes[0], 10) == b"up"
    client = """
import ctypes, os, socket, sys
c = ctypes.CDLL(None)
seen = []
for name, f in (('abstract socket', lambda: socket.socket(
                    socket.AF_UNIX).connect('\\0neighbour')),
                ('loopback port', lambda: socket.create_connection(
                    ('127.0.0.1', 7777), 1)),
                ('/dev/shm', lambda: os.stat('/dev/shm/neighbour')),
                ('/tmp', lambda: os.stat('/tmp/neighbour')),
                ('/workspace', lambda: os.stat('/workspace/neighbour'))):
    try:
        f()
        seen.append(name)
    except OSError:
        pass
for name, rc in (('shm', c.shmget(0x5eed, 4096, 0)),
                 ('msg', c.msgget(0x5eed, 0)), ('sem', c.semget(0x5eed, 1, 0)),
                 ('keyring', c.syscall(250, 0, -3, 0))):
    if rc >= 0:
        seen.append(name)
pids = [p for p in os.listdir('/proc') if p.isdigit()]
for p in pids:
    try:
        if b'neighbour' in open('/proc/%s/cmdline' % p, 'rb').read():
            seen.append('process')
    except OSError:
        pass
if len(pids) > 3:
    seen.append('%d processes' % len(pids))
print(seen)
"""
    for who in ("", USER):
        assert b.sh(f"exec {who}python3 -", stdin=client.encode()) == "[]"
    # Every pid there is, but its own.
    b.sh("python3 -c 'import os\nfor p in range(2, 33000):\n"
         " try: p != os.getpid() and p != os.getppid() and os.kill(p, 9)\n"
         " except OSError: pass'")
    assert not select.select([a.pidfd], [], [], 0)[0], "killed from outside"
    # The workspace of another session by any path.
    b.fails("ls /workspace/../../*/neighbour")
    for x in (a, b):
        x.destroy()


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


# ------------------------------------------------------------ the hogs ----

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
    test.options = ["--memory-mib=128", "--pids=64", "--disk-mib=64",
                    "--open-files=256", "--output-file-mib=8"]
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
for name in ("fork_bomb", "memory_hog", "memory_hog_in_files", "disk_fill",
             "inode_fill", "cpu_spin", "output_flood", "descriptor_hog",
             "socket_hog", "connection_hog"):
    globals()[name].__name__ = name


def init_cannot_be_turned(l):
    """Pid 1 inside outlives what is done to it, or goes with all."""
    b = l.create(1)
    for sig in (1, 2, 9, 11, 15, 19):
        b.run(f"kill -{sig} 1")
    assert b.sh("echo alive") == "alive"
    # Its children cannot speak in its name.
    b.fails("python3 -c 'import os; os.write(3, b\"x\" * 20)'")
    b.fails("ls -l /proc/1/fd/3")
    b.destroy()


LAUNCHER_TESTS = [
    capabilities_are_nine, nothing_raises_privileges, ids_are_of_no_one,
    only_six_device_nodes, nothing_inherited, probe("mounts"),
    probe("namespaces"), probe("kernel"), probe("other_abi"),
    probe("devices"), probe("sockets"), probe("tracing"), probe("rights"),
    probe("kernel_files"), only_loopback, nothing_of_the_machine_is_mounted,
    other_sandboxes_are_not_there, init_cannot_be_turned]
SERVICE_TESTS = [
    no_secret_of_the_services, links_lead_nowhere,
    renames_race_with_the_next_turn,
    workspaces_are_closed_to_users_of_the_machine, fork_bomb, memory_hog,
    memory_hog_in_files, disk_fill, inode_fill, cpu_spin, output_flood,
    descriptor_hog, socket_hog, connection_hog]


# What only one defence decides: it must fail without that one.
DECIDED_BY = {
    "capabilities": ["capabilities_are_nine", "refused_mounts"],
    "no_new_privs,seccomp": ["nothing_raises_privileges"],
    "seccomp": ["refused_namespaces", "refused_kernel", "refused_other_abi",
                "refused_sockets"],
    "user_namespace": ["ids_are_of_no_one"],
    "mount_flags": ["only_six_device_nodes"],
    "dev_read_only": ["only_six_device_nodes"],
    "work_mode": ["workspaces_are_closed_to_users_of_the_machine"],
}


def without_each():
    """Runs this file again without each defence, in a build that can."""
    missed = 0
    for defence, tests in DECIDED_BY.items():
        r = subprocess.run([sys.executable, __file__, *tests],
                           env={**os.environ, "SANDBOX_WITHOUT": defence},
                           capture_output=True, check=False)
        for test in tests:
            failed = f"FAIL {test}\n" in r.stdout.decode()
            missed += not failed
            print(f"{'ok  ' if failed else 'FAIL'} without {defence}: {test} "
                  f"{'fails' if failed else 'passes'}")
    n = sum(len(t) for t in DECIDED_BY.values())
    print(f"{n - missed} passed, {missed} failed")
    sys.exit(1 if missed else 0)


def main():
    if os.geteuid() != 0:
        sys.exit("tests of sandboxes need root")
    sys.stdout.reconfigure(line_buffering=True)
    os.environ["ESCAPE_SECRET"] = "bbsecret-from-the-service"
    base.make_image()
    if sys.argv[1:] == ["--without-each"]:
        without_each()
    names = set(sys.argv[1:])
    def wanted(tests):
        return [t for t in tests if not names or t.__name__ in names]
    unknown = names - {t.__name__ for t in LAUNCHER_TESTS + SERVICE_TESTS}
    if unknown:
        sys.exit(f"no test {', '.join(sorted(unknown))}")
    results = [base.run_one(t, base.Launcher) for t in wanted(LAUNCHER_TESTS)]
    if wanted(SERVICE_TESTS):
        svc.start_database()
        results += [base.run_one(t, svc.Stack) for t in wanted(SERVICE_TESTS)]
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
