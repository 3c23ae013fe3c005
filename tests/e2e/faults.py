"""The faults of `make fault`: one function for each kind, which does its harm to
a running instance and comes back when the harm is over. Whatever is left to
chance comes from `rand`, so that a kind and a seed give the same fault."""
import glob
import os
import random
import signal
import subprocess
import time

import bb

CLOCK_LIB = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
PROCESSES = ("brain_svc", "sandbox_svc", "launcher", "bridge", "vault_svc",
             "vault_keeper", "egress", "ingress", "postgres")


def service(p, name):
    return f"{p.run}/services/{name}"


def pid_of(p, name):
    if name in ("ingress", "egress"):
        out = subprocess.run(["pgrep", "-f", "nginx: master process nginx -c "
                              f"{p.run}/{name}.conf"],
                             capture_output=True, text=True).stdout.split()
        return int(out[0]) if out else None
    out = subprocess.run(["s6-svstat", "-o", "pid", service(p, name)],
                         capture_output=True, text=True).stdout.strip()
    return int(out) if out not in ("", "-1") else None


def kill_9(p, name):
    os.kill(bb.wait_for(f"{name} to run", lambda: pid_of(p, name)),
            signal.SIGKILL)


def kill(name):
    return lambda p, rand: kill_9(p, name)


# ---- one of two brains -------------------------------------------------------------

def second_brain(p):
    """A brain beside the first, as one more service of the instance."""
    folder = service(p, "brain_2")
    if os.path.exists(folder):
        return
    socket = p.run + "/brain-2"
    os.mkdir(socket)
    subprocess.run(["chown", "brainbox-brain", socket], check=True)
    made = p.run + "/brain_2.new"
    os.makedirs(made + "/log")
    for name in ("run", "log/run", "notification-fd", "timeout-kill"):
        with open(f"{service(p, 'brain_svc')}/{name}") as f:
            text = f.read()
        text = text.replace(p.run + "/brain-ingress", socket)
        text = text.replace("/log/brain_svc", "/log/brain_2")
        text = text.replace("--notify-fd=3", "--notify-fd=3 --instance=brain-2")
        with open(f"{made}/{name}", "w") as f:
            f.write(text)
        os.chmod(f"{made}/{name}", 0o755)
    os.rename(made, folder)
    subprocess.run(["s6-svscanctl", "-a", p.run + "/services"], check=True)
    bb.wait_for("brain-2", lambda: subprocess.run(
        ["s6-svwait", "-U", "-t", "200", folder],
        capture_output=True).returncode == 0)


def brain_of_two(p, _):
    """The brain that holds the run dies and stays away: the other goes on."""
    subprocess.run(["s6-svc", "-O", service(p, "brain_svc")], check=True)
    kill_9(p, "brain_svc")


def brain_back(p):
    subprocess.run(["s6-svc", "-uwU", "-T", "20000", service(p, "brain_svc")],
                   check=True)


# ---- the database ------------------------------------------------------------------

def postgres_restart(p, _):
    """A fast shutdown; the supervisor starts it again."""
    os.kill(bb.wait_for("postgres", lambda: pid_of(p, "postgres")),
            signal.SIGINT)


def backends(p):
    top = pid_of(p, "postgres")
    return [top] + [int(x) for x in subprocess.run(
        ["pgrep", "-P", str(top)], capture_output=True,
        text=True).stdout.split()]


def signal_all(pids, what):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass


def stand_still(pids, seconds):
    signal_all(pids, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        signal_all(pids, signal.SIGCONT)


def postgres_still(p, rand):
    """Every backend stops for a while: a disk that hangs."""
    stand_still(backends(p), rand.uniform(0.5, 3))


def postgres_slow(p, rand):
    """It runs a tenth of the time."""
    end = time.monotonic() + rand.uniform(1, 3)
    while time.monotonic() < end:
        stand_still(backends(p), 0.09)
        time.sleep(0.01)


# ---- the model ---------------------------------------------------------------------

def model_pid(p):
    (pid,) = subprocess.run(
        ["pgrep", "-f", "model_server.py " + p.model], capture_output=True,
        text=True, check=True).stdout.split()
    return int(pid)


def model_still(p, rand):
    stand_still([model_pid(p)], rand.uniform(0.5, 3))


MODEL = []  # the server that was started again


def model_down(p, rand):
    """It is killed, and back on its port after a while."""
    with open(p.model + "/port") as f:
        port = f.read()
    os.kill(model_pid(p), signal.SIGKILL)
    for old in MODEL:
        old.wait()
    time.sleep(rand.uniform(0.3, 2))
    os.unlink(p.model + "/port")
    MODEL[:] = [subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "python3",
         bb.TOP + "/tests/support/model_server.py", p.model, port])]
    bb.wait_for("the model", lambda: os.path.exists(p.model + "/port"))


