"""corewire, nginx and HAProxy as processes on 127.0.0.1, each with a directory of its own."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import page

PATIENCE = 15
UPGRADE = (b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
# The page's certificates, by where it says they are.
CERTIFICATE, KEY = "/etc/ssl/example.com.pem", "/etc/ssl/example.com.key"
INTERNAL_CERTIFICATE = "/etc/ssl/corewire.pem"

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def wait_until(condition, what, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return result


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def curl(url, *options):
    """Status and body of a GET."""
    command = ["curl", "-s", "-m", "10", "-w", "\n%{http_code}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


class Process:
    def __init__(self, bed, name, command, **rest):
        self.name, self.log = name, bed.path(f"{name}.log")
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(command, stdout=log, stderr=log, **rest)
        self.pid = self.popen.pid
        bed.callback(self.end)

    def is_alive(self):
        return self.popen.poll() is None

    def await_listening(self, *ports):
        def ready():
            assert self.is_alive(), f"{self.name} did not start:\n{self.log.read_text()}"
            return all(map(listens, ports))
        wait_until(ready, f"{self.name} listens")

    def end(self, number=signal.SIGTERM):
        if self.is_alive():
            self.popen.send_signal(number)
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise


class Bed(contextlib.ExitStack):
    """Ends all processes that were started on it."""

    def __init__(self, directory):
        super().__init__()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.directory = directory

    def path(self, name):
        return self.directory / name

    def write(self, name, text):
        self.path(name).write_text(text)
        return self.path(name)

    def unix(self):
        """A Unix socket to listen on, its path short enough wherever the directory is."""
        short = self.enter_context(tempfile.TemporaryDirectory(prefix="corewire"))
        return f"unix:{short}/socket"

    def certificate(self, host):
        """A self-signed certificate and its key, also in one file: its three paths."""
        both, certificate, key = (self.path(f"{host}.{end}") for end in ("both", "pem", "key"))
        if not both.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={host}",
                 "-addext", f"subjectAltName=DNS:{host},DNS:localhost,IP:127.0.0.1",
                 "-keyout", key, "-out", certificate],
                check=True, capture_output=True)
            both.write_text(certificate.read_text() + key.read_text())
        return certificate, key, both


class Corewire(Process):
    """The program. It says at `debug` which requests reach its application, and from whom."""

    def __init__(self, bed, *flags, listen=None, name="corewire", command=None, **rest):
        self.port = free_port()
        listen = listen or f"127.0.0.1:{self.port}"
        # Nobody wants to wait while it parts from one client after the other.
        serve = [os.environ["COREWIRE"], "serve", "--listen", listen, "--drain-window", "0s"]
        command = command or [*serve, *flags]
        super().__init__(bed, name, [*command, "--log", "debug", "--threads", "2"], **rest)
        said = lambda: "threads: 2" in self.log.read_text()
        wait_until(lambda: said() or not self.is_alive(), "corewire starts")
        assert said(), f"corewire did not start:\n{self.log.read_text()}"

    def requests(self):
        """What its application has been asked, as (peer, method, target); behind a proxy that it
        believes, the peer is `CLIENT via PROXY`."""
        line = r" DEBUG (\S+(?: via \S+)?) ([A-Z]+) (\S+)$"
        return re.findall(line, self.log.read_text(), re.MULTILINE)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def await_descriptors(self, count):
        wait_until(lambda: self.descriptors() == count, f"corewire is back at {count} descriptors")

    def stop(self, by=signal.SIGINT):
        """Tells it to end; the count of WebSocket connections that it has had."""
        assert self.is_alive(), f"corewire ended by itself:\n{self.log.read_text()[-2000:]}"
        self.popen.send_signal(by)
        return self.await_end()

    def await_end(self):
        status = self.popen.wait(PATIENCE)
        assert status == 0, f"corewire exited with {status}"
        return int(re.search(r"ended after .*: (\d+) connections", self.log.read_text())[1])


def nginx(bed, edits, name="nginx", file="nginx.conf", variation=None):
    """nginx with a configuration of the page, of which `edits` replaces parts."""
    http = f"http {{\naccess_log off;\nclient_body_temp_path {bed.path('bodies')};"
    edits = {**({"http {": http} if file == "nginx.conf" else {}), **edits}
    path = bed.write(f"{name}.conf", page.configuration(file, edits, variation))
    # Its user opens Unix sockets of corewire's, which here belong to whoever runs this.
    user = "user root;" if os.geteuid() == 0 else ""
    own = f"daemon off; pid {bed.path(name + '.pid')}; {user}"
    return Process(bed, name, ["nginx", "-e", "stderr", "-p", bed.directory, "-c", path, "-g", own])


def haproxy(bed, edits, name="haproxy", file="haproxy.cfg", variation=None, replaces=None):
    # It would not start where two descriptors for each of the page's connections are too many.
    edits = {"maxconn 20000": "maxconn 4000", **edits}
    path = bed.write(f"{name}.cfg", page.configuration(file, edits, variation))
    command = ["haproxy", "-db", "-f", path]
    return Process(bed, name, command + (["-sf", str(replaces.pid)] if replaces else []))


class Proxy:
    """One of the two in front of `upstream`, HOST:PORT or unix:PATH, with a port for HTTP and one for
    HTTPS."""

    NAMES = ("nginx", "haproxy")

    def __init__(self, bed, name, upstream, edits=None, variation=None):
        self.bed, self.name = bed, name
        self.port, self.tls_port = free_port(), free_port()
        certificate, key, both = bed.certificate("example.com")
        internal = bed.certificate("corewire.internal")[0]
        if name == "nginx":
            self.edits = {
                "listen 80;": f"listen 127.0.0.1:{self.port};",
                "listen 443 ssl;": f"listen 127.0.0.1:{self.tls_port} ssl;",
                f"ssl_certificate {CERTIFICATE}": f"ssl_certificate {certificate}",
                KEY: str(key),
            }
        else:
            self.edits = {
                "bind :80": f"bind 127.0.0.1:{self.port}",
                f":443 ssl crt {CERTIFICATE}": f"127.0.0.1:{self.tls_port} ssl crt {both}",
            }
        if upstream.startswith("unix:"):
            self.edits["/run/corewire/corewire.sock"] = upstream.removeprefix("unix:")
        else:
            self.edits["127.0.0.1:9001"] = upstream
        if variation == "over TLS":
            self.edits[INTERNAL_CERTIFICATE] = str(internal)
        self.edits |= edits or {}
        self.variation = variation
        self.certificate = certificate
        self.process = self.start()

    def start(self, **rest):
        start = {"nginx": nginx, "haproxy": haproxy}[self.name]
        self.process = start(self.bed, self.edits, variation=self.variation, **rest)
        self.process.await_listening(self.port, self.tls_port)
        return self.process

    def await_upstream(self):
        """HAProxy answers 503 until its first health check is through."""
        healthy = lambda: curl(self.url("http") + "healthz") == (200, "ok\n")
        wait_until(healthy, f"{self.name} serves")

    def url(self, scheme="ws"):
        return f"{scheme}://127.0.0.1:{self.tls_port if scheme in ('wss', 'https') else self.port}/"


def stream(bed, name, server, edits=None):
    """A port from which a proxy passes bytes on untouched."""
    port = free_port()
    edits = {"127.0.0.1:9001": f"127.0.0.1:{server.port}", **(edits or {})}
    if name == "nginx":
        edits["listen 443;"] = f"listen 127.0.0.1:{port};"
        process = nginx(bed, edits, "nginx-stream", "nginx-stream.conf")
    else:
        edits["bind :443"] = f"bind 127.0.0.1:{port}"
        process = haproxy(bed, edits, "haproxy-tcp", "haproxy-tcp.cfg")
    process.await_listening(port)
    return port
