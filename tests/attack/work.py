"""What honest work needs: a git server that wants a password, a signed apt
repository, a package index for pip and a registry for npm, all made here, at
two names with TLS. Run by hosts.py."""
import base64
import glob
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile

GIT, FILES = "git.a-corp.test", "files.a-corp.test"
PASSWORD = "work-password-0123456789abcdef"
PACKAGE = "brainbox-hello"


def run(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, **kw).stdout


# ---- what is served --------------------------------------------------------

def make_git(folder):
    repo, work = folder + "/git/repo.git", folder + "/git-work"
    env = dict(os.environ, HOME=folder, GIT_CONFIG_GLOBAL="/dev/null",
               GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME
               ="a", GIT_COMMITTER_EMAIL="a@b")
    run("git", "init", "-q", "-b", "main", work, env=env)
    with open(work + "/README", "w") as f:
        f.write("first\n" + "x" * 200000)
    run("git", "-C", work, "add", ".", env=env)
    run("git", "-C", work, "commit", "-q", "-m", "first", env=env)
    run("git", "clone", "-q", "--bare", work, repo, env=env)
    run("git", "-C", repo, "config", "http.receivepack", "true", env=env)


def make_package(root, name, out):
    """What stands in the folder, as a package."""
    os.makedirs(root + "/DEBIAN")
    with open(root + "/DEBIAN/control", "w") as f:
        f.write(f"Package: {name}\nVersion: 1.0\nArchitecture: all\n"
                "Maintainer: a <a@b>\nDescription: a test\n")
    run("dpkg-deb", "--root-owner-group", "-b", root, out)
    return out


def make_deb(folder):
    root = folder + "/deb"
    os.makedirs(root + "/usr/bin")
    with open(root + "/usr/bin/" + PACKAGE, "w") as f:
        f.write("#!/bin/sh\necho hello from a package\n")
    os.chmod(root + "/usr/bin/" + PACKAGE, 0o755)
    os.makedirs(folder + "/files/apt/pool")
    return make_package(root, PACKAGE, folder + "/files/apt/pool/hello.deb")


def make_nss(folder):
    """NSS with a client and the list of roots that Debian builds into it."""
    files = subprocess.run(
        ["dpkg", "-L", "libnss3", "libnspr4"], check=True,
        stdout=subprocess.PIPE, text=True).stdout.split("\n")
    for path in [f for f in files if ".so" in f or f.endswith(".chk")] + [
            "/usr/bin/tstclnt"]:
        os.makedirs(os.path.dirname(folder + "/nss" + path), exist_ok=True)
        shutil.copy(path, folder + "/nss" + path)
    make_package(folder + "/nss", "nss", folder + "/files/nss.deb")


def digest_line(folder, path, data):
    os.makedirs(os.path.dirname(folder + "/" + path), exist_ok=True)
    with open(folder + "/" + path, "wb") as f:
        f.write(data)
    return f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}\n"


def make_apt(folder):
    with open(make_deb(folder), "rb") as f:
        deb = f.read()
    packages = (f"Package: {PACKAGE}\nVersion: 1.0\nArchitecture: all\n"
                "Maintainer: a <a@b>\nDescription: a test\n"
                f"Filename: pool/hello.deb\nSize: {len(deb)}\n"
                f"SHA256: {hashlib.sha256(deb).hexdigest()}\n\n").encode()
    dist = folder + "/files/apt/dists/stable"
    lines = ""
    for arch in "amd64", "arm64", "all":
        path = f"main/binary-{arch}/Packages"
        lines += digest_line(dist, path, packages)
        lines += digest_line(dist, path + ".gz", gzip.compress(packages))
    release = ("Origin: test\nSuite: stable\nCodename: stable\n"
               "Architectures: amd64 arm64 all\nComponents: main\n"
               "Date: " + run("date", "-Ru", text=True).strip()
               .replace("+0000", "UTC") + "\nSHA256:\n" + lines)
    home = folder + "/gpg"
    os.mkdir(home, 0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--yes"]
    run(*gpg, "--passphrase", "", "--quick-gen-key", "test <a@b>", "ed25519")
    with open(dist + "/Release", "w") as f:
        f.write(release)
    run(*gpg, "--clearsign", "-o", dist + "/InRelease", dist + "/Release")
    with open(folder + "/files/apt/key.asc", "wb") as f:
        f.write(run(*gpg, "--armor", "--export"))
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"],
                   check=False)


