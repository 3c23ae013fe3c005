"""Cold start beside other sandboxes: one `/bin/true`, spawn to reaped.

Each peer runs the program in the same image, in rounds that are interleaved
with ours. What is not installed, or does not run here, is said and left out;
`apt-get install bubblewrap crun runc systemd-container podman runsc` and
`npm install -g @anthropic-ai/sandbox-runtime` bring all of them.
"""
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import sandbox_launcher_test as base

IMAGE = f"{base.IMAGES}/base"
ROUNDS, PER_ROUND = 5, 20
# These take a tenth of a second and more.
SLOW = {"systemd-nspawn", "podman", "runsc", "srt"}
LIMITS = {"memory": {"limit": 512 << 20}, "pids": {"limit": 256},
          "cpu": {"quota": 100000, "period": 100000}}


def image_of_true(folder):
    """The peers run /bin/true and no shell: here it stands where ours starts
    the shell, with what it needs of the image and the folders of a root."""
    root = f"{folder}/base"
    for d in ("bin", "dev", "proc", "run", "sys", "tmp", "workspace"):
        os.makedirs(f"{root}/{d}")
    shutil.copy2(f"{IMAGE}/bin/true", f"{root}/bin/sh")
    libraries = subprocess.run(["ldd", f"{IMAGE}/bin/true"], check=True,
                               capture_output=True).stdout.decode()
    for path in re.findall(r"(/lib\S+)", libraries):
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        shutil.copy2(IMAGE + path, root + path)


@contextlib.contextmanager
def launcher(*options, without_cgroups=False, only_true=False):
    """The path of its socket."""
    with tempfile.TemporaryDirectory(prefix="bb", dir="/tmp") as tmp:
        os.chmod(tmp, 0o711)
        if only_true:
            image_of_true(f"{tmp}/images")
        argv = [f"{base.BIN}/sandbox_launcher", f"--listen={tmp}/s",
                f"--image-dir={tmp}/images" if only_true else
                f"--image-dir={base.IMAGES}", f"--work-dir={tmp}/work",
                f"--instance=bench{os.getpid()}", *options]
        if without_cgroups:
            argv = ["unshare", "-m", "sh", "-c",
                    "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"",
                    "sh"] + argv
        p = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if os.path.exists(f"{tmp}/s"):
                    break
                time.sleep(0.02)
            yield f"{tmp}/s"
        finally:
            p.terminate()
            p.wait()


def bundle(tmp, name, limits):
    """An OCI bundle that runs /bin/true."""
    path = f"{tmp}/{name}"
    os.mkdir(path)
    subprocess.run(["runc", "spec", "-b", path], check=True)
    with open(f"{path}/config.json") as f:
        spec = json.load(f)
    spec["process"].update(terminal=False, args=["/bin/true"])
    spec["root"] = {"path": IMAGE, "readonly": True}
    if limits:
        spec["linux"]["resources"].update(LIMITS)
    else:
        spec["linux"]["resources"] = {}
    with open(f"{path}/config.json", "w") as f:
        json.dump(spec, f)
    return path


def srt(tmp):
    settings = f"{tmp}/srt.json"
    with open(settings, "w") as f:
        json.dump({"network": {"allowedDomains": [], "deniedDomains": []},
                   "filesystem": {"denyRead": [], "allowWrite": [],
                                  "denyWrite": []}}, f)
    return ["srt", "--settings", settings, "/bin/true"]


def programs(tmp):
    """name -> command line"""
    found = {
        "fork and exec": ["/bin/true"],
        "bwrap": ["bwrap", "--unshare-all", "--ro-bind", IMAGE, "/", "--proc",
                  "/proc", "--dev", "/dev", "/bin/true"],
        "systemd-nspawn": ["systemd-nspawn", "-q", "--register=no",
                           "--keep-unit", "--read-only", "-D", IMAGE,
                           "/bin/true"],
        "podman": ["podman", "--cgroup-manager", "cgroupfs", "--runtime",
                   "runc", "run", "--rm", "--network=none", "--ulimit",
                   "nofile=1000:1000", "--ulimit", "nproc=1000:1000",
                   "--read-only", "--rootfs", IMAGE, "/bin/true"],
        "srt": srt(tmp),
    }
    if shutil.which("runc"):
        plain, limited = bundle(tmp, "plain", False), bundle(tmp, "lim", True)
        found["runc"] = ["runc", "--root", f"{tmp}/runc", "run", "-b", plain,
                         f"p{os.getpid()}"]
        found["runc, limits"] = found["runc"][:5] + [limited,
                                                     f"l{os.getpid()}"]
        # On a hybrid machine crun wants to see one kind of cgroups.
        found["crun"] = ["unshare", "-m", "sh", "-c",
                         "umount /sys/fs/cgroup/unified 2>/dev/null; "
                         f"exec crun --root {tmp}/crun run -b {plain} c1"]
        found["runsc"] = ["runsc", "--root", f"{tmp}/runsc", "--network=none",
                          "--platform=ptrace", "--ignore-cgroups", "run",
                          "--bundle", plain, f"g{os.getpid()}"]
    return found


