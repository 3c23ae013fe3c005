"""What a sandbox is given and what it sees, looked at from inside as root and
as an ordinary user."""
import os
import select
import socket
import subprocess

from support import KEPT, ROOMY, USER, base, box_with_probe, pid_of, probe


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
    assert socket.gethostname() not in b.sh("uname -a; cat /etc/hostname "
                                            "2>/dev/null || true")
    b.fails("ls /proc/1/root/")
    b.destroy()


class OwnFileSystem(base.Launcher):
    """Workspaces and outputs on a file system that holds nothing else."""

    def arguments(self):
        mount = (f"mkdir -p {self.tmp}/own && mount -t tmpfs none "
                 f"{self.tmp}/own && mkdir {self.tmp}/own/output/"
                 f"{base.SESSION.decode()} -p && exec \"$@\"")
        return ["unshare", "-m", "sh", "-c", mount, "sh"] + [
            a.replace("-dir=" + self.tmp, "-dir=" + self.tmp + "/own")
            for a in super().arguments()]


def a_workspace_shows_its_id_and_no_path(l):
    """What mountinfo says of it, where its file system is its own."""
    b = l.create(1)
    b.attach()
    lines = [line.split() for line in b.sh("cat /proc/self/mountinfo").split(
        "\n")]
    seen = {f[4]: f[3] for f in lines if f[4].startswith("/workspace")}
    name = base.SESSION.decode()
    assert {k: v.split("/") for k, v in seen.items()} == {
        "/workspace": ["", "work", name],
        "/workspace/.output": ["", "output", name]}, seen
    assert l.tmp not in b.sh("cat /proc/self/mountinfo /proc/mounts")
    b.destroy()


a_workspace_shows_its_id_and_no_path.world = OwnFileSystem


def nothing_outside_is_called(l):
    """Abstract sockets and processes of the machine."""
    name = f"escape-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()
    b = box_with_probe(l)
    # Of the same user, so that only its place keeps a signal away.
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        for who in ("", USER):
            code, sig, out, errors = b.run(
                f"{who}/tmp/probe outside",
                env=(f"OUTSIDE_SOCKET={name}", f"OUTSIDE_PID={victim.pid}"))
            assert (code, sig, out) == (0, 0, ""), (who or "root", out, errors)
    finally:
        victim.kill()
        victim.wait()
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
    try:
        for who in ("", USER):
            assert b.sh(f"exec {who}python3 -", stdin=client.encode()) == "[]"
    finally:
        # Where they share what is the machine's, it goes with the test.
        subprocess.run("ipcrm -M 0x5eed -Q 0x5eed -S 0x5eed", shell=True,
                       stderr=subprocess.DEVNULL, check=False)
    # Every pid there is, but its own.
    b.sh("python3 -c 'import os\nfor p in range(2, 33000):\n"
         " try: p != os.getpid() and p != os.getppid() and os.kill(p, 9)\n"
         " except OSError: pass'")
    assert not select.select([a.pidfd], [], [], 0)[0], "killed from outside"
    # The workspace of another session by any path.
    b.fails("ls /workspace/../../*/neighbour")
    for x in (a, b):
        x.destroy()


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


TESTS = [
    capabilities_are_nine, nothing_raises_privileges, ids_are_of_no_one,
    only_six_device_nodes, nothing_inherited, probe("mounts"),
    probe("namespaces"), probe("kernel"), probe("other_abi"),
    probe("devices"), probe("sockets"), probe("tracing"), probe("rights"),
    probe("kernel_files"), probe("topology"), probe("any_device"),
    nothing_outside_is_called, a_workspace_shows_its_id_and_no_path,
    only_loopback,
    nothing_of_the_machine_is_mounted, other_sandboxes_are_not_there,
    init_cannot_be_turned]
