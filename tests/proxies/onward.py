"""The ways from a proxy to corewire: TLS, a Unix socket, and with the client's address in front."""

import asyncio
import socket
import ssl

from websockets.asyncio.client import connect

from bed import PATIENCE, UPGRADE, Bed, Corewire, Proxy, curl, scenario, stream, wait_until
from exchange import FORGED, exchange_all


@scenario
def tls_goes_on_from_each_proxy_to_corewire(out):
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            certificate, key, _ = bed.certificate("corewire.internal")
            server = Corewire(bed, "--tls-cert", certificate, "--tls-key", key)
            proxy = Proxy(bed, name, f"127.0.0.1:{server.port}", variation="over TLS")
            proxy.await_upstream()
            exchange_all(server, proxy.url("wss"), proxy.certificate)
        # The proxy checks whom it talks to: with a certificate of somebody else there is no answer.
        with Bed(out / f"{name}-other") as bed:
            certificate, key, _ = bed.certificate("example.com")
            server = Corewire(bed, "--tls-cert", certificate, "--tls-key", key)
            proxy = Proxy(bed, name, f"127.0.0.1:{server.port}", variation="over TLS")
            status = curl(proxy.url("http") + "healthz")[0]
            assert status in (502, 503), f"{name} talks to a stranger: {status}"
            assert server.stop() == 0


@scenario
def a_unix_socket_leads_from_each_proxy_to_corewire(out):
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            path = bed.unix()
            server = Corewire(bed, "--unix-mode", "660", listen=path)
            proxy = Proxy(bed, name, path, variation="over a Unix socket")
            proxy.await_upstream()
            exchange_all(server, proxy.url())


async def echo_from(address, url, **rest):
    """The address and port of a client that has got its echo."""
    async with connect(url, local_addr=(address, 0), **rest) as ws:
        await ws.send("whose address?")
        assert await ws.recv() == "whose address?"
        return "{}:{}".format(*ws.local_address)


def speaks_http(port):
    """Whether a request without anything in front of it is answered as one."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as one:
        one.sendall(b"GET /bare HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        try:
            return any(b"404" in part for part in iter(lambda: one.recv(4096), b""))
        except ConnectionResetError:
            return False


def check_address(server, url):
    """A client's own address arrives, and nobody is let in who does not tell one."""
    address = asyncio.run(echo_from("127.0.0.77", url))
    assert (address, "GET", "/") in server.requests(), server.requests()
    assert not speaks_http(server.port), "a request without a PROXY header was answered"
    assert "/bare" not in {target for *_, target in server.requests()}


@scenario
def the_proxy_protocol_tells_the_clients_address(out):
    for version in ("v1", "v2"):
        with Bed(out / version) as bed:
            server = Corewire(bed, "--proxy-protocol", "127.0.0.1/32")
            upstream = f"127.0.0.1:{server.port}"
            proxy = Proxy(bed, "haproxy", upstream, variation=f"with PROXY {version}")
            proxy.await_upstream()
            check_address(server, proxy.url())
            exchange_all(server, proxy.url())
    with Bed(out / "unix") as bed:
        path = bed.unix()
        server = Corewire(bed, "--proxy-protocol", "unix", listen=path)
        with_header = {" check": " check send-proxy-v2"}
        proxy = Proxy(bed, "haproxy", path, with_header, "over a Unix socket")
        proxy.await_upstream()
        address = asyncio.run(echo_from("127.0.0.77", proxy.url()))
        assert (address, "GET", "/") in server.requests(), server.requests()
        assert server.stop() == 1


@scenario
def a_field_of_the_request_tells_the_clients_address(out):
    claims = [tuple(field.split(": ")) for field in FORGED]

    def check(bed, name, upstream, server, proxy_address, variation=None):
        proxy = Proxy(bed, name, upstream, variation=variation)
        proxy.await_upstream()
        asyncio.run(echo_from("127.0.0.77", proxy.url(), additional_headers=claims))
        [(peer, method, target)] = [one for one in server.requests() if one[2] == "/"]
        assert peer.startswith(f"127.0.0.77 via {proxy_address}"), peer
        assert server.stop() == 1

    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            server = Corewire(bed, "--forwarded", "x-forwarded-for",
                              "--trusted-proxies", "127.0.0.1")
            check(bed, name, f"127.0.0.1:{server.port}", server, "127.0.0.1:")
        with Bed(out / f"{name}-unix") as bed:
            path = bed.unix()
            server = Corewire(bed, "--forwarded", "x-forwarded-for",
                              "--trusted-proxies", "unix", listen=path)
            check(bed, name, path, server, "unix", "over a Unix socket")


@scenario
def a_proxy_header_of_somebody_else_is_refused(out):
    with Bed(out / "stranger") as bed:
        server = Corewire(bed, "--proxy-protocol", "192.0.2.0/24")
        proxy = Proxy(bed, "haproxy", f"127.0.0.1:{server.port}", variation="with PROXY v1")
        down = "Server corewire/corewire is DOWN"
        wait_until(lambda: down in proxy.process.log.read_text(), "HAProxy's checks are refused")
        assert server.requests() == [], "a PROXY header of anybody was believed"
        assert server.stop() == 0
    # The client's own header comes behind the proxy's, where a request should begin.
    with Bed(out / "client") as bed:
        server = Corewire(bed, "--proxy-protocol", "127.0.0.1")
        port = stream(bed, "nginx", server)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as one:
            one.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + UPGRADE)
            answer = one.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert server.requests() == [] and server.stop() == 0


@scenario
def tls_passes_through_behind_a_proxy_header(out):
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            certificate, key, _ = bed.certificate("example.com")
            server = Corewire(bed, "--tls-cert", certificate, "--tls-key", key,
                              "--proxy-protocol", "127.0.0.1")
            url = f"wss://127.0.0.1:{stream(bed, name, server)}/"
            context = ssl.create_default_context(cafile=certificate)
            address = asyncio.run(echo_from("127.0.0.77", url, ssl=context))
            assert (address, "GET", "/") in server.requests(), server.requests()
            exchange_all(server, url, certificate)
