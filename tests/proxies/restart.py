"""A proxy that is restarted under a thousand connections."""

import asyncio
import random
import signal

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

from bed import Bed, Corewire, Proxy, listens, scenario, wait_until

CLIENTS = 1000
# So many dial at a time: all of them at once would only wait for each other.
DIALLING = 100
TIMEOUT = 60
NEVER_OPEN = (OSError, EOFError, TimeoutError, InvalidHandshake)


class Crowd:
    """Clients that come back after a random time whenever they are cut off."""

    def __init__(self, url):
        self.url, self.opened, self.open = url, 0, {}
        self.dialling = asyncio.Semaphore(DIALLING)

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.live(n)) for n in range(CLIENTS)]
        await self.gather(CLIENTS)
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def live(self, n):
        while True:
            try:
                async with self.dialling:
                    ws = await connect(self.url, compression=None, ping_interval=None)
            except NEVER_OPEN:
                await asyncio.sleep(random.uniform(0.1, 0.5))
                continue
            self.opened += 1
            self.open[n] = ws
            try:
                await ws.wait_closed()
            finally:
                del self.open[n]
                await ws.close()

    async def gather(self, opened):
        """Until all are there, `opened` connections having been made in all."""
        await self.until(lambda: len(self.open) == CLIENTS and self.opened >= opened)
        assert self.opened == opened, f"{self.opened} connections were made, not {opened}"

    async def until(self, condition):
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                await asyncio.sleep(0.02)

    async def echo(self):
        async def one(n, ws):
            await ws.send(f"client {n}")
            assert await ws.recv() == f"client {n}"
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*(one(n, ws) for n, ws in self.open.items()))
        return len(self.open)


def workers(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
        return set(children.read().split())


def reload(proxy):
    """Asks for a new process beside the old one; a function that tells if the old one is gone."""
    if proxy.name == "nginx":
        old = workers(proxy.process)
        proxy.process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: workers(proxy.process) - old, "nginx has new workers")
        return lambda: not workers(proxy.process) & old
    old = proxy.process
    proxy.start(replaces=old)
    return lambda: not old.is_alive()


async def live_through_reload(proxy):
    """The old process goes on with what it has, until that ends."""
    async with Crowd(proxy.url()) as crowd:
        is_gone = reload(proxy)
        await asyncio.sleep(1)
        assert await crowd.echo() == CLIENTS
        await crowd.gather(CLIENTS)
        assert not is_gone()
        async with connect(proxy.url()) as newcomer:
            await newcomer.send("new")
            assert await newcomer.recv() == "new"
    await asyncio.to_thread(wait_until, is_gone, "the old process ends with its connections")
    return CLIENTS + 1


async def come_back_after_bounded_reload(proxy):
    async with Crowd(proxy.url()) as crowd:
        is_gone = reload(proxy)
        await crowd.gather(2 * CLIENTS)
        assert await crowd.echo() == CLIENTS
        await asyncio.to_thread(wait_until, is_gone, "the old process ends at its bound")
    return 2 * CLIENTS


async def come_back_after_stop(proxy, await_nobody):
    async with Crowd(proxy.url()) as crowd:
        await asyncio.to_thread(proxy.process.end)
        # Nobody can come back yet, so corewire has to have noticed every single end.
        await asyncio.to_thread(await_nobody)
        await crowd.until(lambda: not crowd.open)
        assert not listens(proxy.port)
        await asyncio.to_thread(proxy.start)
        await crowd.gather(2 * CLIENTS)
        assert await crowd.echo() == CLIENTS
    return 2 * CLIENTS


BOUND = {"nginx": "worker_shutdown_timeout 1h", "haproxy": "hard-stop-after 1h"}


def under_a_crowd(out, act, edits=lambda name: {}):
    """Has `act` restart each proxy, and counts what is left of that at corewire's side."""
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            server = Corewire(bed)
            at_first = server.descriptors()
            upstream = f"127.0.0.1:{server.port}"
            # A pool of idle connections and health checks would be counted too.
            without = {"nginx": "keepalive 16;", "haproxy": " check"}[name]
            proxy = Proxy(bed, name, upstream, {without: "", **edits(name)})
            proxy.await_upstream()
            nobody = lambda: server.await_descriptors(at_first)
            expected = asyncio.run(act(proxy, nobody))
            nobody()
            made = server.stop()
            assert made == expected, f"{name}: corewire has had {made} connections, not {expected}"


@scenario
def a_reload_of_each_proxy_leaves_a_thousand_connections_alone(out):
    under_a_crowd(out, lambda proxy, _: live_through_reload(proxy))


@scenario
def a_thousand_clients_come_back_after_a_reload_with_a_bound(out):
    bound = lambda name: {BOUND[name]: BOUND[name].replace("1h", "1s")}
    under_a_crowd(out, lambda proxy, _: come_back_after_bounded_reload(proxy), bound)


@scenario
def a_thousand_clients_come_back_after_each_proxy_stops(out):
    under_a_crowd(out, come_back_after_stop)
