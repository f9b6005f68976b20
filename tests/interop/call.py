"""Lets a client of ours call other people's servers, directly and through other people's proxies.

    call.py OUTDIR CALLER CHAIN KEY

CALLER is the program of `caller.rs`; CHAIN and KEY are a certificate of localhost and 127.0.0.1 that
the servers show. Needs node, nginx and openssl, and `websockets` and `pproxy` beside this Python.
Exits with 1 if one call has not gone as it should, after all have been tried.
"""

import contextlib
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
OUT, CALLER, CHAIN, KEY = Path(sys.argv[1]), *sys.argv[2:5]
failed = 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port, process):
    for _ in range(200):
        assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError(process.args[0])


@contextlib.contextmanager
def running(name, *command, port=None):
    """A process that says "listening", or listens at `port`, before the body begins."""
    with open(OUT / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command], stderr=log,
            stdout=log if port else subprocess.PIPE, stdin=subprocess.DEVNULL,
        )
    try:
        if port:
            await_port(port, process)
        else:
            assert process.stdout.readline() == b"listening\n", name
        yield process
    finally:
        process.terminate()
        process.wait(10)


def call(name, url, expected, *options, says, at_least=0):
    """Calls `url`. What the client says has to match `says`, as a whole; it takes so many seconds."""
    global failed
    began = time.monotonic()
    called = subprocess.run(
        [CALLER, url, expected, *options], capture_output=True, text=True, timeout=60, check=False,
    )
    is_right = called.returncode == 0 and re.fullmatch(says, called.stdout.strip(), re.DOTALL)
    is_right = is_right and time.monotonic() - began >= at_least
    failed += not is_right
    print(f"  {name}: {'ok' if is_right else 'FAILED'}", flush=True)
    if not is_right:
        print(called.stdout + called.stderr, f"wanted: {says}", url, expected, *options)


TOLD = r"Text 6 in two\nText 14 ponged between\nBinary 3145728 x{40}\nclosed 4321 clean %s told everything"


def exchange(name, base, *options):
    """All that is to be had from a server of `servers.py` or `servers.mjs`."""
    call(f"{name}, echo", f"{base}/echo", "echo", *options, says="closed 1000 clean plain.*")
    call(f"{name}, subprotocol", f"{base}/echo", "echo", "--subprotocol", "chosen", *options,
         says="closed 1000 clean plain.*")
    call(f"{name}, compressed", f"{base}/echo", "echo", "--compressed", *options,
         says="closed 1000 clean permessage-deflate.*")
    call(f"{name}, told", f"{base}/tell", "told", *options, says=TOLD % "plain")
    call(f"{name}, told, compressed", f"{base}/tell", "told", "--compressed", *options,
         says=TOLD % "permessage-deflate.*")
    call(f"{name}, refused", f"{base}/none", "the server answered with status 403", *options,
         says="the server answered with status 403 instead of 101\nnot for you")
    call(f"{name}, slow Close", f"{base}/slow", "echo", *options, at_least=1.5,
         says="closed 1000 clean plain.*")
    call(f"{name}, cut off", f"{base}/kill", "told", *options, says="closed 1006 unclean plain")


def servers():
    programs = {
        "websockets": [sys.executable, HERE / "servers.py"],
        "ws": ["node", HERE / "servers.mjs"],
    }
    trusting = ("--ca", CHAIN)
    for name, command in programs.items():
        port = free_port()
        with running(f"{name}", *command, port, "", "", ""):
            exchange(name, f"ws://127.0.0.1:{port}")
        port = free_port()
        with running(f"{name}-tls", *command, port, CHAIN, KEY, ""):
            exchange(f"{name} over TLS", f"wss://localhost:{port}", *trusting)
            call(f"{name} over TLS, by its address", f"wss://127.0.0.1:{port}/echo", "echo",
                 *trusting, says="closed 1000 clean plain.*")
            call(f"{name} over TLS, not trusted", f"wss://localhost:{port}/echo", "TLS: invalid peer",
                 says="TLS: invalid peer certificate: .*")
        path = OUT / f"{name}.sock"
        path.unlink(missing_ok=True)
        with running(f"{name}-unix", *command, 0, "", "", path):
            exchange(f"{name} at a Unix socket", f"ws+unix:{path}:")