def spawn_us(command, rounds):
    """Microseconds of each round, None when it does not run."""
    r = subprocess.run([f"{base.BUILD}/tools/spawn_bench", str(rounds),
                        *command], capture_output=True)
    if r.returncode != 0:
        return None
    return [int(n) for n in r.stdout.split()]


def ours_us(path, limits, rounds):
    r = subprocess.run([f"{base.BUILD}/tools/launcher_bench", path, "cold",
                        str(rounds), limits], check=True,
                       stdout=subprocess.PIPE)
    return [int(n) for n in r.stdout.split()]


def at(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)]


def measure():
    """name -> microseconds"""
    took = {}

    def add(name, values):
        took.setdefault(name, []).extend(values)

    with tempfile.TemporaryDirectory(prefix="bb", dir="/tmp") as tmp, \
            launcher(without_cgroups=True, only_true=True) as plain, \
            launcher(only_true=True) as limited:
        todo = programs(tmp)
        for name, command in list(todo.items()):
            if spawn_us(command, 1) is None:
                print(f"left out: {name} does not run here", file=sys.stderr)
                del todo[name]
        for i in range(ROUNDS):
            add("Brainbox", ours_us(plain, "0", PER_ROUND))
            add("Brainbox, limits", ours_us(limited, "1", PER_ROUND))
            for name, command in todo.items():
                if name not in SLOW:
                    add(name, spawn_us(command, PER_ROUND))
                elif i < 2:
                    add(name, spawn_us(command, PER_ROUND // 4))
    return took


def write_page(took, out):
    rows = sorted(took.items(), key=lambda item: at(item[1], 50))
    with open(f"{out}/sandbox_peers.md", "w") as f:
        f.write("# Cold start beside other sandboxes\n\n"
                "`/bin/true` in the same image, spawn to reaped, interleaved "
                "in one run. Repeat with `make bench-sandbox`. \"limits\" has "
                "memory, pids and cpu limited by cgroups; the others have "
                "none.\n\n![plot](sandbox_peers.svg)\n\n"
                "| | p50 | p95 | p99 | rounds |\n|---|---|---|---|---|\n")
        for name, values in rows:
            f.write(f"| {name} | " + " | ".join(
                f"{at(values, q) / 1000:.1f} ms" for q in (50, 95, 99))
                + f" | {len(values)} |\n")
    data = "".join(f'"{name}" {at(v, 50) / 1000} {at(v, 99) / 1000}\n'
                   for name, v in rows)
    plot = f"""set terminal svg size 720,{60 + 34 * len(rows)} font "sans,13"
set output "{out}/sandbox_peers.svg"
set logscale x
set xrange [0.2:*]
set xlabel "ms, p50 to p99, logarithmic"
set yrange [-0.6:{len(rows) - 0.4}] reverse
set grid x
set key off
set lmargin 18
$data << EOD
{data}EOD
set style fill solid 0.8
plot $data using 2:0:2:3:ytic(1) with xerrorbars pt 7 ps 0.9 lw 3
"""
    if shutil.which("gnuplot"):
        subprocess.run(["gnuplot"], input=plot.encode(), check=True)


def compare(figure):
    took = measure()
    for name, values in took.items():
        word = name.replace(", ", "_").replace(" ", "_").replace("-", "_")
        for q in (50, 95, 99):
            figure(f"cold_{word.lower()}_p{q}_ms", at(values, q) / 1000, "ms")

    def ratio(name, a, b):
        if b in took:
            figure(name, at(took[a], 50) / at(took[b], 50), "ratio")
    ratio("cold_vs_bwrap", "Brainbox", "bwrap")
    ratio("cold_vs_runc", "Brainbox, limits", "runc, limits")
    if os.environ.get("OUT"):
        write_page(took, os.environ["OUT"])
