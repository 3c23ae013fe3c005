#!/usr/bin/python3
"""The real launcher and init, driven over their sockets.

Needs root and a base image: SANDBOX_IMAGES (default build/images) holds it or
gets it by sandbox_svc/image.sh. Prints one line a test and ends with 1 when one
failed. Names of tests may be given as arguments.
"""
import array
import grp
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
BUILD = os.environ.get("BRAINBOX_BUILD", f"{ROOT}/build/release")
BIN = f"{BUILD}/bin"
IMAGES = os.environ.get("SANDBOX_IMAGES", f"{ROOT}/build/images")

MAGIC = 0x61676c31
CREATE, ATTACH, DESTROY, LIST, WIPE, MEASURE = 1, 2, 3, 4, 5, 6
REQUEST = struct.Struct("<IIQ40s40s64s6q")
REPLY = struct.Struct("<IIQii40s48s160s2q")
INIT_MAGIC = 0x74696e62
HEAD = struct.Struct("<IIIii")
ARM, KILL, PUT = 1, 2, 3
STARTED, EXITED, FAILED, KILLED, PUT_DONE, FULL = 65, 66, 67, 68, 69, 70
MB = 1 << 20
LIMITS = (256 * MB, 1000, 64, 64 * MB, 16384, 256)
SESSION = b"sesn_" + b"0" * 26


def sbx(n):
    return b"sbx_" + b"%026d" % n


class Launcher:
    @classmethod
    def for_test(cls, test):
        return getattr(test, "world", cls)

    def __init__(self, tmp):
        self.tmp = tmp
        self.instance = "t" + os.path.basename(tmp)[-6:]
        # As the supervisor makes it: the folder lets the client's group in.
        os.mkdir(f"{tmp}/l", 0o710)
        os.chown(f"{tmp}/l", 0, grp.getgrnam("nogroup").gr_gid)
        self.sock_path = f"{tmp}/l/s"
        self.log = open(f"{tmp}/log", "ab")
        self.start()

    def start(self):
        self.proc = subprocess.Popen(self.arguments(), stderr=self.log)
        self.connect()

    def arguments(self):
        return [f"{BIN}/sandbox_launcher", f"--listen={self.sock_path}",
                f"--image-dir={IMAGES}", f"--work-dir={self.tmp}/work",
                f"--output-dir={self.tmp}/output",
                f"--instance={self.instance}"]

    def connect(self):
        for _ in range(200):
            try:
                self.sock = socket.socket(socket.AF_UNIX,
                                          socket.SOCK_SEQPACKET)
                self.sock.connect(self.sock_path)
                self.sock.settimeout(15)
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("launcher does not listen; see log")

    def ask(self, kind, sandbox=b"", session=b"", image=b"",
            limits=(0, 0, 0, 0, 0, 0)):
        self.sock.send(REQUEST.pack(MAGIC, kind, 7, sandbox, session, image,
                                    *limits))
        return self.reply()

    def reply(self):
        data, anc, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(32))
        fds = array.array("i")
        for _, _, d in anc:
            fds.frombytes(d)
        f = REPLY.unpack(data)
        return {"type": f[1], "error": f[3], "id": f[5].rstrip(b"\0"),
                "address": f[6].rstrip(b"\0").decode(),
                "text": f[7].rstrip(b"\0").decode(), "bytes": f[8],
                "inodes": f[9],
                "fds": list(fds)}

    def create(self, n, limits=LIMITS):
        r = self.ask(CREATE, sbx(n), image=b"base", limits=limits)
        assert r["error"] == 0, r
        return Box(self, sbx(n), r)

    def groups(self):
        return [f"/sys/fs/cgroup/{c}/brainbox-{self.instance}"
                for c in ("memory", "pids", "cpu")]

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        code = self.proc.wait(15)
        assert code == 0, f"launcher ended with {code}"
        assert not any(os.path.exists(g) for g in self.groups()), "cgroups left"

    def kill_groups(self):
        """What a sandbox without a pid namespace leaves."""
        for group in self.groups():
            for d, _, _ in os.walk(group):
                try:
                    with open(f"{d}/cgroup.procs") as f:
                        for pid in f:
                            os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass

    def kill(self):
        """After a failure: its sandboxes die with it, and leave groups."""
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        for _ in range(100):
            self.kill_groups()
            left = [os.path.join(d, e) for g in self.groups()
                    if os.path.isdir(g) for d, sub, _ in os.walk(g)
                    for e in sub] + self.groups()
            for path in left:
                try:
                    os.rmdir(path)
                except OSError:
                    pass
            if not any(os.path.isdir(g) for g in self.groups()):
                return
            time.sleep(0.02)


