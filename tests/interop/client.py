"""What a user of PyPI's `websockets` does with an echo server, each step with what must come back.

    client.py URL [going-away]

Exits with 0 if everything did. With `going-away` it connects, says so, and waits for 1012.
"""

import asyncio
import random
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SIZES = [0, 1, 2, 124, 125, 126, 127, 1000, 4096, 65535, 65536, 65537, 1 << 20]
PIPELINED = 10_000
TIMEOUT = 30


def text_of(size):
    """Text of `size` bytes with characters of one to four bytes, whole ones only."""
    text = ("corewire \u00e9\u6f22\U0001f600" * (size // 10 + 1)).encode()[:size]
    return text.decode(errors="ignore").ljust(1, "x") if size else ""


async def echoes_of_many_sizes(url):
    async with connect(url, max_size=None) as ws:
        for size in SIZES:
            for message in (random.randbytes(size), text_of(size)):
                await ws.send(message)
                assert await ws.recv() == message, f"{size} bytes, {type(message).__name__}"


async def echoes_of_fragmented_messages(url):
    async with connect(url, max_size=None) as ws:
        for pieces in (["a", "", "\u00e9", "\U0001f600" * 100], [b"", b""], [bytes(70_000)] * 5):
            await ws.send(pieces)
            assert await ws.recv() == type(pieces[0])().join(pieces), "fragments were not joined"


async def control_frames_between_fragments(url):
    async with connect(url) as ws:
        async def pieces():
            yield "one "
            pong = await ws.ping(b"between")
            await pong
            yield "two"
        await ws.send(pieces())
        assert await ws.recv() == "one two"


async def pings(url):
    async with connect(url) as ws:
        for payload in (b"", b"p", bytes(125)):
            await (await ws.ping(payload))
        pongs = [await ws.ping(str(n)) for n in range(10)]
        await asyncio.gather(*pongs)


async def many_messages_under_way(url):
    async with connect(url, max_size=None) as ws:
        async def send():
            for n in range(PIPELINED):
                await ws.send(f"message {n}")
        sending = asyncio.create_task(send())
        for n in range(PIPELINED):
            assert await ws.recv() == f"message {n}", "out of order"
        await sending


async def close_code_after(url, act):
    """The code and the reason in the server's Close frame."""
    async with connect(url) as ws:
        await act(ws)
        try:
            while True:
                await ws.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, f"no Close frame after {act.__name__}"
            return closed.rcvd.code, closed.rcvd.reason


async def close_codes_of_the_client_come_back(url):
    for code in (1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999):
        async def close(ws):
            await ws.close(code, "bye \u00e9")
        assert (await close_code_after(url, close))[0] == code, f"close code {code}"


async def broken_frames_get_their_close_code(url):
    async def bad_utf8(ws):
        await ws.send(b"\xc3\x28", text=True)

    async def unmasked(ws):
        ws.transport.write(b"\x81\x01x")

    async def reserved_opcode(ws):
        ws.transport.write(b"\x83\x80\0\0\0\0")

    async def fragmented_ping(ws):
        ws.transport.write(b"\x09\x80\0\0\0\0")

    cases = ((bad_utf8, 1007), (unmasked, 1002), (reserved_opcode, 1002), (fragmented_ping, 1002))
    for act, code in cases:
        assert (await close_code_after(url, act))[0] == code, act.__name__


async def an_unknown_subprotocol_is_not_accepted(url):
    async with connect(url, subprotocols=["no-such-subprotocol"]) as ws:
        assert ws.subprotocol is None
        await ws.send("still fine")
        assert await ws.recv() == "still fine"


async def going_away(url):
    async def wait(ws):
        await ws.send("hello")
        await ws.recv()
        print("connected", flush=True)
    assert (await close_code_after(url, wait))[0] == 1012, "not 1012"


async def main(url, mode=None):
    steps = [going_away] if mode == "going-away" else [
        echoes_of_many_sizes,
        echoes_of_fragmented_messages,
        control_frames_between_fragments,
        pings,
        many_messages_under_way,
        close_codes_of_the_client_come_back,
        broken_frames_get_their_close_code,
        an_unknown_subprotocol_is_not_accepted,
    ]
    for step in steps:
        await asyncio.wait_for(step(url), TIMEOUT)
        if mode is None:
            print(f"  {step.__name__}: ok")


asyncio.run(main(*sys.argv[1:]))
