"""`lab` as a process, and what a client sees of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sysconfig
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import SECONDS, until

LAB = str(Path(sysconfig.get_path("scripts"), "lab"))


@contextmanager
def lab(work: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`lab --no-browser` on a workspace, and the address that it prints."""
    command = [LAB, "--no-browser", "--workspace", str(work), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "http://127.0.0.1:" in line, line
            yield process, line.split()[5]
        finally:
            if process.poll() is None:
                process.kill()


def free_port() -> str:
    """A port that is free at this moment, and is none that the page takes by itself."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


@contextmanager
def connected(address: str) -> Iterator[httpx.Client]:
    """A client that has opened the address, once the server answers."""
    home = address.partition("/?")[0]
    with httpx.Client(base_url=home, headers={"Origin": home}, timeout=SECONDS * 4) as client:

        def welcomed() -> bool:
            try:
                return client.get(address, follow_redirects=True).status_code == 200
            except httpx.ConnectError:
                return False

        until(welcomed, "the page")
        yield client


def events(client: httpx.Client) -> Generator[tuple[str, dict[str, Any]]]:
    """The server-sent events, until the stream ends."""
    with client.stream("GET", "/events") as stream:
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
