"""Requests that a proxy and a server could read differently, sent through each proxy.

Each proxy is told to refuse /private itself, and shares its connections to corewire among its
clients. An attacker tries to get a request for /private past it; a second client asks for something harmless
before and after each attack. What has to come out is written down for each attack and exactly: the
statuses that the attacker gets, and the requests that corewire's application gets. The attacker's
second request never gets there, and nobody gets an answer that is not his.
"""

import asyncio
from dataclasses import dataclass

from bed import UPGRADE, Bed, Corewire, Proxy, scenario

# An answer more than there should be would come at once, on the same machine.
QUIET = 0.15
PATIENCE = 10

HOST, KEY = b"Host: example.com\r\n", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
PRIVATE = b"GET /private HTTP/1.1\r\n" + HOST + b"\r\n"


def upgrade(*lines, path=b"/"):
    fields = b"".join(line + b"\r\n" for line in lines)
    return UPGRADE.replace(b"GET /", b"GET " + path)[:-2] + fields + b"\r\n"


def post(*lines):
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"POST /post HTTP/1.1\r\n" + HOST + fields + b"\r\n"


def length(body):
    return b"Content-Length: %d" % len(body)


CHUNKED = b"Transfer-Encoding: chunked"
IN_ONE_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PRIVATE), PRIVATE)
# To who reads a length it is the body, to who reads chunks there is a request behind the last.
BEHIND_LAST_CHUNK = b"0\r\n\r\n" + PRIVATE



@dataclass
class Attack:
    """What is sent, and what comes out of it behind nginx and behind HAProxy."""

    sent: bytes
    nginx: tuple
    haproxy: tuple


def gets(*statuses, seen=()):
    """The statuses of the attacker's answers, and the requests that corewire's application gets."""
    return list(statuses), list(seen)


ROOT, ABSENT, POST = ("GET", "/"), ("GET", "/absent"), ("POST", "/post")
# HTTP/0.9 has no status.
NO_STATUS = 0

