#!/usr/bin/python3
"""`audit verify` over a long chain: a real vault, PostgreSQL and keeper. Rows
are made here, with the tenant's own key, as vault_svc would have made them.

    vault_bench.py [ROWS]
"""
import ctypes
import hashlib
import hmac
import os
import resource
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
from vault_support import Vault, wait_for  # noqa: E402

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
DETAIL = ('{"reason":"allowed","method":"GET","path":"/v1/items/%d",'
          '"request_id":"req_0123456789abcdef01234567",'
          '"credentials":["vcrd_01m7000000000000000000000"]}')


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def field(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def number(n):
    return field(struct.pack(">q", n))


def aes_gcm_open(key, aad, envelope):
    """nonce, ciphertext, tag; by the libcrypto that is there anyway."""
    c = ctypes.CDLL("libcrypto.so.3")
    for f in "EVP_CIPHER_CTX_new", "EVP_aes_256_gcm":
        getattr(c, f).restype = ctypes.c_void_p
    ctx, n = ctypes.c_void_p(c.EVP_CIPHER_CTX_new()), ctypes.c_int()
    out = ctypes.create_string_buffer(len(envelope))
    body, tag = envelope[12:-16], envelope[-16:]
    gcm = ctypes.c_void_p(c.EVP_aes_256_gcm())
    assert c.EVP_DecryptInit_ex(ctx, gcm, None, key, envelope[:12]) == 1
    assert c.EVP_DecryptUpdate(ctx, None, ctypes.byref(n), aad, len(aad)) == 1
    assert c.EVP_DecryptUpdate(ctx, out, ctypes.byref(n), body,
                               len(body)) == 1
    plain = out.raw[:n.value]
    assert c.EVP_CIPHER_CTX_ctrl(ctx, 0x11, 16, tag) == 1
    assert c.EVP_DecryptFinal_ex(ctx, out, ctypes.byref(n)) == 1
    return plain


def mac_key(v):
    with open(v.path("master.key"), "rb") as f:
        wrap = mac(f.read(), b"brainbox-keeper-wrap-v1")
    wrapped = v.sql("SELECT encode(wrapped_key, 'hex') FROM vault.tenant"
                    " WHERE tenant = 'default'")
    aad = field("brainbox-tenant-key-v1") + field("default") + number(1)
    return mac(aes_gcm_open(wrap, aad, bytes.fromhex(wrapped)),
               b"brainbox-mac-v1")


def fill(v, n):
    key = mac_key(v)
    seq, last = v.sql("SELECT seq, encode(mac, 'hex') FROM vault.audit"
                      " WHERE tenant = 'default' ORDER BY seq DESC"
                      " LIMIT 1").split("|")
    seq, last = int(seq), bytes.fromhex(last)
    p = subprocess.Popen(
        ["psql", "-qX", v.pg + " user=postgres", "-c",
         "COPY vault.audit (tenant, seq, id, created_us, action, subject,"
         " object, session_id, detail, mac) FROM STDIN"],
        stdin=subprocess.PIPE, text=True)
    at = int(time.time() * 1e6)
    for i in range(1, n + 1):
        row = ["aud_bench%012d" % i, at + i, "egress.allowed", "sesn_bench",
               "https://api.example.com:443", "sesn_bench", DETAIL % i]
        msg = field("brainbox-audit-v1") + field("default") \
            + number(seq + i) + field(row[0]) + number(row[1]) \
            + b"".join(field(x) for x in row[2:]) + field(last)
        last = mac(key, msg)
        p.stdin.write("default\t%d\t%s\t\\\\x%s\n" % (
            seq + i, "\t".join(str(x) for x in row), last.hex()))
    p.stdin.close()
    assert p.wait() == 0


def main():
    with Vault() as v:
        v.key()
        v.stop("vault")
        fill(v, ROWS)
        v.start_vault()
        v.key()
        wait_for("the head", lambda: os.path.exists(v.path("audit-heads"))
                 and int(open(v.path("audit-heads")).read().split()[2])
                 > ROWS, 60)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        start = time.monotonic()
        p = subprocess.run(v.vault_args() + ["audit", "verify"], check=True,
                           stdout=subprocess.PIPE, stderr=v.log, text=True,
                           env=v.environ())
        took = time.monotonic() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        assert ", 0 findings" in p.stdout, p.stdout
        print("figure vault.verify_rows %d rows" % ROWS)
        print("figure vault.verify_s %.2f s" % took)
        print("figure vault.verify_cpu_s %.2f s" % used)


main()
