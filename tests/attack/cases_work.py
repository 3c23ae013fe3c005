"""Honest work, with nothing configured for it: clones, pushes and installs go
through the same gateway as the attacks."""
from attack import case
import hosts
import work


def session(t):
    t.values.append(work.PASSWORD)
    t.own("work")
    v, _ = t.credential("GIT_TOKEN", work.PASSWORD, [work.GIT])
    return t.session([v], t.api.environment([work.GIT, work.FILES, hosts.B]))


@case("61", "work: git clone, commit and push with a stub as password")
def git_works(t):
    got, log = t.run("""
out(sh('set -e; cd /tmp; export GIT_TERMINAL_PROMPT=0 GIT_AUTHOR_NAME=a'
       ' GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b;'
       ' git clone -q https://x:$GIT_TOKEN@%s/repo.git work; cd work;'
       ' head -1 README; head -c 3000000 /dev/urandom >big; git add big;'
       ' git commit -q -m second; git push -q origin HEAD:main;'
       ' git fetch -q; git log --format=%%s origin/main'))
out(sh('cd /tmp/work; git ls-remote https://x:wrong@%s/repo.git 2>&1'))
""" % (work.GIT, work.GIT), session(t))
    # A push that is sent twice, on a kept connection and on a new one, fails.
    assert "first\nsecond\nfirst\n[exit 0]" in got, got
    assert "[exit 0]" not in log, log


@case("62", "work: apt-get update and install from a signed repository")
def apt_works(t):
    got, = t.run("""
out(sh('set -e; curl -sSf https://%s/apt/key.asc -o'
       ' /etc/apt/trusted.gpg.d/test.asc; rm -f /etc/apt/sources.list'
       ' /etc/apt/sources.list.d/*; echo "deb https://%s/apt stable main"'
       ' >/etc/apt/sources.list; apt-get update -qq; apt-get install -y -qq'
       ' %s 2>&1; %s'))
""" % (work.FILES, work.FILES, work.PACKAGE, work.PACKAGE), session(t))
    assert "hello from a package\n[exit 0]" in got, got


@case("63", "work: pip installs from an index")
def pip_works(t):
    got, = t.run("""
out(sh('set -e; cd /tmp; curl -sSf https://%s/pip.zip -o pip.zip; python3'
       ' pip.zip/pip --version >/dev/null 2>&1 || true; PYTHONPATH=pip.zip'
       ' python3 -m pip install -q --no-cache-dir --target lib --index-url'
       ' https://%s/simple hello 2>&1; PYTHONPATH=lib python3 -m hello'))
""" % (work.FILES, work.FILES), session(t))
    assert "hello from a wheel\n[exit 0]" in got, got


@case("64", "work: npm installs from a registry")
def npm_works(t):
    got, = t.run("""
out(sh('set -e; cd /tmp; curl -sSf https://%s/npm.tgz -o npm.tgz;'
       ' tar -xzf npm.tgz; mkdir app; cd app; node ../npm/bin/npm-cli.js install'
       ' --registry https://%s/npm --no-audit --no-fund hello 2>&1 | tail -3;'
       ' node -e "require(\\\\"hello\\\\")"'))
""" % (work.FILES, work.FILES), session(t))
    assert "hello from npm\n[exit 0]" in got, got


@case("65", "work: curl by HTTP/1.1 and HTTP/2, openssl, node, Python")
def clients_work(t):
    got = t.run("""
u = 'https://%s/simple/hello/'
out(sh('curl -sSf --http1.1 -o /dev/null -w "%%{http_version} %%{http_code}"'
       ' ' + u), sh('curl -sSf --http2 -o /dev/null -w'
       ' "%%{http_version} %%{http_code}" ' + u),
    sh('node -e "fetch(process.argv[1]).then(r => r.text())'
       '.then(t => console.log(t.length > 20))" ' + u),
    sh('python3 -c "import urllib.request as r,sys;'
       ' print(len(r.urlopen(sys.argv[1]).read()) > 20)" ' + u),
    sh('openssl s_client -brief -verify_return_error -connect %s:443'
       ' -servername %s </dev/null 2>&1'))
""" % (work.FILES, work.FILES, work.FILES), session(t))
    assert got[0] == "1.1 200[exit 0]" and got[1] == "2 200[exit 0]", got
    assert got[2] == "true\n[exit 0]" and got[3] == "True\n[exit 0]", got
    assert "Verification: OK" in got[4], got[4]


@case("65b", "work: Go and Java trust what the others do")
def go_and_java_work(t):
    got = t.run("""
u = 'https://%s/simple/hello/'
out(sh('cd /tmp; curl -sSf https://%s/go.tgz | tar -xz; ./hey -n 4 -c 2 ' + u),
    sh('curl -sSf https://%s/java.tar | tar -x -C / && curl -sSfO'
       ' https://%s/Get.class && /usr/lib/jvm/java-*/bin/java -Xshare:off -cp .'
       ' Get ' + u),
    sh('rm /etc/ssl/certs/java/cacerts; /usr/lib/jvm/java-*/bin/java -cp .'
       ' Get ' + u))
""" % (work.FILES, work.FILES, work.FILES, work.FILES), session(t))
    assert "[200]\t4 responses" in got[0], got[0]
    assert "200[exit 0]" in got[1], got[1]
    # It is the store that makes it so.
    assert "SSLException" in got[2] or "SSLHandshake" in got[2], got[2]


@case("65c", "work: a program of NSS that is installed trusts it, too")
def nss_works(t):
    got = t.run("""
client = 'tstclnt -b -D -Q -h %s -p 443 2>&1'
out(sh('set -e; cd /tmp; curl -sSfO https://%s/nss.deb;'
       ' dpkg -i nss.deb 2>&1 >/dev/null; ' + client),
    sh('cd /usr/lib/*-linux-gnu; mv libnssckbi.so.nss libnssckbi.so; ' + client))
""" % (work.FILES, work.FILES), session(t))
    assert got[0].endswith("[exit 0]"), got[0]
    # It is the module that makes it so.
    assert "[exit 0]" not in got[1] and "issuer" in got[1].lower(), got[1]