BODIES_ON_AN_UPGRADE = {
    # nginx passes both on and corewire refuses them; HAProxy makes plain requests of them.
    "a length": Attack(upgrade(length(PRIVATE)) + PRIVATE, gets(400), gets(200, seen=[ROOT])),
    "chunks": Attack(upgrade(CHUNKED) + IN_ONE_CHUNK, gets(400), gets(200, seen=[ROOT])),
    "a length and chunks": Attack(
        upgrade(length(BEHIND_LAST_CHUNK), CHUNKED) + BEHIND_LAST_CHUNK,
        gets(400), gets(200, seen=[ROOT])),
    "an expectation": Attack(
        upgrade(length(PRIVATE), b"Expect: 100-continue") + PRIVATE,
        gets(100, 400), gets(200, seen=[ROOT])),
    "a length of nothing": Attack(
        upgrade(b"Content-Length: 0"), gets(101, seen=[ROOT]), gets(101, seen=[ROOT])),
}
# The proxies take what is behind a refusal for a request too, and judge it themselves.
BEHIND_AN_UPGRADE = {
    "a 404": Attack(upgrade(path=b"/absent") + PRIVATE,
                    gets(404, 403, seen=[ABSENT]), gets(404, 403, seen=[ABSENT])),
    "a 403": Attack(upgrade(b"Origin: https://elsewhere.example") + PRIVATE,
                    gets(403, 403), gets(403, 403)),
    "a 426": Attack(upgrade().replace(b"Version: 13", b"Version: 12") + PRIVATE,
                    gets(426, 403), gets(426, 403)),
    # HAProxy refuses this one itself.
    "a 400": Attack(upgrade().replace(KEY, b"") + PRIVATE, gets(400, 403), gets(400)),
    "an upgrade behind a 404": Attack(
        upgrade(path=b"/absent") + upgrade(path=b"/private"),
        gets(404, 403, seen=[ABSENT]), gets(404, 403, seen=[ABSENT])),
    "a 101": Attack(upgrade() + PRIVATE, gets(101, seen=[ROOT]), gets(101, seen=[ROOT])),
    "h2c": Attack(upgrade().replace(b"websocket\r\nConn", b"h2c\r\nConn") + PRIVATE,
                  gets(200, 403, seen=[ROOT]), gets(200, 403, seen=[ROOT])),
    "no upgrade at all": Attack(
        b"GET /absent HTTP/1.1\r\n" + HOST + b"\r\n" + PRIVATE,
        gets(404, 403, seen=[ABSENT]), gets(404, 403, seen=[ABSENT])),
}
LENGTHS_AND_CHUNKS = {
    # HAProxy follows RFC 9112 §6.3: chunks overrule a length, and it sends on one of the two.
    "CL.TE": Attack(post(length(BEHIND_LAST_CHUNK), CHUNKED) + BEHIND_LAST_CHUNK,
                    gets(400), gets(405, seen=[POST])),
    "TE.CL": Attack(post(CHUNKED, b"Content-Length: 4") + IN_ONE_CHUNK,
                    gets(400), gets(405, seen=[POST])),
    "CL.TE behind a tab": Attack(
        post(length(BEHIND_LAST_CHUNK), b"Transfer-Encoding:\tchunked") + BEHIND_LAST_CHUNK,
        gets(501), gets(405, seen=[POST])),
    "CL.TE behind a vertical tab": Attack(
        post(length(BEHIND_LAST_CHUNK), b"Transfer-Encoding: \x0bchunked") + BEHIND_LAST_CHUNK,
        gets(501), gets(400)),
    "CL.TE of another name": Attack(
        post(length(BEHIND_LAST_CHUNK), b"Transfer-Encoding: xchunked") + BEHIND_LAST_CHUNK,
        gets(501), gets(400)),
    "TE as a list": Attack(
        post(b"Transfer-Encoding: chunked, identity") + BEHIND_LAST_CHUNK, gets(501), gets(400)),
    "TE twice": Attack(post(CHUNKED, CHUNKED) + BEHIND_LAST_CHUNK, gets(400), gets(400)),
    "CL.CL": Attack(
        post(b"Content-Length: 0", length(PRIVATE)) + PRIVATE, gets(400), gets(400)),
    "CL twice the same": Attack(
        post(length(PRIVATE), length(PRIVATE)) + PRIVATE, gets(400), gets(405, seen=[POST])),
    "CL with a sign": Attack(post(b"Content-Length: +3") + PRIVATE, gets(400), gets(400)),
    "CL as a list": Attack(
        post(b"Content-Length: 0, %d" % len(PRIVATE)) + PRIVATE, gets(400), gets(400)),
    "a chunk beyond 64 bits": Attack(
        post(CHUNKED) + b"10000000000000001\r\nx\r\n" + BEHIND_LAST_CHUNK, gets(400), gets(400)),
    "a GET with a body": Attack(
        b"GET / HTTP/1.1\r\n" + HOST + length(PRIVATE) + b"\r\n\r\n" + PRIVATE,
        gets(200, seen=[ROOT]), gets(200, seen=[ROOT])),
}
HEADS = {
    # Both take a line feed for the end of a line, and end it as they should in what they send on.
    "bare line feeds": Attack(
        upgrade().replace(b"\r\n", b"\n"), gets(101, seen=[ROOT]), gets(101, seen=[ROOT])),
    "a line feed within a value": Attack(
        post(b"X: y\nTransfer-Encoding: chunked") + BEHIND_LAST_CHUNK,
        gets(405, 403, seen=[POST]), gets(405, 403, seen=[POST])),
    "a carriage return within a value": Attack(
        post(b"X: y\rTransfer-Encoding: chunked") + PRIVATE, gets(400), gets(400)),
    # HAProxy makes one line of the two.
    "a folded line": Attack(
        post(b"X: y", b" " + length(PRIVATE)) + PRIVATE, gets(400), gets(405, 403, seen=[POST])),
    "a space before the colon": Attack(
        post(length(PRIVATE).replace(b":", b" :")) + PRIVATE, gets(400), gets(400)),
    "a space within a name": Attack(upgrade(b"Content Length: 5") + PRIVATE, gets(400), gets(400)),
    "NUL within a value": Attack(upgrade(b"X: y\0z"), gets(400), gets(400)),
    "two hosts": Attack(upgrade(b"Host: elsewhere.example"), gets(400), gets(400)),
    "no host": Attack(upgrade().replace(HOST, b""), gets(400), gets(400)),
    "another host in the target": Attack(
        upgrade(path=b"http://elsewhere.example/private"), gets(403), gets(400)),
    # HAProxy compares paths as they are written. So does corewire, for which these are others.
    "an encoded target": Attack(
        upgrade(path=b"/%70rivate"), gets(403), gets(404, seen=[("GET", "/%70rivate")])),
    "a target with a way back": Attack(
        upgrade(path=b"/x/../private"), gets(403), gets(404, seen=[("GET", "/x/../private")])),
    "HTTP/1.0": Attack(
        upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), gets(101, seen=[ROOT]), gets(400)),
    "HTTP/0.9": Attack(b"GET /private\r\n", gets(NO_STATUS), gets(400)),
    "a frame instead of a request": Attack(
        b"\x81\x85\0\0\0\0hello\r\n\r\n", gets(400), gets(400)),
}


