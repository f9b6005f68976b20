"""Attacks a server with messages that are small on the wire and would be large once inflated.

    deflate_bomb.py HOST:PORT [PID]

Again and again four clients each send at the same moment one that would be 256 MiB, each in a way of
its own, and each has to get Close 1009. A neighbour's echoes go on meanwhile, and the memory of the
server, whose process is PID and whose limit is `--max-message 1MiB`, stays within GROWTH_MAX. Without
PID there is only the attack: the neighbour starts it as a process of its own, not to wait for it.
"""

import asyncio
import sys
import time
import zlib

from websockets.asyncio.client import connect

INFLATED = 256 << 20
LIMIT = 1 << 20
ROUNDS = 20
# Four messages up to the limit, in blocks that may be twice as large, what a decompressor and the
# sockets' bytes take, and as much again for the allocator.
GROWTH_MAX = 16 << 20
LATENCY_MAX = 1
TIMEOUT = 60
NEIGHBOURS = "I would like to be heard. " * 40

REQUEST = (
    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
FIN, RSV1, OPCODE = 0x80, 0x40, 0x0f
TEXT, BINARY, CLOSE = 1, 2, 8


def bomb():
    compressor = zlib.compressobj(wbits=-15)
    zeros = bytes(8 << 20)
    first, second = (compressor.compress(zeros) + compressor.flush(zlib.Z_SYNC_FLUSH)
                     for _ in range(2))
    # What follows looks back on nothing but zeros too.
    return (first + second * (INFLATED // len(zeros) - 1))[:-4]


def frame(first, payload):
    """A masked frame whose masking key is zero, which leaves the payload as it is."""
    size = len(payload)
    if size > 65_535:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    else:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload


def cut(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def ways(payload):
    """What each of the four clients writes at a time."""
    first, *middle, last = cut(payload, 1 << 10)
    fragments = [frame(RSV1 | BINARY, first), *(frame(0, piece) for piece in middle), frame(FIN, last)]
    return {
        "one binary frame": [frame(FIN | RSV1 | BINARY, payload)],
        "one text frame": [frame(FIN | RSV1 | TEXT, payload)],
        "fragments of 1 KiB": [b"".join(fragments)],
        "777 bytes at a time": cut(frame(FIN | RSV1 | BINARY, payload), 777),
    }


async def next_frame(reader):
    first, size = await reader.readexactly(2)
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    return first, await reader.readexactly(size)


async def attack(address, writes):
    """The code in the Close frame with which the server answers."""
    reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
    writer.write(REQUEST.format(address).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"permessage-deflate" in head, head

    async def send():
        for data in writes:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    echoed = 0
    # Piece by piece, a server echoes as far as its limit allows.
    while (answer := await next_frame(reader))[0] & OPCODE != CLOSE:
        echoed += len(answer[1])
    assert echoed <= LIMIT, f"{echoed} bytes came back"
    code = int.from_bytes(answer[1][:2], "big")
    # The server may well hang up before it has got everything.
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    return code


async def attack_in_rounds(address):
    payload = bomb()
    print(f"{4 * ROUNDS} messages of {len(payload) >> 10} KiB that would be {INFLATED >> 20} MiB",
          flush=True)
    for _ in range(ROUNDS):
        attacks = ways(payload)
        codes = await asyncio.gather(*(attack(address, writes) for writes in attacks.values()))
        for way, code in zip(attacks, codes):
            assert code == 1009, f"{way}: Close {code}"


def shown(latencies):
    latencies = sorted(1000 * latency for latency in latencies)
    return (f"{len(latencies)} echoes, median {latencies[len(latencies) // 2]:.2f} ms, "
            f"99 % {latencies[len(latencies) * 99 // 100]:.2f} ms, longest {latencies[-1]:.2f} ms")


def memory(pid, name):
    with open(f"/proc/{pid}/status") as status:
        line, = (line for line in status if line.startswith(name + ":"))
    return int(line.split()[1]) << 10


def forget_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as clear_refs:
        clear_refs.write("5")


async def echo(ws):
    """How long it took."""
    began = time.perf_counter()
    await ws.send(NEIGHBOURS)
    assert await ws.recv() == NEIGHBOURS, "not what the neighbour has sent"
    return time.perf_counter() - began


async def live_beside_attack(address, pid):
    async with connect(f"ws://{address}/") as ws:
        alone = [await echo(ws) for _ in range(1000)]
        attackers = await asyncio.create_subprocess_exec(
            sys.executable, __file__, address, stdout=asyncio.subprocess.PIPE)
        what = await attackers.stdout.readline()
        forget_peak(pid)
        before, beside = memory(pid, "VmRSS"), []
        end = asyncio.create_task(attackers.wait())
        while not end.done():
            beside.append(await echo(ws))
    assert end.result() == 0, "the attackers did not get what they have to get"
    growth = memory(pid, "VmHWM") - before
    print(f"  {what.decode().strip()}: all got 1009\n"
          f"  neighbour before: {shown(alone)}\n  neighbour beside: {shown(beside)}\n"
          f"  the server's {before >> 10} KiB grew by {growth >> 10} KiB at most")
    assert growth <= GROWTH_MAX, f"more than {GROWTH_MAX >> 10} KiB"
    assert max(beside) <= LATENCY_MAX, f"an echo took more than {LATENCY_MAX} s"


routine = live_beside_attack if len(sys.argv) == 3 else attack_in_rounds
asyncio.run(asyncio.wait_for(routine(*sys.argv[1:]), TIMEOUT))
