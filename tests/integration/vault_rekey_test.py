#!/usr/bin/env python3
"""Terms of data keys: a new one seals, older values are sealed anew while
requests go on, and nothing is lost on the way. Needs root (initdb runs as
postgres)."""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vault_support import Vault, main, refused, wait_for  # noqa: E402

SECRET = "sekret-value-%04d-abcdefghijkl"


def versions():
    return V.sql("SELECT key_version, count(*) FROM vault.credential"
                 " GROUP BY 1 ORDER BY 1")


def rotate(**kw):
    return V.call("ingress", "DataKeyService/RotateDataKey", {},
                  V.as_key(kw.get("key", KEY)))


class Session:
    def __init__(self, n):
        self.vault, self.value = V.vault(KEY), SECRET % n
        self.cred = V.credential(KEY, self.vault, "API_TOKEN", self.value,
                                 ["api.example.com"])["id"]
        w = V.open(V.put_grant(KEY, ENV, [self.vault]))
        self.at, self.stub = w["address"], w["values"]["API_TOKEN"]

    def use(self):
        out = V.authorize(self.at, stubs=[(1, "authorization", self.stub)])
        assert out["verdict"] == 1, out
        return out["swaps"][0]["value"]

    def update(self, value):
        V.call("ingress", "VaultService/UpdateCredential", {
            "vault_id": self.vault, "credential_id": self.cred,
            "auth_json": json.dumps({"type": "environment_variable",
                                     "secret_value": value})}, V.as_key(KEY))


def everything_is_sealed_anew():
    some = [Session(n) for n in range(40)]
    V.call("ingress", "VaultService/ArchiveCredential",
           {"vault_id": some[-1].vault, "credential_id": some[-1].cred},
           V.as_key(KEY))
    before = V.sql("SELECT sealed FROM vault.credential ORDER BY id")
    out = rotate()
    assert out["version"] == 2 and out["resealed"] == 40, out
    assert versions() == "2|40"
    after = V.sql("SELECT sealed FROM vault.credential ORDER BY id")
    assert not set(before.split()) & set(after.split())
    for s in some[:-1]:
        assert s.use() == s.value
    late = Session(99)
    assert V.sql("SELECT key_version FROM vault.credential WHERE id = '%s'"
                 % late.cred) == "2"
    assert late.use() == late.value


def a_key_that_nothing_names_goes_a_rotation_later():
    assert rotate()["version"] == 3
    assert V.sql("SELECT version FROM vault.data_key ORDER BY 1") == "2\n3"
    assert rotate()["version"] == 4
    assert V.sql("SELECT version FROM vault.data_key ORDER BY 1") == "3\n4"


def keys_are_there_after_a_restart():
    s = Session(100)
    V.stop("vault")
    V.start_vault()
    assert s.use() == s.value
    assert V.run_vault("audit", "verify").returncode == 0


def requests_go_on_meanwhile():
    some = [Session(200 + n) for n in range(30)]
    stop, errors, done = threading.Event(), [], [0, 0]

    def user(mine):
        while not stop.is_set():
            for s in mine:
                try:
                    got = s.use()
                    assert got == s.value, (got, s.value)
                    done[0] += 1
                except Exception as e:  # noqa: BLE001
                    errors.append(e)

    def changer(s):
        n = 0
        while not stop.is_set():
            n += 1
            value = "new-value-%06d-abcdefghijklmn" % n
            try:
                s.update(value)
                s.value = value
                done[1] += 1
                got = s.use()
                assert got == value, (got, value)
            except Exception as e:  # noqa: BLE001
                # The one answer that says "read it again" is no loss.
                if "changed meanwhile" not in str(e):
                    errors.append(e)

    threads = [threading.Thread(target=user, args=(some[i::3],))
               for i in range(3) if some[i::3]]
    hot = Session(300)
    threads.append(threading.Thread(target=changer, args=(hot,)))
    for t in threads:
        t.start()
    first = rotate()["version"]
    for _ in range(4):
        rotate()
        time.sleep(0.2)
    stop.set()
    for t in threads:
        t.join()
    assert not errors, errors[:3]
    assert min(done) > 5, done
    rotate()
    newest = first + 5
    left = dict(x.split("|") for x in versions().split())
    assert set(left) == {str(newest)}, left
    assert hot.use() == hot.value


