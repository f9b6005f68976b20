"""The idle time-outs of proxies against the heartbeat, both at a thirtieth of their length."""

import asyncio
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bed import UPGRADE, Bed, Corewire, Proxy, scenario, stream

# The page's 75 s, and 30 s and 90 s of the heartbeat.
TIMEOUT, SHORT = 2.5, "2500ms"
HEARTBEAT = ("--ping-every", "1s", "--dead-after", "3s")
LONG = {"nginx": "75s", "haproxy": "timeout tunnel 75s"}
HEADER = {"nginx": "proxy_protocol on;", "haproxy": " send-proxy-v2"}


def urls(bed, server):
    """Through each proxy, as HTTP and as a mere stream of bytes; all with the short time-out."""
    for name in Proxy.NAMES:
        short = {LONG[name]: LONG[name].replace("75s", SHORT)}
        proxy = Proxy(bed, name, f"127.0.0.1:{server.port}", short)
        proxy.await_upstream()
        yield name, proxy.url()
        port = stream(bed, name, server, {"75s": SHORT, HEADER[name]: ""})
        yield f"{name} as a stream", f"ws://127.0.0.1:{port}/"


async def is_kept(name, url):
    """Four time-outs without a message: pings and pongs are enough."""
    async with connect(url, ping_interval=None) as ws:
        await asyncio.sleep(4 * TIMEOUT)
        await ws.send("still here")
        assert await ws.recv() == "still here", name


async def is_cut(name, url):
    async with connect(url, ping_interval=None) as ws:
        began = time.monotonic()
        try:
            await ws.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is None, f"{name}: a Close came: {closed.rcvd}"
        after = time.monotonic() - began
        assert TIMEOUT - 0.1 < after < 2 * TIMEOUT, f"{name}: cut after {after:.1f} s"


async def is_dropped(name, url):
    """A client that answers no ping, behind a proxy that is well: the proxy is not taken for it."""
    reader, writer = await asyncio.open_connection(*url.split("/")[2].split(":"))
    writer.write(UPGRADE)
    began = time.monotonic()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    frames = await reader.read()
    after = time.monotonic() - began
    assert frames.startswith(b"\x89"), f"{name}: no ping: {frames[:20]}"
    assert 2.9 < after < 5, f"{name}: dropped after {after:.1f} s"
    writer.close()


async def at_once(served, *acts):
    outcomes = (act(name, url) for act in acts for name, url in served)
    await asyncio.wait_for(asyncio.gather(*outcomes), 60)


@scenario
def the_heartbeat_keeps_an_idle_connection_through_each_proxy(out):
    with Bed(out) as bed:
        server = Corewire(bed, *HEARTBEAT)
        served = list(urls(bed, server))
        asyncio.run(at_once(served, is_kept, is_dropped))
        assert server.stop() == 2 * len(served)
        assert f"{len(served)} peers without a sign of life" in server.log.read_text()


@scenario
def without_a_heartbeat_each_proxy_cuts_an_idle_connection(out):
    with Bed(out) as bed:
        server = Corewire(bed, "--no-heartbeat")
        served = list(urls(bed, server))
        asyncio.run(at_once(served, is_cut))
        assert server.stop() == len(served)
