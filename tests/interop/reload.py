"""Certificates change while 200 connections are busy.

    reload.py URL PID CHAIN KEY

CHAIN and KEY are the files that the server of process PID has read, and reads again on SIGHUP. The
certificate changes ten times; no connection may end or lose a message, and who connects then is
shown the new one.
"""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

CONNECTIONS = 200
CHANGES = 10

url, pid, chain, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
address = urlsplit(url)
TRUSTING_ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUSTING_ANYBODY.check_hostname = False
TRUSTING_ANYBODY.verify_mode = ssl.CERT_NONE


def renew():
    """A new certificate, each file replaced in one step; its DER form."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key + ".new", "-out", chain + ".new", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, stderr=subprocess.DEVNULL)
    os.rename(key + ".new", key)
    os.rename(chain + ".new", chain)
    with open(chain) as file:
        return ssl.PEM_cert_to_DER_cert(file.read())


async def shown():
    _, writer = await asyncio.open_connection(
        address.hostname, address.port, ssl=TRUSTING_ANYBODY, server_hostname="localhost")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def echo(name, is_over, counts):
    async with connect(url, ssl=TRUSTING_ANYBODY, open_timeout=30) as ws:
        while not is_over.is_set():
            message = f"{name}: {counts[name]}"
            await ws.send(message)
            assert await asyncio.wait_for(ws.recv(), 20) == message
            counts[name] += 1


async def main():
    is_over, counts = asyncio.Event(), [0] * CONNECTIONS
    echoes = [asyncio.create_task(echo(name, is_over, counts)) for name in range(CONNECTIONS)]
    while not all(counts):
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in echoes), "a connection ended"
    for change in range(CHANGES):
        before = list(counts)
        certificate = await asyncio.to_thread(renew)
        os.kill(pid, signal.SIGHUP)
        for _ in range(100):
            if await shown() == certificate:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError(f"change {change} is not shown")
        while not all(now > then for now, then in zip(counts, before)):
            await asyncio.sleep(0.02)
            assert not any(task.done() for task in echoes), f"a connection ended at change {change}"
    is_over.set()
    await asyncio.gather(*echoes)
    print(f"  {CHANGES} new certificates under {CONNECTIONS} connections: ok, {sum(counts)} echoes")


asyncio.run(asyncio.wait_for(main(), 120))
