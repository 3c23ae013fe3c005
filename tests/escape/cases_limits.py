"""Limits and small defences, each looked at alone and in bounds: without the one
that it is about, a case does no more harm than with it."""
import os
import select
import socket

from support import MB, base, pid_of

SMALL_DISK = (512 * MB, 1000, 128, 16 * MB, 4096, 256)


def sandboxes_work(l):
    b = l.create(1)
    assert b.sh("echo works; id -u", cwd="/").split() == ["works", "0"]
    b.destroy()


def memory_is_limited(l):
    b = l.create(1, (64 * MB, 1000, 64, 64 * MB, 16384, 256))
    code, sig, _, _ = b.run("exec python3 -c 'x = b\"a\" * (200 << 20)'")
    assert sig == 9, (code, sig)
    assert "oom_kill 0" not in os.pread(b.memory, 4096, 0).decode()
    b.destroy()


def processes_are_counted(l):
    b = l.create(1, (256 * MB, 1000, 64, 64 * MB, 16384, 256))
    n = int(b.sh("""exec python3 -c '
import os, signal, time
pids = []
try:
    for i in range(200):
        pids.append(os.fork())
        if pids[-1] == 0:
            time.sleep(60)
except OSError:
    pass
print(len(pids))
for p in pids:
    os.kill(p, 9)
'"""))
    assert n < 64, n
    b.destroy()


def processor_time_is_limited(l):
    b = l.create(1, (256 * MB, 200, 64, 64 * MB, 16384, 256))
    b.run("timeout 1 sh -c 'while :; do :; done'")
    with open(f"/sys/fs/cgroup/cpu/brainbox-{l.instance}/"
              f"{b.name.decode()}/cpu.stat") as f:
        stat = dict(line.split() for line in f)
    assert int(stat["nr_throttled"]) > 0, stat
    b.destroy()


def space_is_limited(l):
    b = l.create(1, SMALL_DISK)
    for folder in ("/root", "/dev/shm"):
        # Of several files, since the size of one is limited too.
        errors = b.fails(f"cd {folder}; for i in 1 2 3 4 5 6 7 8; do head -c 4M"
                         f" /dev/zero > f$i || {{ rm f*; exit 1; }}; done; "
                         "rm f*")
        assert "No space" in errors, errors
    b.destroy()


def inodes_are_limited(l):
    b = l.create(1, SMALL_DISK)
    for folder in ("/root", "/dev/shm"):
        errors = b.fails(f"cd {folder}; exec python3 -c '\n"
                         "for i in range(6000): open(\"f%d\" % i, \"w\")'")
        assert "No space" in errors, errors
        b.sh(f"find {folder} -name 'f*' -delete")
    b.destroy()


def goes_before_services(l):
    b = l.create(1)
    with open(f"/proc/{pid_of(b)}/oom_score_adj") as f:
        assert f.read().strip() == "500"
    assert b.sh("cat /proc/self/oom_score_adj") == "500"
    b.destroy()


def dies_with_the_launcher(l):
    b = l.create(1)
    b.start("sleep 1000")
    assert b.event()[0] == base.STARTED
    l.proc.kill()
    l.proc.wait()
    assert select.select([b.pidfd], [], [], 5)[0], "sandbox lives"
    l.start()
    assert l.ask(base.LIST)["type"] == 65


def init_is_a_sealed_copy(l):
    """So that what runs inside could change no program of the machine."""
    b = l.create(1)
    assert os.readlink(f"/proc/{pid_of(b)}/exe").startswith(
        "/memfd:sandbox_init")
    b.destroy()


def hostname_is_its_own(l):
    b = l.create(1)
    assert b.sh("hostname") == "sandbox"
    assert socket.gethostname() != "sandbox"
    b.destroy()


def cgroups_show_no_path(l):
    b = l.create(1)
    assert b.sh("cut -d: -f3 /proc/self/cgroup | sort -u") == "/"
    b.destroy()


def folders_are_opened_without_links(l):
    """Also where only a service that was taken over could put one."""
    b = l.create(1)
    target = f"{l.tmp}/precious"
    os.mkdir(target)
    os.makedirs(f"{l.tmp}/output", exist_ok=True)
    os.symlink(target, f"{l.tmp}/output/{base.SESSION.decode()}")
    r = l.ask(base.ATTACH, b.name, base.SESSION)
    assert r["error"] != 0, r
    b.destroy()


def keys_of_the_machine_are_not_there(l):
    b = l.create(1)
    search, session_keyring = 10, -3
    found = b.run("exec python3 -c 'import ctypes; print(ctypes.CDLL(None)."
                  f"syscall(250, {search}, {session_keyring}, b\"user\", "
                  "b\"bbsecret-key\", 0))'")
    assert found[2] == "-1\n", found
    assert "bbsecret" not in b.sh("cat /proc/keys")
    b.destroy()


TESTS = [sandboxes_work, memory_is_limited, processes_are_counted, processor_time_is_limited,
         space_is_limited, inodes_are_limited, goes_before_services,
         dies_with_the_launcher, init_is_a_sealed_copy, hostname_is_its_own,
         cgroups_show_no_path, folders_are_opened_without_links,
         keys_of_the_machine_are_not_there]
