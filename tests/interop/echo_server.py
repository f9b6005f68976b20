"""An echo server of PyPI's `websockets`, for corewire's clients.

    echo_server.py PORT

Says on its standard output how each connection was closed.
"""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(ws):
    try:
        while True:
            await ws.send(await ws.recv())
    except ConnectionClosed as closed:
        said = closed.rcvd
        print("closed", said.code if said else None, said.reason if said else None, flush=True)


async def main(port):
    async with serve(echo, "127.0.0.1", int(port), max_size=None):
        await asyncio.Future()


asyncio.run(main(*sys.argv[1:]))
