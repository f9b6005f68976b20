"""What passes through a proxy: messages, codes, addresses and fields, in each way to connect."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from websockets.asyncio.client import connect

from bed import UPGRADE, Bed, Corewire, Proxy, curl, scenario, wait_until

CLIENT = Path(__file__).parents[1] / "interop" / "client.py"

FORGED = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: forged",
          "Forwarded: for=192.0.2.1")


def talk(url, *mode, certificate=None):
    """The client of tests/interop; trusts `certificate` alone."""
    environment = {**os.environ, **({"SSL_CERT_FILE": str(certificate)} if certificate else {})}
    command = [sys.executable, "-B", CLIENT, url, *mode]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def await_client(client):
    output, _ = client.communicate(timeout=120)
    assert client.returncode == 0, f"the client failed:\n{output}"


def exchange_all(server, url, certificate=None):
    """All steps of the client, and then the 1012 of the server, which drains."""
    await_client(talk(url, certificate=certificate))
    client = talk(url, "going-away", certificate=certificate)
    line = client.stdout.readline()
    assert line == "connected\n", f"the client said: {line}{client.stdout.read()}"
    assert server.stop(signal.SIGTERM) > 10
    await_client(client)


@scenario
def messages_pass_through_each_proxy(out):
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            server = Corewire(bed)
            proxy = Proxy(bed, name, f"127.0.0.1:{server.port}")
            proxy.await_upstream()
            status, body = curl(proxy.url("http"))
            assert status == 200 and "<html" in body
            assert curl(proxy.url("http") + "absent")[0] == 404
            exchange_all(server, proxy.url())


@scenario
def compressed_messages_pass_through_each_proxy(out):
    async def compressed(url):
        async with connect(url) as ws:
            extension = ws.response.headers.get("Sec-WebSocket-Extensions", "none")
            assert extension.startswith("permessage-deflate"), extension

    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            server = Corewire(bed, "--compression", "dedicated")
            proxy = Proxy(bed, name, f"127.0.0.1:{server.port}")
            proxy.await_upstream()
            asyncio.run(compressed(proxy.url()))
            exchange_all(server, proxy.url())


@scenario
def tls_ends_at_each_proxy(out):
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            server = Corewire(bed)
            proxy = Proxy(bed, name, f"127.0.0.1:{server.port}")
            proxy.await_upstream()
            curled = curl(proxy.url("https") + "healthz", "--cacert", proxy.certificate)
            assert curled == (200, "ok\n"), curled
            exchange_all(server, proxy.url("wss"), proxy.certificate)


def record_heads(listener, heads):
    """A server that remembers the heads of requests and refuses them."""
    while True:
        try:
            one, _ = listener.accept()
        except OSError:
            return
        with one, one.makefile("rb") as lines:
            head = [line.decode().strip() for line in iter(lines.readline, b"\r\n") if line]
            heads.append(head)
            one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@scenario
def what_a_client_claims_about_itself_is_overwritten(out):
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            listener, heads = socket.create_server(("127.0.0.1", 0)), []
            bed.callback(listener.close)
            bed.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=record_heads, args=(listener, heads), daemon=True).start()
            proxy = Proxy(bed, name, "127.0.0.1:%d" % listener.getsockname()[1])
            options = [word for field in FORGED for word in ("-H", field)]
            options += ["-H", "Host: example.com:8443", "-k", "--interface", "127.0.0.77"]
            for scheme in ("http", "https"):
                heads.clear()
                url = proxy.url(scheme) + "seen"
                wait_until(lambda: curl(url, *options)[0] == 200, "an answer")
                seen = next(head for head in heads if head[0].startswith("GET /seen "))
                fields = sorted(field.lower() for field in seen[1:] if "forwarded" in field.lower())
                assert fields == ["x-forwarded-for: 127.0.0.77",
                                  "x-forwarded-host: example.com:8443",
                                  f"x-forwarded-proto: {scheme}"], fields
                hosts = [field for field in seen if field.lower().startswith("host:")]
                assert [host.split()[1] for host in hosts] == ["example.com:8443"], hosts


@scenario
def a_server_that_parts_is_taken_out_by_its_health_check(out):
    with Bed(out) as bed:
        server = Corewire(bed, "--close-timeout", "8s", "--drain-grace", "8s")
        upstream = f"127.0.0.1:{server.port}"
        often = {f"{upstream} check": f"{upstream} check inter 200ms"}
        proxy = Proxy(bed, "haproxy", upstream, often)
        proxy.await_upstream()
        # It answers no Close, so that corewire has somebody to wait for.
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.sendall(UPGRADE)
            assert silent.recv(4096).startswith(b"HTTP/1.1 101 ")
            server.popen.terminate()
            down = "Server corewire/corewire is DOWN"
            wait_until(lambda: down in proxy.process.log.read_text(), "HAProxy takes it out", 5)
            assert server.is_alive()
            assert curl(proxy.url("http"))[0] == 503
        assert server.await_end() == 1
