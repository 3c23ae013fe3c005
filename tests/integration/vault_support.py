"""A real keeper, vault_svc and PostgreSQL in one folder under /tmp."""
import base64
import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, ROOT + "/tests/support")
import pg  # noqa: E402

BUILD = os.environ.get("BRAINBOX_BUILD", os.path.join(ROOT, "build/release"))
CALL = os.path.join(BUILD, "tools/vault_call")
VAULT = "agent.vault.v1."


def wait_for(what, check, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.02)
    raise AssertionError("timeout: " + what)


class RpcError(Exception):
    def __init__(self, kind, message):
        super().__init__(kind + ": " + message)
        self.kind, self.message = kind, message


# ---- the few protobuf messages that tests serialize themselves -------------
def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(data)) + data


def session_request(env, vaults=(), envs=()):
    out = field(1, '"agent_x"') + field(2, env)
    for v in vaults:
        out += field(5, v)
    for e in envs:
        out += field(6, e)
    return out


def environment_request(hosts, env=None, **more):
    """more: mode=, rules= of the network policy."""
    config = json.dumps({"type": "cloud", "networking": {
        "type": "limited", "allowed_hosts": hosts, **more}})
    if env is None:
        return field(1, "test") + field(3, config)
    return field(1, env) + field(4, config)


ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix):
    n = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return prefix + "_" + "".join(
        ALPHABET[n >> 5 * i & 31] for i in reversed(range(26)))


