"""The units for systemd: they are sound, and what they start does what it should."""

import asyncio
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys

from websockets.asyncio.client import connect

from bed import PATIENCE, Bed, Corewire, curl, free_port, scenario, wait_until
from page import configuration

PROGRAM = "/usr/local/bin/corewire"
# What systemd does for a service with a socket: the listening socket is descriptor 3.
LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


def settings(unit):
    """The lines NAME=VALUE of a unit."""
    lines = (line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")
    return dict(lines)


def service(variation=None):
    return configuration("corewire.service", {PROGRAM: os.environ["COREWIRE"]}, variation)


@scenario
def the_units_for_systemd_are_sound(out):
    for name, variation in (("alone", None), ("socket", "with a socket")):
        with Bed(out / name) as bed:
            units = [bed.write("corewire.service", service(variation))]
            if variation:
                units.append(bed.write("corewire.socket", configuration("corewire.socket", {})))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units],
                                  capture_output=True, text=True)
            # It complains of the machine's own units too; those are not ours to judge.
            ours = [line for line in done.stderr.splitlines() if "corewire" in line]
            assert done.returncode == 0 and not ours, f"{done.returncode}: {done.stderr}"


def calls_of(filter):
    """The system calls that a filter of systemd's names, by themselves or in groups."""
    calls = set()
    for name in filter.split():
        if name.startswith("@"):
            command = ["systemd-analyze", "syscall-filter", name]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            lines = [line for line in said.splitlines() if line[:1] == " " and "#" not in line]
            calls |= calls_of(" ".join(lines))
        else:
            calls.add(name)
    return calls


@scenario
def the_unit_allows_every_system_call_that_corewire_makes(out):
    with Bed(out) as bed:
        allowed = calls_of(settings(service())["SystemCallFilter"])
        trace = bed.path("trace")
        strace = ["strace", "-f", "-qq", "-e", "signal=none", "-o", trace]
        port = free_port()
        words = shlex.split(settings(service())["ExecStart"].replace("9001", str(port)))
        server = Corewire(bed, command=[*strace, *words, "--pin", "--compression", "shared"])
        asyncio.run(echo(port))
        children = f"/proc/{server.pid}/task/{server.pid}/children"
        with open(children) as traced:
            os.kill(int(traced.read()), signal.SIGTERM)
        assert server.await_end() == 1
        made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
        assert len(made) > 20, made
        # The launcher's: systemd itself puts the program in place.
        assert made - {"execve"} <= allowed, f"not allowed: {made - allowed}"


@scenario
def systemd_waits_longer_than_corewire_does(out):
    unit = settings(service())
    words = shlex.split(unit["ExecStart"])
    patience = [words[words.index(flag) + 1] for flag in ("--drain-window", "--drain-grace")]
    patience = sum(float(time.removesuffix("s")) for time in patience)
    assert float(unit["TimeoutStopSec"].removesuffix("s")) > patience
    with Bed(out) as bed:
        # The command of the unit itself, but for the port.
        command = [word.replace("127.0.0.1:9001", "127.0.0.1:0") for word in words]
        assert Corewire(bed, command=command).stop() == 0


async def echo(port):
    async with connect(f"ws://127.0.0.1:{port}/") as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"


@scenario
def a_socket_of_systemds_outlives_the_server(out):
    listen = settings(configuration("corewire.socket", {"127.0.0.1:9001": "127.0.0.1:0"}))
    host, port = listen["ListenStream"].split(":")
    command = shlex.split(settings(service("with a socket"))["ExecStart"])
    with socket.create_server((host, int(port)), backlog=int(listen["Backlog"])) as listener, \
            Bed(out) as bed:
        port = listener.getsockname()[1]
        # Far from 3, where the launcher puts it.
        passed = os.dup(listener.fileno())
        launch = [sys.executable, "-c", LAUNCHER, str(passed), *command]
        first = Corewire(bed, command=launch, pass_fds=[passed], name="first")
        asyncio.run(echo(port))
        assert first.stop() == 1
        # Nobody is there, and yet a client is not refused: it waits for the next server.
        with socket.create_connection((host, port), timeout=PATIENCE) as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            second = Corewire(bed, command=launch, pass_fds=[passed], name="second")
            assert b"ok\n" in b"".join(iter(lambda: early.recv(4096), b""))
        asyncio.run(echo(port))
        assert second.stop() == 1
        os.close(passed)


def serial(port):
    """Which certificate the server shows."""
    return ssl.get_server_certificate(("127.0.0.1", port))


@scenario
def a_reload_brings_new_certificates_and_keeps_old_ones_from_bad(out):
    reload = shlex.split(settings(service())["ExecReload"])
    assert reload == ["/bin/kill", "-HUP", "$MAINPID"], reload
    with Bed(out) as bed:
        old, old_key, _ = bed.certificate("old.example.com")
        new, new_key, _ = bed.certificate("new.example.com")
        certificate = bed.write("certificate", old.read_text())
        key = bed.write("key", old_key.read_text())
        server = Corewire(bed, "--tls-cert", certificate, "--tls-key", key)
        url = f"https://127.0.0.1:{server.port}/healthz"
        assert curl(url, "--cacert", old) == (200, "ok\n")

        certificate.write_text("nothing that a certificate could be\n")
        lines = server.log.read_text().count("\n")
        server.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: server.log.read_text().count("\n") > lines, "corewire complains")
        assert curl(url, "--cacert", old) == (200, "ok\n")

        certificate.write_text(new.read_text())
        key.write_text(new_key.read_text())
        server.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: serial(server.port) == new.read_text(), "the new certificate is shown")
        assert curl(url, "--cacert", new) == (200, "ok\n")
        assert server.stop() == 0
