#!/usr/bin/env python3
"""`make attack`: the agent in the sandbox is the attacker.

usage: attack.py [WORD ...]     only the cases whose id or name holds a word
       ATTACK_WITHOUT=defence,… with programs of build/without

Makes a network namespace without a route, puts a whole platform and the world
of hosts.py into it, and runs each case of cases_*.py from inside a real
sandbox, with a credential bound to host A. A case passes when the real value
reached no listener but A's and came back in no form, the refusal was the
expected one, and the decision stands in the audit. Ends with a table; the exit
status is 0 only when no case leaks or fails.
"""
import base64
import binascii
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.path.insert(0, HERE)
import bb  # noqa: E402
import hosts  # noqa: E402

ADDRESSES = ["10.0.0.5/32", "172.16.0.5/32", "192.168.0.5/32",
             "169.254.1.1/32", "169.254.169.254/32", "100.64.0.5/32",
             "100.100.100.200/32", "168.63.129.16/32", "93.184.219.9/32",
             "64:ff9b::a00:5/128", "2002:a00:5::1/128", "fd00::5/128",
             "2001:0:a00:5::1/128", "fe80::5/128"]


# ---- outside of the namespace, then inside -----------------------------------

def namespace():
    """Run again with loopback alone; nothing is left when that ends."""
    os.execvp("unshare", ["unshare", "--net", "--mount", "--",
                          sys.executable, os.path.abspath(__file__),
                          *sys.argv[1:]])


def network():
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    subprocess.run([ip, "link", "set", "lo", "up"], check=True)
    for a in ADDRESSES:
        subprocess.run([ip, "addr", "add", a, "dev", "lo", "nodad"]
                       if ":" in a else [ip, "addr", "add", a, "dev", "lo"],
                       check=True)
    # The open internet: reached over lo, and yet no address of an interface.
    subprocess.run([ip, "route", "add", "local", hosts.PUBLIC + "0/24", "dev",
                    "lo"], check=True)


def trust(folder):
    """The CA of this world is among the roots, in this mount namespace."""
    roots = "/etc/ssl/certs/ca-certificates.crt"
    subprocess.run(["mount", "--bind", folder + "/ca.pem", roots], check=True)


# Defences of the supervisor's own, for ATTACK_WITHOUT: a copy of it is changed.
UNSUPERVISED = {
    "service_network": ("run.sh", "exec unshare --net -- /bin/sh -c 'ip link"
                        " set lo up; exec", "exec /bin/sh -c 'exec"),
    "caller_folders": ("layout.sh", "install -d -m 0710", "install -d -m 0711"),
}


def supervisor(folder, without):
    """The supervisor, without what it is told to leave out."""
    left_out = [UNSUPERVISED[w] for w in without if w in UNSUPERVISED]
    if not left_out:
        return bb.TOP + "/supervisor"
    shutil.copytree(bb.TOP + "/supervisor", folder + "/supervisor")
    for name, old, new in left_out:
        with open(f"{folder}/supervisor/{name}") as f:
            text = f.read()
        assert old in text, f"{name} has no {old}"
        with open(f"{folder}/supervisor/{name}", "w") as f:
            f.write(text.replace(old, new))
    return folder + "/supervisor"


def deployment(without):
    """What root lists; one line too many shows that the list decides."""
    text = f"destination {hosts.IDP}:443 address={hosts.PUBLIC}16:443\n"
    if "deployment_list" in without:
        text += f"destination {hosts.E}:443 address={hosts.PUBLIC}66:443\n"
    return text


def platform():
    network()
    without = os.environ.get("ATTACK_WITHOUT", "").split(",")
    folder = tempfile.mkdtemp(prefix="bbatk", dir="/tmp")
    os.chmod(folder, 0o755)
    world = folder + "/hosts"
    os.mkdir(world)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    helpers = [subprocess.Popen([sys.executable, HERE + "/hosts.py", world])]
    try:
        bb.wait_for("hosts", lambda: os.path.exists(world + "/ready") or
                    helpers[0].poll() is not None, 30)
        assert helpers[0].poll() is None, "hosts.py ended"
        trust(world)
        os.mkdir(folder + "/state")
        if bb.BUILD.endswith("/without"):
            with open(bb.BUILD + "/left-out", "w") as f:
                f.write(",".join(without) + "\n")
        with open(folder + "/state/deployment.conf", "w") as f:
            f.write(deployment(without))
        sanitizer = bb.sanitizer_env()
        # Words before each program; those of a test build read this one.
        words_before = (sanitizer.pop("BRAINBOX_SANITIZER_ENV", "")
                        + " SANDBOX_WITHOUT=" + ",".join(without)).strip()
        env = dict(
            os.environ, BRAINBOX_SCRUB_HITS_MAX="0",
            BRAINBOX_STATE=folder + "/state",
            BRAINBOX_RUN=folder + "/run", BRAINBOX_RESOLVER="127.0.0.1:5353",
            BRAINBOX_LISTEN=f"127.0.0.1:{bb.free_port()}",
            BRAINBOX_GRPC_LISTEN=f"127.0.0.1:{bb.free_port()}",
            BRAINBOX_IMAGES=bb.TOP + "/var/images",
            BRAINBOX_BIN=bb.BUILD + "/bin",
            BRAINBOX_INSTANCE="a" + os.path.basename(folder)[-8:],
            BRAINBOX_HOSTS=world, BRAINBOX_MODEL=world,
            BRAINBOX_HARNESS="runbook", BRAINBOX_ATTACK="1",
            BRAINBOX_SHARE=bb.TOP, BRAINBOX_SANITIZER_ENV=words_before,
            **sanitizer)
        words = " ".join(sys.argv[1:])
        p = subprocess.run(
            ["bash", supervisor(folder, without) + "/run.sh", "--exec",
             f"{sys.executable} {os.path.abspath(__file__)} {words}"],
            env=env)
        if p.returncode != 0 and os.environ.get("VERBOSE"):
            bb.show_logs(folder + "/state/log")
        return p.returncode
    finally:
        for h in helpers:
            h.kill()
            h.wait()
        if os.environ.get("KEEP"):
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


