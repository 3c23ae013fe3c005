"""Cases 66 to 69: each way out leads where the design's table says, and there is
no other. The probe stands in a service's place: its user, its groups, its network
namespace."""
import json
import os
import subprocess
import sys

from attack import case
import hosts

PROBE = """
import json, os, socket, sys
run, targets = sys.argv[1], json.loads(sys.argv[2])
got = {}


def dial(kind, address, family=socket.AF_INET, data=None):
    s = socket.socket(family, kind)
    s.settimeout(3)
    try:
        s.connect(address)
        if kind == socket.SOCK_DGRAM:
            s.send(b"x")
            s.recv(1)
        elif data:
            s.sendall(data.encode())
            return s.recv(65536).decode("latin-1")
        return "open"
    except OSError as e:
        return "!" + type(e).__name__
    finally:
        s.close()


for ip in targets["tcp"]:
    six = socket.AF_INET6 if ":" in ip else socket.AF_INET
    got["tcp " + ip] = dial(socket.SOCK_STREAM, (ip, 443), six)
    got["udp " + ip] = dial(socket.SOCK_DGRAM, (ip, 53), six)
try:
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    got["raw"] = "open"
except OSError as e:
    got["raw"] = "!" + type(e).__name__
for name in targets["sockets"]:
    path = f"{run}/{name}/{name.removesuffix('-plain')}.sock"
    for kind in socket.SOCK_STREAM, socket.SOCK_SEQPACKET:
        answer = dial(kind, path, socket.AF_UNIX)
        if answer == "open" or name not in got:
            got[name] = answer
for i, (name, data) in enumerate(targets["say"]):
    folder = name.removesuffix("-plain")
    got["say %d" % i] = dial(
        socket.SOCK_STREAM, f"{run}/{folder}/{name}.sock", socket.AF_UNIX,
        data)
print(json.dumps(got))
"""

OUTSIDE = [hosts.PUBLIC + "10", hosts.PUBLIC + "66", "10.0.0.5",
           "169.254.169.254", "93.184.219.9", "fd00::5"]


def folders(run):
    return sorted(d for d in os.listdir(run)
                  if os.path.exists(f"{run}/{d}/{d}.sock"))


def probe(t, service, user, say=()):
    """What opened, of everything that a process of the service can try."""
    run = t.api.run
    pid = subprocess.run(
        ["s6-svstat", "-o", "pid", f"{run}/services/{service}"], check=True,
        stdout=subprocess.PIPE, text=True).stdout.strip()
    out = subprocess.run(
        ["nsenter", "-t", pid, "-n", "setpriv", "--reuid", user, "--regid",
         user, "--init-groups", "--inh-caps=-all", "--bounding-set=-all",
         sys.executable, "-c", PROBE, run, json.dumps({
             "tcp": OUTSIDE, "sockets": folders(run), "say": list(say)})],
        check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
    return json.loads(out)


def opened(got, own):
    """Sockets of its own are no way out."""
    return sorted(k for k, v in got.items()
                  if v == "open" and not k.startswith(own + "-"))


def said(got):
    """Statuses, in the order of what was said."""
    return [v.split(" ")[1] for k, v in got.items() if k.startswith("say ")]


def reached_nobody(t):
    assert not [x for x in t.seen() if x["at"] != "dns"], t.seen()


@case("66", "flow: a sandbox has the bridge, and nothing else")
def sandbox_flow(t):
    got = t.run("""
def unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(3)
    s.connect(path)
    return 'open'
for ip in %s:
    f = socket.AF_INET6 if ':' in ip else socket.AF_INET
    def direct(kind, port):
        s = socket.socket(f, kind)
        s.settimeout(3)
        s.connect((ip, port))
        if kind == socket.SOCK_DGRAM:
            s.send(b'x')
            s.recv(1)
        return 'open'
    out(attempt(direct, socket.SOCK_STREAM, 443),
        attempt(direct, socket.SOCK_STREAM, 80),
        attempt(direct, socket.SOCK_DGRAM, 53))
for name in %s:
    out(attempt(unix, name), attempt(unix, '\\\\0' + name))
with open('/proc/net/unix') as f:
    out('refused' if len(f.readlines()) <= 1 else 'open')
out(ask('%s', '/'), ask(E, '/', port=8443))
""" % (OUTSIDE, [f"{t.api.run}/{d}/{d}.sock" for d in folders(t.api.run)],
       hosts.DENIED))
    assert not [x for x in got if "open" in x], got
    assert "host_not_allowed" in got[-2], got[-2]
    reached_nobody(t)


@case("67", "flow: the brain has egress, for hosts that are its own")
def brain_flow(t):
    s = t.session()
    ask = "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n"
    own = f"X-Brainbox-Session: {s}\r\n"
    got = probe(t, "brain_svc", "brainbox-brain", [
        ("egress-brain-plain", ask % (hosts.E, "X-1: 1\r\n")),
        ("egress-brain-plain", ask % (hosts.DENIED, own)),
        ("egress-brain-plain", ask % (hosts.A, own)),
        ("egress-brain-plain", ask % ("10.0.0.5", own))])
    assert opened(got, "brain") == ["egress-brain", "sandbox-brain",
                                    "vault-brain"], got
    assert said(got) == ["403"] * 4, got
    reached_nobody(t)


@case("68", "flow: the vault has its bridge, for what root lists")
def vault_flow(t):
    connect = "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n"
    got = probe(t, "vault_svc", "brainbox-vault", [
        ("egress-vault", connect % (hosts.IDP + ":443")),
        ("egress-vault", connect % (hosts.IDP + ":80")),
        ("egress-vault", connect % (hosts.A + ":443")),
        ("egress-vault", connect % (hosts.E + ":443")),
        ("egress-vault", connect % (hosts.PUBLIC + "66:443")),
        ("egress-vault", f"GET http://{hosts.E}/ HTTP/1.1\r\n\r\n")])
    assert opened(got, "vault") == ["egress-vault", "keeper-vault"], got
    assert said(got) == ["200", "403", "403", "403", "400", "400"], got
    # A sandbox does not get there because the vault does.
    t.one(t.run("out(ask('%s', '/'))" % hosts.IDP)[0], 403, "host_not_allowed")
    assert not [x for x in t.seen() if x["at"] not in ("dns", "idp",
                                                       "idp error")], t.seen()


@case("69", "flow: nobody else has one")
def other_flows(t):
    for service, user, sockets in (
            ("sandbox_svc", "brainbox-sandbox",
             ["launcher-sandbox", "vault-sandbox"]),
            ("bridge", "brainbox-bridge", ["egress-bridge"]),
            ("vault_keeper", "brainbox-keeper", []),
            ("postgres", "postgres", [])):
        got = probe(t, service, user)
        assert opened(got, user.partition("-")[2] or "pg") == sockets, (
            service, got)
    reached_nobody(t)