class Vault:
    """Starts everything; use as a context."""

    def __init__(self, deployment="", env=None, start=True, args=()):
        self.dir = tempfile.mkdtemp(prefix="bbv", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.procs, self.env, self.args = {}, dict(env or {}), list(args)
        self.log = open(os.path.join(self.dir, "log"), "ab")
        with open(self.path("deployment.conf"), "w") as f:
            f.write(deployment)
        self.pg = subprocess.run(
            ["bash", ROOT + "/tests/support/pg.sh", "start", self.dir],
            check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.run_keeper("--init")
        self.start_keeper()
        self.run_vault("--migrate")
        if start:
            self.start_vault()

    def path(self, name):
        return os.path.join(self.dir, name)

    def socket(self, name):
        return "unix:" + self.path(name + ".sock")

    def keeper_args(self):
        return [BUILD + "/bin/vault_keeper", "--user=", "--peer-user=",
                "--listen=" + self.path("keeper.sock"),
                "--key-file=" + self.path("master.key"),
                "--assertion-pub=" + self.path("assertion.pub"),
                "--ca-pem=" + self.path("ca.pem")]

    def vault_args(self):
        out = [BUILD + "/bin/vault_svc", "--user=",
               "--keeper=" + self.path("keeper.sock"),
               "--database=" + self.pg + " user=vault_run",
               "--database-owner=" + self.pg + " user=vault_owner",
               "--sql-dir=" + ROOT + "/vault_svc/sql",
               "--rules=" + ROOT + "/vault_svc/rules.conf",
               "--deployment=" + self.path("deployment.conf"),
               "--generation=" + self.path("generation"),
               "--intermediate=" + self.path("intermediate.pem"),
               "--audit-heads=" + self.path("audit-heads"),
               "--audit-head-ms=100", "--use-flush-ms=100"]
        for who in "ingress", "brain", "sandbox", "egress", "admin":
            out.append("--listen-%s=%s" % (who, self.path(who + ".sock")))
        return out + self.args

    def environ(self):
        return {"PATH": os.environ["PATH"], **self.env,
                **{k: v for k, v in os.environ.items()
                   if k.endswith("SAN_OPTIONS")}}

    def run_keeper(self, *args):
        return subprocess.run(self.keeper_args() + list(args), check=True,
                              stderr=self.log)

    def run_vault(self, *args, check=True):
        """A vault_svc that ends by itself; its stderr is returned."""
        p = subprocess.run(self.vault_args() + list(args), env=self.environ(),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=60)
        self.log.write(p.stderr.encode())
        if check and p.returncode != 0:
            raise AssertionError(p.stderr)
        return p

    def start_keeper(self):
        self.start("keeper", self.keeper_args(), self.path("keeper.sock"))

    def start_vault(self):
        self.start("vault", self.vault_args(), self.path("admin.sock"))

    def start(self, name, args, socket):
        r, w = os.pipe()
        p = subprocess.Popen(args + ["--notify-fd=%d" % w], stderr=self.log,
                             pass_fds=[w], env=self.environ())
        os.close(w)
        ready = os.read(r, 1)
        os.close(r)
        self.procs[name] = p
        if ready != b"\n":
            raise AssertionError(name + " did not start:\n" + self.logged())

    def stop(self, name, how="terminate"):
        p = self.procs.pop(name)
        getattr(p, how)()
        return p.wait(20)

    def logged(self):
        with open(self.path("log")) as f:
            return f.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in reversed(list(self.procs)):
            self.stop(name)
        subprocess.run(["bash", ROOT + "/tests/support/pg.sh", "stop",
                        self.dir], check=True)
        self.log.close()
        shutil.rmtree(self.dir)

    # ---- calls -----------------------------------------------------------
    def call(self, face, method, request, assertion=None, tenant=None):
        args = [CALL, self.socket(face), "/" + VAULT + method]
        if assertion:
            args += ["-m", "x-brainbox-assertion=" + assertion]
        if tenant:
            args += ["-m", "x-brainbox-tenant=" + tenant]
        p = subprocess.run(args + [json.dumps(request)], timeout=30,
                           stdout=subprocess.PIPE, check=False, text=True)
        out = json.loads(p.stdout) if p.stdout else {}
        if "error" in out and p.returncode == 1:
            raise RpcError(out["error"]["kind"], out["error"]["message"])
        assert p.returncode == 0, p.returncode
        return out

    def key(self, *args):
        p = self.run_vault("key", "create", *args)
        assert p.stdout.count("\n") == 1, p.stdout
        return p.stdout.strip()

    def resolve(self, key, request=None):
        sha = hashlib.sha256(request).hexdigest() if request is not None \
            else ""
        return self.call("ingress", "IdentityService/Resolve",
                         {"api_key": key, "request_sha256": {"hex": sha}})

    def as_key(self, key, request=None):
        return self.resolve(key, request)["assertion"]

    def sql(self, text):
        p = subprocess.run(
            ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1",
             self.pg + " user=postgres", "-c", text],
            stdout=subprocess.PIPE, check=True, text=True)
        return p.stdout.strip()

    def transaction(self, text):
        """As pg.transaction, as the superuser."""
        return pg.transaction(self.pg + " user=postgres", text)

    def put_policy(self, key, hosts, env=None, version=1, **more):
        fresh = env is None
        env = env or new_id("env")
        request = environment_request(hosts, None if fresh else env, **more)
        self.call("brain", "GrantService/PutPolicy",
                  {"environment_id": env, "version": version,
                   "original_request": {"hex": request.hex()}},
                  self.as_key(key, request))
        return env

    def put_grant(self, key, env, vaults=(), envs=()):
        session = new_id("sesn")
        request = session_request(env, vaults, envs)
        self.call("brain", "GrantService/PutGrant",
                  {"session_id": session,
                   "original_request": {"hex": request.hex()}},
                  self.as_key(key, request))
        return session

    def open(self, session, kind=1, address=None, workload=None, env="",
             face="sandbox"):
        address = address or str(ipaddress.IPv6Address(
            b"\xfd" + os.urandom(15)))
        req = {"session_id": session, "kind": kind, "environment_id": env}
        if kind != 3:
            req.update(workload_id=workload or new_id("sbx"),
                       address=address)
        out = self.call(face, "WorkloadService/OpenWorkload", req)
        out["address"] = address
        out["values"] = {e["name"]: e["value"] for e in out["env"]}
        return out

    def credential(self, key, vault, name, value, hosts, **more):
        auth = {"type": "environment_variable", "secret_name": name,
                "secret_value": value,
                "networking": {"type": "limited", "allowed_hosts": hosts}}
        if "location" in more:
            auth["injection_location"] = more["location"]
        req = {"vault_id": vault, "auth_json": json.dumps(auth)}
        if "binding" in more:
            req["binding_json"] = json.dumps(more["binding"])
        return self.call("ingress", "VaultService/CreateCredential", req,
                         self.as_key(key))

    def vault(self, key):
        return self.call("ingress", "VaultService/CreateVault",
                         {"display_name": "test"}, self.as_key(key))["id"]

    def authorize(self, address="", host="api.example.com", port=443,
                  scheme="https", method="GET", path="/", stubs=(),
                  session=""):
        """stubs: (kind, name, stub); kind 1 header, 2 basic, 3 query…"""
        return self.call("egress", "EgressService/Authorize", {
            "workload_address": address, "session_id": session,
            "scheme": scheme, "host": host, "port": port, "method": method,
            "path": path, "request_id": "req_test",
            "stubs": [{"kind": k, "name": n, "stub": s}
                      for k, n, s in stubs]})


def refused(kinds, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except RpcError as e:
        assert e.kind in kinds.split("|"), e
        return e.message
    raise AssertionError("not refused with " + kinds)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main(tests):
    """Run every function; print a line each and the count at the end."""
    import sys
    import traceback
    names, passed, failed = sys.argv[1:], 0, 0
    for t in tests:
        if names and t.__name__ not in names:
            continue
        try:
            t()
            passed += 1
            print("ok", t.__name__, flush=True)
        except Exception:  # noqa: BLE001
            failed += 1
            print("FAILED", t.__name__, flush=True)
            traceback.print_exc(file=sys.stdout)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed or not passed else 0)