class Box:
    """One sandbox and its init."""

    def __init__(self, launcher, name, reply):
        self.launcher, self.name = launcher, name
        self.address = reply["address"]
        self.pidfd, init, self.memory, self.pids = reply["fds"]
        self.init = socket.socket(fileno=init)
        self.init.settimeout(20)
        self.run_id = 0

    def attach(self, session=SESSION):
        os.makedirs(f"{self.launcher.tmp}/output/{session.decode()}",
                    exist_ok=True)
        r = self.launcher.ask(ATTACH, self.name, session)
        assert r["error"] == 0 and len(r["fds"]) == 1, r
        text = os.pread(r["fds"][0], 4096, 0)
        assert b"nr_throttled " in text, text
        os.close(r["fds"][0])

    def start(self, command, env=(), cwd="/workspace", stdin=b""):
        self.run_id += 1
        r0, w0 = os.pipe()
        r1, w1 = os.pipe()
        r2, w2 = os.pipe()
        script_r, script_w = os.pipe()
        inside = (r0, w1, w2, script_r)
        for fd in inside:
            os.fchmod(fd, 0o666)
        env = ("PATH=/usr/bin:/bin",) + tuple(env)
        body = b"".join(s.encode() + b"\0" for s in env)
        socket.send_fds(self.init, [HEAD.pack(INIT_MAGIC, ARM, self.run_id,
                                              len(env), 1) + body], inside)
        for fd in inside:
            os.close(fd)
        os.write(script_w, f"exec 9<&-\ncd {cwd}\n{command}\n".encode())
        os.close(script_w)
        os.write(w0, stdin)
        os.close(w0)
        self.pipes = [r1, r2]

    def event(self):
        m = HEAD.unpack(self.init.recv(4096))
        assert m[0] == INIT_MAGIC
        return m[1:]

    def run(self, command, **kw):
        """(exit code, signal, stdout, stderr)"""
        self.start(command, **kw)
        assert self.event()[0] == STARTED
        out = [b"", b""]
        open_fds = list(self.pipes)
        end = None
        while open_fds or end is None:
            ready, _, _ = select.select(open_fds + [self.init], [], [], 20)
            assert ready, "nothing happens"
            for fd in ready:
                if fd is self.init:
                    end = self.event()
                    if end[0] == FULL:
                        end = None
                        continue
                    assert end[0] == EXITED, end
                    continue
                data = os.read(fd, 65536)
                out[self.pipes.index(fd)] += data
                if not data:
                    open_fds.remove(fd)
        for fd in self.pipes:
            os.close(fd)
        return end[2], end[3], out[0].decode(), out[1].decode()

    def sh(self, command, **kw):
        """stdout of a command that must succeed"""
        code, sig, out, errors = self.run(command, **kw)
        assert (code, sig) == (0, 0), (command, code, sig, out, errors)
        return out.strip()

    def fails(self, command):
        code, sig, out, errors = self.run(command)
        assert code != 0 or sig != 0, (command, out, errors)
        return errors

    def destroy(self):
        r = self.launcher.ask(DESTROY, self.name)
        assert r["error"] == 0, r
        self.close()

    def close(self):
        self.init.close()
        for fd in (self.pidfd, self.memory, self.pids):
            os.close(fd)


# ---------------------------------------------------------------- tests ----

def runs_a_command_and_reports_its_end(l):
    b = l.create(1)
    assert b.run("echo out; echo err >&2; exit 3", cwd="/") == (
        3, 0, "out\n", "err\n")
    assert b.run("kill -9 $$")[:2] == (0, 9)
    assert b.sh("cat", stdin=b"given") == "given"
    assert b.sh("echo $A; env | wc -l", env=("A=b c",)).split("\n")[0] == "b c"
    assert b.sh("echo x > /dev/stdout") == "x"
    b.destroy()


