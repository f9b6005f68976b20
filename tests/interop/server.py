"""An echo server by PyPI's `websockets` for `corewire connect` and `corewire bench`.

    server.py PORT CHAIN KEY USER:PASSWORD

Over TLS, for those who say who they are, and compressed for those who offer it.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.server import basic_auth, serve


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main(port, chain, key, credentials):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    auth = basic_auth(credentials=tuple(credentials.split(":")))
    async with serve(
        echo, "127.0.0.1", int(port), ssl=context, process_request=auth, max_size=None
    ) as server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
