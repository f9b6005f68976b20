"""Makes the connections that deflate.py asks for with PyPI's `websockets` or `aiohttp`.

    deflate_client.py websockets|aiohttp
"""

import asyncio
import json
import random
import sys
import zlib

import aiohttp
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

TIMEOUT = 30
# Shorter messages are not worth it: the server sends them as they are.
THRESHOLD = 128

JSON = json.dumps([{"id": 7919 * n, "name": f"n\u00e4me {n}", "price": 100 / (n + 3), "tags": ["a", "b"]}
                   for n in range(13)], ensure_ascii=False)
# The edges of a frame's length and of the threshold, then a text that repeats what was before.
SMALL = [content(size) for size in (0, 1, 2, 125, 126, 127, 128, 129, 1000)
         for content in (bytes, lambda size: "x" * size, random.randbytes)]
SMALL += [JSON, JSON, JSON.encode(), *(JSON.replace("name", f"name{n}") for n in range(5)), JSON]
LARGE = [random.randbytes(64 << 10), bytes(1 << 20), random.randbytes(65_535), JSON * 60]
FRAGMENTED = [[JSON, "", "\u00e9", JSON], ["", ""], ["", "x" * 200, ""], [JSON.encode()] * 3,
              [random.randbytes(70_000), bytes(70_000), b""]]


def watch_frames(ws):
    """What arrives as (payload length, compressed or not), one pair for each unfragmented message."""
    seen = []
    for extension in ws.protocol.extensions:
        def decode(frame, *, decode=extension.decode, **rest):
            if frame.opcode in (1, 2):
                seen.append((len(frame.data), frame.rsv1))
            return decode(frame, **rest)
        extension.decode = decode
    return seen


def check_frames(ws, seen, messages):
    """The server compresses what is worth it, and looks back where it may, and only there."""
    extension, = ws.protocol.extensions
    for (length, rsv1), message in zip(seen, messages, strict=True):
        plain = message.encode() if isinstance(message, str) else message
        assert rsv1 or length == len(plain), f"{length} bytes for {len(plain)}"
        is_long = len(plain) >= THRESHOLD
        assert is_long or not rsv1, f"{len(plain)} bytes were compressed"
        # What is random may be sent either way.
        is_worth_it = is_long and len(zlib.compress(plain)) < 0.8 * len(plain)
        assert rsv1 or not is_worth_it, f"{len(plain)} bytes were not compressed"
    first, second = (length for length, _ in seen[messages.index(JSON):][:2])
    assert first < len(JSON.encode()) * 0.8, f"a text of {len(JSON)} bytes in {first}"
    if extension.remote_no_context_takeover:
        assert second == first, f"without context takeover {second}, not {first}"
    elif extension.remote_max_window_bits >= 12:
        assert second < 50, f"with context takeover {second}"


async def websockets_connection(task):
    offer = {"client_max_window_bits": None, **task["offer"]}
    factory = ClientPerMessageDeflateFactory(**offer)
    async with connect(task["url"], max_size=None, compression=None, extensions=[factory]) as ws:
        if task["exchange"]:
            seen = watch_frames(ws)
            async def send():
                for message in SMALL:
                    await ws.send(message)
            sending = asyncio.create_task(send())
            for n, message in enumerate(SMALL):
                assert await ws.recv() == message, f"message {n}: {message[:40]}"
            await sending
            if ws.protocol.extensions:
                check_frames(ws, seen, SMALL)
            for message in LARGE:
                await ws.send(message)
                assert await ws.recv() == message, f"{len(message)} bytes"
            for pieces in FRAGMENTED:
                await ws.send(pieces)
                assert await ws.recv() == type(pieces[0])().join(pieces), "fragments"
            async def with_ping_between():
                yield JSON
                await (await ws.ping())
                yield JSON
            await ws.send(with_ping_between())
            assert await ws.recv() == JSON * 2, "fragments with a ping between"
        key = "Sec-WebSocket-Extensions"
        return ws.request.headers[key], ws.response.headers.get(key)


async def aiohttp_connection(session, task):
    bits = task["offer"].get("server_max_window_bits", 15)
    async with session.ws_connect(task["url"], compress=bits, max_msg_size=0) as ws:
        async def send(message):
            await (ws.send_str if isinstance(message, str) else ws.send_bytes)(message)
        if task["exchange"]:
            for message in SMALL + LARGE + [JSON]:
                await send(message)
                assert (await ws.receive()).data == message, f"{len(message)} bytes"
            for message in SMALL:
                await send(message)
            for message in SMALL:
                assert (await ws.receive()).data == message, f"{len(message)} bytes in a row"
        key, answer = "Sec-WebSocket-Extensions", ws._response
        return answer.request_info.headers[key], answer.headers.get(key)


async def main(client):
    async with aiohttp.ClientSession() as session:
        for line in sys.stdin:
            task = json.loads(line)
            connection = (websockets_connection(task) if client == "websockets"
                          else aiohttp_connection(session, task))
            try:
                offered, answered = await asyncio.wait_for(connection, TIMEOUT)
            except Exception as error:
                sys.exit(f"{task}: {error!r}")
            print(json.dumps({**task, "offered": offered, "answered": answered}))


asyncio.run(main(*sys.argv[1:]))