def what_was_begun_goes_on_after_a_restart():
    s = Session(400)
    where = " FROM vault.credential WHERE id = '%s'" % s.cred
    old = V.sql("SELECT encode(sealed, 'hex'), encode(mac, 'hex'),"
                " key_version" + where).split("|")
    newest = rotate()["version"]
    V.stop("vault", "kill")
    # As it is when it dies before this row was written.
    V.sql("UPDATE vault.credential SET sealed = decode('%s', 'hex'),"
          " mac = decode('%s', 'hex'), key_version = %s WHERE id = '%s'"
          % (*old, s.cred))
    V.start_vault()
    assert s.use() == s.value
    wait_for("the row", lambda: V.sql("SELECT key_version" + where)
             == str(newest))
    assert s.use() == s.value
    out = V.run_vault("rekey").stdout
    assert "data key %d:" % (newest + 1) in out, out


def terms_end_by_time():
    newest = int(V.sql("SELECT max(version) FROM vault.data_key"))
    V.stop("vault")
    V.sql("UPDATE vault.data_key SET created_us = created_us - 91 * 86400 *"
          " 1000000::bigint")
    V.start_vault()
    wait_for("a new key", lambda: versions().startswith(
        "%d|" % (newest + 1)))
    time.sleep(0.5)
    assert versions().startswith("%d|" % (newest + 1))


def only_an_admin_rotates():
    plain = V.key("--scopes=read,write")
    refused("denied", rotate, key=plain)


def rows_under_a_key_that_is_not_theirs_do_not_open():
    s = Session(500)
    newest = int(V.sql("SELECT max(version) FROM vault.data_key"))
    for wrong in 1, newest - 1, newest + 7:
        V.sql("UPDATE vault.credential SET key_version = %d WHERE id = '%s'"
              % (wrong, s.cred))
        V.put_policy(KEY, [])  # what is kept in memory is forgotten
        refused("corrupt|internal", s.use)
    V.sql("UPDATE vault.credential SET key_version = %d WHERE id = '%s'"
          % (newest, s.cred))
    V.put_policy(KEY, [])
    assert s.use() == s.value


def a_key_that_is_gone_is_found():
    assert V.run_vault("audit", "verify").returncode == 0
    newest = int(V.sql("SELECT max(version) FROM vault.data_key"))
    row = V.sql("SELECT tenant, version, encode(wrapped_key, 'hex'),"
                " created_us FROM vault.data_key WHERE version = %d"
                % newest).split("|")
    V.sql("DELETE FROM vault.data_key WHERE version = %d" % newest)
    p = V.run_vault("audit", "verify", check=False)
    assert p.returncode == 1 and "data key %d" % newest in p.stdout, p.stdout
    # Nor does another's, or an older one, stand for it.
    V.sql("INSERT INTO vault.data_key SELECT tenant, %d, wrapped_key,"
          " created_us FROM vault.data_key WHERE version = %d"
          % (newest, newest - 1))
    V.stop("vault")
    try:
        V.start_vault()
        raise RuntimeError("a moved data key was taken")
    except AssertionError:
        V.procs.pop("vault").wait(20)
    V.sql("DELETE FROM vault.data_key WHERE version = %d" % newest)
    V.sql("INSERT INTO vault.data_key VALUES ('%s', %s, decode('%s', 'hex'),"
          " %s)" % tuple(row))
    V.start_vault()


TESTS = [
    everything_is_sealed_anew,
    a_key_that_nothing_names_goes_a_rotation_later,
    keys_are_there_after_a_restart,
    requests_go_on_meanwhile,
    what_was_begun_goes_on_after_a_restart,
    terms_end_by_time,
    only_an_admin_rotates,
    rows_under_a_key_that_is_not_theirs_do_not_open,
    a_key_that_is_gone_is_found,
]

if __name__ == "__main__":
    with Vault() as V:
        KEY = V.key()
        ENV = V.put_policy(KEY, ["*.example.com"])
        main(TESTS)
