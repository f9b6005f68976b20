"""A back end by PyPI's websockets: it logs each message, and sends it back.

    python back_end.py PORT LOG

Listens on 127.0.0.1, says "listening" when it does, and ends with its standard input. A message is a
number and a payload. The first one of a connection has the connection's name for a payload; every one
becomes the line "NAME NUMBER" of the log. Lines have 32 bytes, of which no page of a file holds parts:
a write that is killed may end where a page does.

The log is written before anything is answered. websockets' own servers answer a ping as soon as it is
read, with messages in front of it still on their way to the application: a pong proves what the peer's
library has received. So that the log can tell what was received, this one drives the protocol itself.
"""

import asyncio
import os
import sys

from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol


class BackEnd(asyncio.Protocol):
    def __init__(self, log):
        self.log = log
        self.name = None
        self.protocol = ServerProtocol()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.protocol.receive_data(data)
        self.go_on()

    def eof_received(self):
        self.protocol.receive_eof()
        self.go_on()

    def go_on(self):
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
            elif event.opcode is Opcode.TEXT:
                self.handle_message(event.data)
        for data in self.protocol.data_to_send():
            # A transport that was reset is closing, and complains of what is written to it.
            if data and not self.transport.is_closing():
                self.transport.write(data)
        if self.protocol.close_expected():
            self.transport.close()

    def handle_message(self, message):
        number, payload = message.split(b" ", 1)
        if self.name is None:
            self.name = payload
        os.write(self.log, (b"%s %s" % (self.name, number)).ljust(31) + b"\n")
        # What came together with a Close is logged, and has no answer.
        if self.protocol.state is State.OPEN:
            self.protocol.send_text(message)


async def main(port, log):
    log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: BackEnd(log), "127.0.0.1", port, backlog=512)
    print("listening", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