def make_wheel(folder):
    """A package index with one wheel."""
    os.makedirs(folder + "/files/simple/hello")
    name = "hello-1.0-py3-none-any.whl"
    parts = {"hello.py": "print('hello from a wheel')\n",
             "hello-1.0.dist-info/METADATA":
             "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n",
             "hello-1.0.dist-info/WHEEL":
             "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
             "Tag: py3-none-any\n"}
    record = "".join(f"{k},,\n" for k in parts) \
        + "hello-1.0.dist-info/RECORD,,\n"
    path = folder + "/files/simple/hello/" + name
    with zipfile.ZipFile(path, "w") as z:
        for k, v in {**parts, "hello-1.0.dist-info/RECORD": record}.items():
            z.writestr(k, v)
    with open(path, "rb") as f:
        sha = hashlib.sha256(f.read()).hexdigest()
    with open(folder + "/files/simple/hello/index.html", "w") as f:
        f.write(f'<a href="{name}#sha256={sha}">{name}</a>')


def make_pip(folder):
    """pip itself, as a zip that Python runs: the image has none."""
    import pip
    top = os.path.dirname(pip.__file__)
    with zipfile.ZipFile(folder + "/files/pip.zip", "w",
                         zipfile.ZIP_DEFLATED) as z:
        for at, _, names in os.walk(top):
            for n in names:
                if not n.endswith(".pyc"):
                    p = os.path.join(at, n)
                    z.write(p, "pip/" + os.path.relpath(p, top))