def looks_like_a_machine_of_its_own(l):
    b = l.create(1)
    assert b.sh("id -u; id -g; hostname; ls /proc | grep -c '^[0-9]'").split(
        "\n")[:3] == ["0", "0", "sandbox"]
    assert "gcc" in b.sh("which gcc make git curl python3 node")
    assert b.sh("stat -c %u /etc/passwd /root /tmp").split() == ["0"] * 3
    assert b.sh("cat /proc/mounts | wc -l") == "5", b.sh("cat /proc/mounts")
    # Pid 1 cannot be looked into, nor traced.
    b.fails("readlink /proc/1/exe")
    b.fails("cat /proc/1/environ")
    b.fails("python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None)."
            "ptrace(16, 1, 0, 0) != 0)'")
    # The capabilities of the facts page, and no way to get more.
    assert b.sh("grep CapEff /proc/self/status").split()[1] == \
        "00000000a00000fb"[-16:]
    assert b.sh("grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status").split(
        )[1::2] == ["1", "2"]
    assert b.sh("ls -l /proc/self/fd | wc -l") == "5"
    b.destroy()


def builds_software(l):
    b = l.create(1)
    b.attach()
    assert b.sh("""printf 'int main(void) { return 42; }' > a.c &&
        gcc -o a a.c && { ./a; echo $?; }""") == "42"
    assert b.sh("node -e 'console.log(6*7)'; python3 -c 'print(6*7)'") == \
        "42\n42"
    assert b.sh("touch /etc/x && chown 33:33 /etc/x && stat -c %u /etc/x && "
                "rm /etc/hosts && ls /etc/x") == "33\n/etc/x"
    assert b.sh("git init -q r && cd r && git -c user.name=a -c user.email=b "
                "commit -q --allow-empty -m m && git log --oneline | wc -l"
                ) == "1"
    b.destroy()


def installs_a_package(l):
    b = l.create(1)
    b.sh("""set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin /tmp/p/etc
        printf 'Package: hello-there\nVersion: 1\nArchitecture: all\n'\
'Maintainer: a <a@b.test>\nDescription: d\n' > /tmp/p/DEBIAN/control
        printf '#!/bin/sh\nchown www-data /etc/hello\n' > /tmp/p/DEBIAN/postinst
        printf '#!/bin/sh\necho hello\n' > /tmp/p/usr/bin/hello-there
        echo x > /tmp/p/etc/hello
        chmod 755 /tmp/p/DEBIAN/postinst /tmp/p/usr/bin/hello-there
        dpkg-deb -b /tmp/p /tmp/p.deb
        apt-get install -y /tmp/p.deb""", env=("DEBIAN_FRONTEND=noninteractive",
                                               "PATH=/usr/sbin:/usr/bin:/sbin"
                                               ":/bin"))
    assert b.sh("hello-there; stat -c %U /etc/hello").split() == [
        "hello", "www-data"]
    b.destroy()


def keeps_the_workspace_and_nothing_else(l):
    b = l.create(1)
    b.attach()
    b.sh("echo kept > f; echo gone > /root/g; ln -s / .output/x 2>/dev/null; "
         "true")
    with open(f"{l.tmp}/output/{SESSION.decode()}/call.out", "w") as f:
        f.write("whole")
    assert b.sh("cat .output/call.out") == "whole"
    assert "Read-only" in b.fails("touch .output/no")
    b.destroy()
    b = l.create(2)
    b.attach()
    assert b.sh("cat f; stat -c %u f; ls /root") == "kept\n0"
    b.destroy()
    assert os.stat(f"{l.tmp}/work").st_mode & 0o777 == 0o700
    assert l.ask(WIPE, session=SESSION)["error"] == 0
    assert os.listdir(f"{l.tmp}/work") == []


def measures_a_workspace(l):
    b = l.create(1)
    b.attach()
    empty = l.ask(MEASURE, session=SESSION)
    # A folder of tmpfs takes no blocks, one of ext4 some.
    assert empty["error"] == 0 and empty["bytes"] < 1 << 16, empty
    # Hard links and links count once, and at any depth.
    b.sh("head -c 3M /dev/zero > f; ln f g; ln -s / root; for i in $(seq 300);"
         " do mkdir d; cd d; done; head -c 1M /dev/zero > f")
    r = l.ask(MEASURE, session=SESSION)
    assert 4 * MB <= r["bytes"] - empty["bytes"] < 7 * MB, r
    assert r["inodes"] - empty["inodes"] == 303, (r, empty)
    r = l.ask(MEASURE, session=b"sesn_" + b"1" * 26)
    assert r["error"] != 0 and r["bytes"] == 0, r
    b.destroy()


