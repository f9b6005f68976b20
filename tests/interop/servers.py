"""PyPI's `websockets` as a server for a client of ours: `servers.py PORT CHAIN KEY SOCKET`, where 0 and
'' stand for none. Says "listening" when it does.
"""

import asyncio
import http
import ssl
import sys

from websockets.asyncio.server import serve, unix_serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def tell(ws):
    """Messages in fragments, a ping that has to be answered, a large message, and a Close."""
    await ws.recv()

    async def pieces():
        yield "in "
        pong = await ws.ping("between")
        await pong
        yield "two"

    await ws.send(pieces())
    await ws.send("ponged between")
    await ws.send(b"x" * (3 << 20))
    await ws.close(4321, "told everything")


async def slow(ws):
    """What comes behind the last message, the Close, is read late."""
    async for message in ws:
        if message == "in three parts":
            ws.transport.pause_reading()
            asyncio.get_running_loop().call_later(1.5, ws.transport.resume_reading)
        await ws.send(message)


async def kill(ws):
    await ws.recv()
    ws.transport.abort()


PATHS = {"/echo": echo, "/tell": tell, "/slow": slow, "/kill": kill}


def admit(connection, request):
    if request.path not in PATHS:
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not for you")


async def handle(ws):
    await PATHS[ws.request.path](ws)


async def main(port, chain, key, socket):
    context = None
    if chain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
    options = {
        "process_request": admit,
        "select_subprotocol": lambda _, offered: "chosen" if "chosen" in offered else None,
        "max_size": 64 << 20,
        "ssl": context,
    }
    if socket:
        server = unix_serve(handle, socket, **options)
    else:
        server = serve(handle, "127.0.0.1", int(port), **options)
    async with server:
        print("listening", flush=True)
        await asyncio.Future()


asyncio.run(main(*sys.argv[1:]))