# ---- does a text hold a value? ---------------------------------------------

def unescaped(text):
    """The text with escapes of common kinds undone, a few times over."""
    out = [text]
    for _ in range(3):
        t = out[-1]
        t = re.sub(r"\\u([0-9a-fA-F]{4})",
                   lambda m: chr(int(m.group(1), 16)), t)
        t = re.sub(r"\\x([0-9a-fA-F]{2})",
                   lambda m: chr(int(m.group(1), 16)), t)
        t = re.sub(r"\\([\"'/\\])", r"\1", t)
        t = html.unescape(urllib.parse.unquote(t))
        if t == out[-1]:
            break
        out.append(t)
    return out


def decoded(text):
    """What base64 and hex in the text stand for."""
    for run in re.findall(r"[A-Za-z0-9+/_-]{20,}", text):
        run = run.replace("-", "+").replace("_", "/")
        for skip in range(4):
            part = run[skip:]
            part = part[:len(part) // 4 * 4]
            yield base64.b64decode(part).decode("latin-1")
    for run in re.findall(r"[0-9a-fA-F]{32,}", text):
        try:
            yield binascii.unhexlify(run[:len(run) // 2 * 2]).decode("latin-1")
        except ValueError:
            pass


def holds(text, value):
    """An oracle that shares no code with the scrubber. Most of a value counts
    as the value."""
    inner = value[4:-4]
    for t in unescaped(text):
        if inner in t or any(inner in d for d in decoded(t)):
            return True
    return False


class Leak(Exception):
    pass


class Skip(Exception):
    pass


# ---- one case --------------------------------------------------------------

class Attack:
    """What a case uses. `t.run` is the attack, all else looks at what came."""

    def __init__(self):
        self.api = bb.Context()
        self.token = "rvtok_" + os.urandom(18).hex()
        self.special = "rv+" + os.urandom(9).hex() + "/<\"&'%?=" \
            + os.urandom(9).hex() + "=="
        with open(HERE + "/inside.py") as f:
            self.tools = f.read()
        self.agent = self.api.agent()
        self.environment = self.api.environment([
            hosts.A, hosts.A + ":8443", hosts.B, hosts.E, "*.addr.test",
            "*.certs.test", "*.wild-corp.test", "*.e-corp.test",
            hosts.E + ":22", "deep." + hosts.A, hosts.G])
        self.vault = self.make_vault()
        with open(self.api.run + "/public/ca.pem") as f:
            self.ca = f.read()
        self.mark = 0

    def make_vault(self):
        bound = [hosts.A, hosts.G, "*.addr.test", "*.certs.test", "*.wild-corp.test"]
        v, _ = self.api.vault("API_TOKEN", self.token, bound)
        self.credential("API_SPECIAL", self.special, [hosts.A, hosts.G], v, [
            {"host": hosts.A, "slots": ["header:X-Api-Key", "basic"]},
            {"host": hosts.G, "slots": ["header:X-Key-Bin"]}])
        return v

    def credential(self, name, value, bound, vault=None, binding=None):
        vault = vault or self.api.call("POST", "/v1/vaults", {
            "display_name": "attack"})["id"]
        body = {"auth": {
            "type": "environment_variable", "secret_name": name,
            "secret_value": value, "networking": {
                "type": "limited", "allowed_hosts": list(bound)}}}
        if binding:
            body["binding"] = binding
        c = self.api.call("POST", f"/v1/vaults/{vault}/credentials", body)
        return vault, c["id"]

    def begin(self):
        self.mark = len(self.seen_all())
        self.sessions, self.values = [], [self.token, self.special]
        self.text, self.bound = "", {"A", "G"}
        self.log_marks = {p: os.path.getsize(p) for p in self.logs()}

    def own(self, listener):
        """This listener is bound, too, in this case."""
        self.bound.add(listener)

    def session(self, vaults=None, environment=None):
        s = self.api.session(self.agent, environment or self.environment,
                             [self.vault] if vaults is None else vaults)
        self.sessions.append(s)
        return s

    def run(self, script, session=None):
        """Run Python inside the sandbox; the JSON values that it gave out."""
        session = session or self.session()
        turns = sum(e["type"] == "session.status_idle"
                    for e in self.api.events(session))
        events = self.api.turn(
            session, "```sh\npython3 - <<'ATTACK'\n" + self.tools + "\n"
            + script + "\nATTACK\n```\n", turns + 1, 120)
        self.text += json.dumps(events)
        got = bb.result_of(events)[1]
        if not isinstance(got, dict) or got.get("exit_code") != 0:
            raise AssertionError(f"the attack itself failed: {got}")
        return [json.loads(x) for x in got["stdout"].split("\n") if x]

    def seen_all(self):
        return bb.read_lines(self.api.hosts + "/seen.jsonl")

    def seen(self, at=None):
        """What listeners got during this case."""
        return [x for x in self.seen_all()[self.mark:]
                if at is None or x["at"] == at]

    def logs(self):
        folder = self.api.state + "/log"
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            path = path + "/current" if os.path.isdir(path) else path
            if os.path.exists(path):
                yield path

    def audit(self, reason, session=None):
        """The decision stands in the audit."""
        s = session or self.sessions[-1]

        def rows():
            data = self.api.call(
                "GET", f"/platform/v1/audit?session_id={s}&limit=100")["data"]
            return any(reason in json.dumps(x) for x in data)
        bb.wait_for(f"audit row \"{reason}\"", rows, 5)

    def leaks(self):
        """Raises if a value went where it does not belong."""
        for x in self.seen():
            if x["at"] in self.bound:
                continue
            for v in self.values:
                if holds(x["raw"], v):
                    raise Leak(f"{x['at']} got the value: {x['raw'][:300]}")
        for v in self.values:
            if holds(self.text, v):
                raise Leak("the sandbox could read the value")
        for path in self.logs():
            with open(path, errors="replace") as f:
                f.seek(self.log_marks.get(path, 0))
                text = f.read()
            for v in self.values:
                if holds(text, v):
                    raise Leak(f"the value stands in the log {path}")

    def one(self, answer, status, reason=None):
        """A refusal: the status line, and the reason in the error."""
        assert f" {status} " in answer.split("\r\n")[0] + " ", answer[:400]
        if reason:
            assert f'"reason":"{reason}"' in answer, answer[:400]
            assert '"message":"' in answer, answer[:400]


CASES = []


def case(number, what):
    def add(fn):
        CASES.append((number, what, fn))
        return fn
    return add


def skip(number, what, reason):
    def fn(_):
        raise Skip(reason)
    CASES.append((number, what, fn))


def order(number):
    return int(re.match(r"\d+", number).group()), number


def check(t, fn):
    try:
        t.begin()
        error = None
        try:
            fn(t)
        except Skip:
            raise
        except Exception as e:
            error = e
        t.leaks()
        if error is not None:
            raise error
        return "pass", ""
    except Skip as e:
        return "skip", str(e)
    except Leak as e:
        return "LEAK", str(e)
    except Exception as e:
        if os.environ.get("VERBOSE"):
            traceback.print_exc(file=sys.stdout)
        return "FAILED", f"{type(e).__name__}: {e}"


def main():
    import attack  # the cases register there, not in __main__
    for name in sorted(os.listdir(HERE)):
        if re.fullmatch(r"cases_\w+\.py", name):
            __import__(name[:-3])
    words, exact = sys.argv[1:], os.environ.get("ATTACK_EXACT")
    t = attack.Attack()
    table, count = [], {}
    for number, what, fn in sorted(attack.CASES, key=lambda x: order(x[0])):
        if words and not any(w == number or (w in fn.__name__ and not exact)
                             for w in words):
            continue
        verdict, why = attack.check(t, fn)
        count[verdict] = count.get(verdict, 0) + 1
        table.append((number, what, verdict))
        if verdict == "skip":
            print(f"skip {number}: {why}", flush=True)
        elif verdict != "pass":
            print(f"{verdict} {number} {fn.__name__}: {why[:1500]}",
                  flush=True)
    print()
    for number, what, verdict in table:
        print(f"{number:>4}  {what:<62}  {verdict}")
    bad = count.get("LEAK", 0) + count.get("FAILED", 0)
    print(f"\n{count.get('LEAK', 0)} leaks\n{count.get('pass', 0)} passed, "
          f"{bad} failed, {count.get('skip', 0)} skipped")
    sys.exit(1 if bad or not count.get("pass") else 0)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("attack.py: needs root")
    if os.environ.get("BRAINBOX_ATTACK"):
        main()
    if os.environ.get("BRAINBOX_ATTACK_NET"):
        sys.exit(platform())
    os.environ["BRAINBOX_ATTACK_NET"] = "1"
    namespace()