def refuses_what_leads_out(l):
    b = l.create(1)
    b.fails("mount -t tmpfs x /mnt")
    b.fails("umount /proc")
    b.fails("unshare -U true")
    b.fails("unshare -m true")
    b.fails("mknod /tmp/d c 1 3")
    b.fails("mknod /tmp/d b 254 0")
    b.fails("dmesg")
    b.fails("echo x > /proc/sys/kernel/core_pattern")
    b.fails("echo x > /proc/sysrq-trigger")
    b.fails("touch /dev/x")
    b.fails("ip link add d0 type dummy")
    b.fails("ip link set lo down")
    b.fails("kill -9 1 && sleep 0.1 && ! true")
    py = "python3 -c 'import socket; socket.socket(%s)'"
    for family in ("socket.AF_PACKET, socket.SOCK_RAW", "40, 1", "38, 5",
                   "socket.AF_INET, socket.SOCK_RAW, 1", "16, 3, 12"):
        b.fails(py % family)
    b.sh(py % "socket.AF_INET6")
    # Setuid programs of the workspace or root give nothing.
    assert b.sh("cp /bin/cat /tmp/c && chmod 4755 /tmp/c && stat -c %a "
                "/tmp/c") == "4755"
    b.destroy()


def sees_no_network_but_loopback(l):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    b = l.create(1)
    port = s.getsockname()[1]
    b.fails(f"exec 3<>/dev/tcp/127.0.0.1/{port}")
    assert b.sh("ip -o link | wc -l; ip -o link") .startswith("1\n")
    connect = ("python3 -c \"import socket; s=socket.create_connection"
               "(('%s', %d), 3); print('in')\"")
    assert "refused" in b.fails(connect % ("127.0.0.1", port))
    assert "unreachable" in b.fails(connect % ("1.1.1.1", 80))
    # Any port of the synthetic range arrives at the capture listener.
    assert b.sh(connect % ("198.18.0.9", 443)) == "in"
    assert b.sh(connect % ("198.19.255.1", 8080)) == "in"
    b.destroy()


def holds_memory_and_pids(l):
    b = l.create(1, (64 * MB, 1000, 32, 64 * MB, 16384, 256))
    code, sig, _, _ = b.run("python3 -c 'x = b\"a\" * (200 << 20)'")
    assert (code, sig) == (137, 0) or sig == 9, (code, sig)
    text = os.pread(b.memory, 4096, 0).decode()
    assert "oom_kill 0" not in text and "oom_kill " in text, text
    assert b.sh("echo alive") == "alive"
    _, _, _, errors = b.run("for i in $(seq 100); do sleep 5 & done; kill "
                            "$(jobs -p)")
    assert os.pread(b.pids, 4096, 0).decode().split()[1] != "0", errors
    b.destroy()


def kills_everything_on_request(l):
    b = l.create(1)
    b.start(":(){ :|:& };:; setsid sleep 1000 & sleep 1000")
    assert b.event()[0] == STARTED
    time.sleep(0.3)
    b.init.send(HEAD.pack(INIT_MAGIC, KILL, b.run_id, 0, 0))
    kinds = {b.event()[0], b.event()[0]}
    assert kinds == {KILLED, EXITED}, kinds
    for fd in b.pipes:
        os.close(fd)
    assert b.sh("ls -d /proc/[0-9]* | wc -l") in ("3", "4")
    b.destroy()