class Stream:
    """A client's end that reads answers one by one."""

    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def answer(self):
        """Status and body of the next, or `None` at the end."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError) as end:
            body = getattr(end, "partial", b"")
            return (NO_STATUS, body) if body else None
        assert head.startswith(b"HTTP/1.1 "), head
        status, fields = int(head[9:12]), head.lower()
        if status < 200:
            return status, b""
        if b"\r\ntransfer-encoding: chunked" in fields:
            return status, await self.chunks()
        _, found, size = fields.partition(b"\r\ncontent-length: ")
        if found:
            return status, await self.reader.readexactly(int(size.split(b"\r\n")[0]))
        assert b"\r\nconnection: close" in fields, head
        return status, await self.reader.read()

    async def chunks(self):
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def close(self):
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


class Victim:
    """A second client of the same proxy, with a connection of its own that it keeps."""

    ASKED = (("/", 200, b"<html"), ("/absent", 404, b"nothing at this path"))

    def __init__(self, port):
        self.port, self.stream = port, None

    async def ask(self):
        """Everything it asks for is answered with what it asked for."""
        for target, status, content in self.ASKED:
            got = None
            # A proxy may end a kept connection between two requests.
            while got is None:
                if self.stream is None:
                    self.stream = await Stream.open(self.port)
                self.stream.writer.write(b"GET %s HTTP/1.1\r\n" % target.encode() + HOST + b"\r\n")
                if (got := await self.stream.answer()) is None:
                    await self.stream.close()
                    self.stream = None
            assert got[0] == status and content in got[1], f"for {target} a victim got {got}"
        return [("GET", target) for target, *_ in self.ASKED]


async def answers_to(port, sent, expected):
    """The statuses of all answers; with 101 what is tunnelled ends with corewire's Close."""
    stream, statuses = await Stream.open(port), []
    stream.writer.write(sent)
    while True:
        patience = PATIENCE if len(statuses) < expected else QUIET
        try:
            got = await asyncio.wait_for(stream.answer(), patience)
        except TimeoutError:
            break
        if got is None:
            break
        statuses.append(got[0])
        if got[0] == 101:
            if sent.endswith(PRIVATE):
                # HTTP behind the upgrade is taken for frames.
                frames = await stream.reader.read()
                assert frames[:1] == b"\x88" and frames[2:4] == b"\x03\xea", frames
            break
    await stream.close()
    return statuses


def seen_by(server):
    """The requests so far, with who made them, but for those of health checks."""
    return [(peer, (method, target)) for peer, method, target in server.requests()
            if target != "/healthz"]


async def launch(proxy, server, attacks):
    """Complaints about those attacks that came out differently, and who made which request."""
    victim, complaints = Victim(proxy.port), []
    await victim.ask()
    attackers, victims = set(), set()
    for name, attack in attacks.items():
        statuses, requests = getattr(attack, proxy.name)
        before = len(seen_by(server))
        got = await answers_to(proxy.port, attack.sent, len(statuses))
        # Asked twice: what an attack leaves behind on the shared connection meets one of them.
        asked = await victim.ask() + await victim.ask()
        peers, seen = zip(*seen_by(server)[before:])
        if got != statuses or list(seen) != requests + asked:
            complaints.append(f"{proxy.name}, {name}: {got}, not {statuses}; "
                              f"{list(seen)}, not {requests + asked}")
        attackers.update(peers[:-len(asked)])
        victims.update(peers[-len(asked):])
    return complaints, attackers & victims


RULES = {
    "nginx": {
        "worker_processes auto;": "worker_processes 1;",
        "keepalive 16;": "keepalive 1;",
        "location / {": "location /private { return 403; }\nlocation / {",
    },
    "haproxy": {
        "default_backend":
            "http-request deny deny_status 403 if { path_beg /private }\ndefault_backend",
        # By itself it shares what it thinks is safe.
        "option httpchk": "http-reuse always\noption httpchk",
    },
}


def smuggle(out, attacks):
    """Upstream connections that carried requests of both attackers and victims, for each proxy."""
    both = {}
    for name in Proxy.NAMES:
        with Bed(out / name) as bed:
            server = Corewire(bed)
            proxy = Proxy(bed, name, f"127.0.0.1:{server.port}", RULES[name])
            proxy.await_upstream()
            complaints, both[name] = asyncio.run(launch(proxy, server, attacks))
            server.stop()
            assert not complaints, "\n".join(["", *complaints])
    return both


@scenario
def a_body_on_an_upgrade_smuggles_nothing(out):
    smuggle(out, BODIES_ON_AN_UPGRADE)


@scenario
def requests_behind_an_upgrade_pass_the_proxys_rules(out):
    for name, shared in smuggle(out, BEHIND_AN_UPGRADE).items():
        assert shared, f"{name} gave everybody a connection of his own, and nothing could be seen"


@scenario
def lengths_and_chunks_that_disagree_smuggle_nothing(out):
    smuggle(out, LENGTHS_AND_CHUNKS)


@scenario
def heads_that_are_read_differently_smuggle_nothing(out):
    smuggle(out, HEADS)