def make_npm(folder):
    """A registry with one package, and npm itself: the image has none."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as t:
        for name, text in (("package.json",
                            '{"name":"hello","version":"1.0.0"}'),
                           ("index.js", "console.log('hello from npm')\n")):
            info = tarfile.TarInfo("package/" + name)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    os.makedirs(folder + "/files/npm")
    with open(folder + "/files/npm/hello-1.0.0.tgz", "wb") as f:
        f.write(data.getvalue())
    sha = base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    with open(folder + "/files/npm/hello", "w") as f:
        json.dump({"name": "hello", "dist-tags": {"latest": "1.0.0"},
                   "versions": {"1.0.0": {
                       "name": "hello", "version": "1.0.0", "dist": {
                           "tarball": f"https://{FILES}/npm/hello-1.0.0.tgz",
                           "integrity": "sha512-" + sha}}}}, f)
    # Where npm is depends on who packed it.
    cli = os.path.realpath("/usr/bin/npm")
    if cli.endswith("/npm/bin/npm-cli.js"):
        run("tar", "-czhf", folder + "/files/npm.tgz", "-C",
            cli[:-len("npm/bin/npm-cli.js")], "npm")


# javac --release 8 of, with no compiler in a JRE:
#   public static void main(String[] a) throws Exception {
#       HttpURLConnection c = (HttpURLConnection) new URL(a[0]).openConnection();
#       System.out.print(c.getResponseCode());
#   }
GET_CLASS = """
yv66vgAAADQAKgoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQAD
KClWBwAIAQAMamF2YS9uZXQvVVJMCgAHAAoMAAUACwEAFShMamF2YS9sYW5nL1N0cmluZzsp
VgoABwANDAAOAA8BAA5vcGVuQ29ubmVjdGlvbgEAGigpTGphdmEvbmV0L1VSTENvbm5lY3Rp
b247BwARAQAaamF2YS9uZXQvSHR0cFVSTENvbm5lY3Rpb24JABMAFAcAFQwAFgAXAQAQamF2
YS9sYW5nL1N5c3RlbQEAA291dAEAFUxqYXZhL2lvL1ByaW50U3RyZWFtOwoAEAAZDAAaABsB
AA9nZXRSZXNwb25zZUNvZGUBAAMoKUkKAB0AHgcAHwwAIAAhAQATamF2YS9pby9QcmludFN0
cmVhbQEABXByaW50AQAEKEkpVgcAIwEAA0dldAEABENvZGUBAARtYWluAQAWKFtMamF2YS9s
YW5nL1N0cmluZzspVgEACkV4Y2VwdGlvbnMHACkBABNqYXZhL2xhbmcvRXhjZXB0aW9uACEA
IgACAAAAAAACAAEABQAGAAEAJAAAABEAAQABAAAABSq3AAGxAAAAAAAJACUAJgACACQAAAAo
AAQAAgAAABy7AAdZKgMytwAJtgAMwAAQTLIAEiu2ABi2AByxAAAAAAAnAAAABAABACgAAA==
"""


def make_clients(folder):
    """A client in Go, and Debian's Java, whose roots stand in /etc: the image
    has neither."""
    run("tar", "-czf", folder + "/files/go.tgz", "-C", "/usr/bin", "hey")
    home = sorted(glob.glob("/usr/lib/jvm/java-*-openjdk-*"))[0]
    parts = ["modules", "server", "security", "jvm.cfg", "tzdb.dat"]
    parts += ["lib" + x + ".so" for x in (
        "java", "jimage", "jli", "net", "nio", "verify", "zip", "extnet")]
    run("tar", "-cf", folder + "/files/java.tar", "-C", "/",
        home[1:] + "/bin/java", home[1:] + "/conf",
        *[home[1:] + "/lib/" + x for x in parts],
        *[x[1:] for x in glob.glob("/etc/java-*-openjdk")])
    with open(folder + "/files/Get.class", "wb") as f:
        f.write(base64.b64decode(GET_CLASS))


# ---- serving ---------------------------------------------------------------

class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("host", "").startswith(GIT):
            return self.git()
        return super().do_GET()

    do_POST = do_GET

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            raise ValueError("chunked")
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def git(self):
        body = self.body()
        pair = base64.b64encode(("x:" + PASSWORD).encode()).decode()
        if self.headers.get("authorization") != "Basic " + pair:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        p = subprocess.run(
            ["/usr/lib/git-core/git-http-backend"], input=body,
            stdout=subprocess.PIPE, env={
                "PATH": os.environ["PATH"], "HOME": self.server.folder,
                "GIT_PROJECT_ROOT": self.server.folder + "/git",
                "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "x",
                "REQUEST_METHOD": self.command, "PATH_INFO": path,
                "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "HTTP_CONTENT_ENCODING":
                self.headers.get("content-encoding", ""),
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
                "REMOTE_ADDR": "127.0.0.1"}).stdout
        head, _, out = p.partition(b"\r\n\r\n")
        lines = [x.split(": ", 1) for x in head.decode().split("\r\n")]
        status = dict(lines).get("Status", "200 OK")
        self.send_response(int(status.split()[0]))
        for k, v in lines:
            if k != "Status":
                self.send_header(k, v)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)


def serve(folder, ip, ctx):
    top = folder + "/work"
    os.makedirs(top + "/files")
    for make in (make_git, make_apt, make_wheel, make_pip, make_npm,
                 make_clients, make_nss):
        make(top)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass

    s = Server((ip, 443), lambda *a: Handler(*a, directory=top + "/files"))
    s.folder = top
    s.socket = ctx.wrap_socket(s.socket, server_side=True,
                               do_handshake_on_connect=False)
    threading.Thread(target=s.serve_forever, daemon=True).start()