def spoil(kind, answers, rand):
    """The script of the model is the fault."""
    at = answers[rand.randrange(len(answers))]
    if kind == "model_fails":
        at["status"] = rand.choice([500, 503, 429])
    elif kind == "model_cut":
        at["cut"] = rand.randrange(1, 4)
    elif kind == "model_slow":
        for a in answers:
            a["delay_ms"] = rand.randrange(5, 20)
        at["stall_ms"], at["stall_at"] = rand.randrange(500, 1500), 1


def nothing(*_):
    pass


# ---- disk and clock ----------------------------------------------------------------

SPARE = 32 << 20


def fill(path, spare):
    """Takes what the disk has but for `spare` bytes."""
    with open(path, "wb") as f:
        at = os.statvfs(path)
        try:
            os.posix_fallocate(f.fileno(), 0, max(
                at.f_bavail * at.f_bsize - spare, 1))
        except OSError:
            pass


def nearly_full(p):
    """So that the fault itself takes no time."""
    fill(p.state + "/fill", SPARE)


def disk_full(p, rand):
    end = time.monotonic() + rand.uniform(0.5, 2)
    n = 0
    while time.monotonic() < end:  # also what is given back meanwhile
        fill(f"{p.state}/fill-{n}", 0)
        n += 1
        time.sleep(0.02)
    disk_free(p)


def disk_free(p):
    for path in glob.glob(p.state + "/fill*"):
        os.unlink(path)


def clock_env(folder):
    """For an instance whose services run by a clock of their own. The machine's
    is never touched, and PostgreSQL and the sandboxes keep it."""
    path = folder + "/offset"
    write_clock(path, 0)
    return {"BRAINBOX_CLOCK": path, "BRAINBOX_SANITIZER_LIBS": CLOCK_LIB,
            "BRAINBOX_SANITIZER_ENV":
            f"LD_PRELOAD={CLOCK_LIB} FAKETIME_NO_CACHE=1 "
            f"FAKETIME_TIMESTAMP_FILE={path} FAKETIME_DONT_FAKE_MONOTONIC=1"}


def write_clock(path, seconds):
    with open(path + ".new", "w") as f:
        f.write(f"+{seconds}\n")
    os.rename(path + ".new", path)


def clock(_, rand):
    """Set forward by a minute to three hours."""
    path = os.environ["BRAINBOX_CLOCK"]
    with open(path) as f:
        now = int(f.read())
    write_clock(path, now + rand.choice([rand.randrange(20, 90),
                                         rand.randrange(90, 10800)]))


KINDS = {**{name: kill(name) for name in PROCESSES},
         "brain_of_two": brain_of_two,
         "postgres_restart": postgres_restart,
         "postgres_still": postgres_still, "postgres_slow": postgres_slow,
         "model_down": model_down, "model_still": model_still,
         "model_slow": nothing, "model_fails": nothing, "model_cut": nothing,
         "disk_full": disk_full, "clock": clock}
BEFORE = {"brain_of_two": second_brain, "disk_full": nearly_full}
AFTER = {"brain_of_two": brain_back, "disk_full": disk_free}


def chance(kind, seed):
    return random.Random(f"{kind}:{seed}")


def sandbox_groups(p):
    """Names of the sandboxes that the kernel has groups of, of this instance."""
    top = f"brainbox-{p.instance}/sbx_*"
    found = glob.glob("/sys/fs/cgroup/" + top)
    found += glob.glob("/sys/fs/cgroup/*/" + top)
    return {os.path.basename(x) for x in found}


def table(rows):
    print(f"\n  {'fault':<18}{'seeds':>7}{'passed':>8}{'whole':>7}"
          f"{'p50 s':>8}{'slowest s':>11}")
    for kind in [k for k in KINDS if any(r["kind"] == k for r in rows)]:
        of = [r for r in rows if r["kind"] == kind]
        good = [r for r in of if r["ok"]]
        times = sorted(r["took"] for r in good) or [0]
        print(f"  {kind:<18}{len(of):>7}{len(good):>8}"
              f"{sum(r['whole'] for r in good):>7}"
              f"{times[len(times) // 2]:>8.1f}{times[-1]:>11.1f}")
    print(flush=True)