NGINX = """
daemon off;
worker_processes 1;
error_log stderr;
pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols {version};
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""


def nginx():
    behind = free_port()
    with running("behind-nginx", sys.executable, HERE / "servers.py", behind, "", "", ""):
        for version in ("TLSv1.2", "TLSv1.3"):
            port, directory = free_port(), OUT / f"nginx-{version}"
            directory.mkdir(exist_ok=True)
            text = NGINX.format(directory=directory.absolute(), port=port, version=version,
                                chain=CHAIN, key=KEY, behind=behind)
            (directory / "nginx.conf").write_text(text)
            command = ["nginx", "-e", "stderr", "-p", directory.absolute(), "-c", "nginx.conf"]
            with running(f"nginx-{version}", *command, port=port):
                exchange(f"nginx, {version}", f"wss://localhost:{port}", "--ca", CHAIN)


def openssl():
    """Its server speaks HTTP and no WebSocket: what is tried is the handshake of TLS."""
    for version in ("1_2", "1_3"):
        port = free_port()
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-cert", CHAIN,
                   "-key", KEY, f"-tls{version}", "-alpn", "http/1.1"]
        with running(f"openssl-{version}", *command, port=port):
            call(f"s_server, TLS {version}", f"wss://localhost:{port}/",
                 "the server answered with status 200", "--ca", CHAIN, says=".*s_server.*")
        port = free_port()
        command[3] = f"127.0.0.1:{port}"
        with running(f"openssl-{version}-asking", *command, "-Verify", 1, port=port):
            call(f"s_server, TLS {version}, asking for a certificate", f"wss://localhost:{port}/",
                 "TLS: received fatal alert", "--ca", CHAIN, says="TLS: received fatal alert: .*")
    port = free_port()
    with running("no-tls", "node", HERE / "servers.mjs", port, "", "", ""):
        call("TLS to who speaks none", f"wss://localhost:{port}/echo", "TLS: received corrupt message",
             "--ca", CHAIN, says="TLS: received corrupt message.*")


def proxies():
    plain, secured = free_port(), free_port()
    websockets = [sys.executable, HERE / "servers.py"]
    with (running("behind-proxies", *websockets, plain, "", "", ""),
          running("behind-proxies-tls", *websockets, secured, CHAIN, KEY, "")):
        for scheme in ("http", "socks5"):
            for password in (None, "user:pass"):
                port = free_port()
                listen = f"{scheme}://127.0.0.1:{port}" + (f"#{password}" if password else "")
                name = f"pproxy, {scheme}" + (", password" if password else "")
                log = f"pproxy-{scheme}-{'known' if password else 'open'}"
                command = [sys.executable, "-m", "pproxy", "-l", listen]
                with running(log, *command, port=port):
                    login = f"{password}@" if password else ""
                    proxy = ("--proxy", f"{scheme}://{login}127.0.0.1:{port}")
                    exchange(name, f"ws://localhost:{plain}", *proxy)
                    exchange(f"{name}, wss", f"wss://localhost:{secured}", *proxy, "--ca", CHAIN)
                    nowhere = f"ws://127.0.0.1:{free_port()}/"
                    call(f"{name}, nobody behind it", nowhere, "", *proxy, says=".+")
                    if password:
                        wrong = ("--proxy", f"{scheme}://user:wrong@127.0.0.1:{port}")
                        call(f"{name}, wrong", f"ws://localhost:{plain}/echo", "", *wrong, says=".+")


for scenario in (servers, nginx, openssl, proxies):
    scenario()
sys.exit(failed > 0)