def writes_a_file(l):
    b = l.create(1)
    b.init.send(HEAD.pack(INIT_MAGIC, PUT, 9, 0o644, 1)
                + b"/etc/ssl/certs/ca-certificates.crt\0MORE")
    assert b.event() == (PUT_DONE, 9, 0, 0)
    assert b.sh("tail -c 4 /etc/ssl/certs/ca-certificates.crt") == "MORE"
    # A folder that is missing is made, and no more than one.
    b.init.send(HEAD.pack(INIT_MAGIC, PUT, 9, 0o644, 0) + b"/new/file\0x")
    assert b.event() == (PUT_DONE, 9, 0, 0)
    assert b.sh("cat /new/file; stat -c ' %a' /new") == "x 755"
    b.init.send(HEAD.pack(INIT_MAGIC, PUT, 9, 0o644, 0) + b"/no/no/where\0x")
    assert b.event() == (PUT_DONE, 9, 2, 0)
    b.destroy()


def refuses_malformed_requests(l):
    r = l.ask(CREATE, sbx(1), image=b"nothing", limits=LIMITS)
    assert r["error"] != 0 and "no image" in r["text"], r
    l.create(1)
    assert "exists" in l.ask(CREATE, sbx(1), image=b"base",
                             limits=LIMITS)["text"]
    r = l.ask(DESTROY, sbx(5))
    assert r["error"] != 0, r
    # Anything that does not parse ends the connection, and all sandboxes.
    l.sock.send(REQUEST.pack(MAGIC, CREATE, 7, sbx(2), b"", b"../etc",
                             *LIMITS))
    assert l.sock.recv(10) == b""
    l.connect()
    assert l.ask(LIST)["type"] == 65


def ends_every_sandbox_with_its_client(l):
    boxes = [l.create(i) for i in range(3)]
    l.sock.close()
    for b in boxes:
        assert select.select([b.pidfd], [], [], 5)[0], "sandbox lives"
    l.connect()
    assert l.ask(LIST)["type"] == 65
    assert os.listdir(f"/sys/fs/cgroup/memory/brainbox-{l.instance}") and not [
        e for e in os.listdir(f"/sys/fs/cgroup/memory/brainbox-{l.instance}")
        if e.startswith("sbx")]


def leaves_nothing_when_it_is_killed(l):
    b = l.create(1)
    b.start("sleep 1000")
    l.proc.kill()
    l.proc.wait()
    assert select.select([b.pidfd], [], [], 5)[0], "sandbox lives"
    l.start()
    # It listens before it has cleaned up, and answers afterwards.
    assert l.ask(LIST)["type"] == 65
    assert not [e for g in l.groups() for e in os.listdir(g)
                if e.startswith("sbx")]
    b = l.create(1)
    assert b.sh("echo again") == "again"
    b.destroy()


def survives_sandboxes_that_die(l):
    b = l.create(1)
    b.init.close()
    assert select.select([b.pidfd], [], [], 5)[0], "sandbox lives"
    time.sleep(0.1)
    r = l.ask(DESTROY, sbx(1))
    assert "no sandbox" in r["text"], r
    l.create(2).destroy()


TESTS = [runs_a_command_and_reports_its_end, looks_like_a_machine_of_its_own,
         builds_software, installs_a_package, keeps_the_workspace_and_nothing_else,
         measures_a_workspace,
         refuses_what_leads_out, sees_no_network_but_loopback,
         holds_memory_and_pids, kills_everything_on_request, writes_a_file,
         refuses_malformed_requests, ends_every_sandbox_with_its_client,
         leaves_nothing_when_it_is_killed, survives_sandboxes_that_die]


def run_one(test, world):
    with tempfile.TemporaryDirectory(prefix="bb", dir="/tmp") as tmp:
        launcher = world.for_test(test)(tmp)
        try:
            test(launcher)
            launcher.stop()
        except Exception as e:  # every failure is printed, and counted
            import traceback
            print(open(f"{tmp}/log").read())
            print(f"FAIL {test.__name__}")
            traceback.print_exc(file=sys.stdout)
            return False
        finally:
            launcher.kill()
    print(f"ok   {test.__name__}")
    return True


def make_image():
    subprocess.run([f"{ROOT}/sandbox_svc/image.sh", f"{IMAGES}/base"],
                   check=True, stdout=subprocess.DEVNULL)


def main(tests, world):
    if os.geteuid() != 0:
        sys.exit("tests of sandboxes need root")
    sys.stdout.reconfigure(line_buffering=True)
    make_image()
    names = set(sys.argv[1:])
    results = [run_one(t, world) for t in tests if not names or t.__name__ in names]
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main(TESTS, Launcher)
