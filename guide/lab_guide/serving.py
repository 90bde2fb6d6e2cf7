"""Serves the page: finds a port, says where it is, opens a browser, and ends at Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import psutil
import uvicorn

from lab_guide.app import create_app, version
from lab_guide.place import Place
from lab_guide.state import Guide

PORT, TRIES = 8460, 20
"""The port that is tried first, and how many above it."""


class PortTaken(Exception):
    """The port that was asked for is in use: a sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is. The token goes with the first request."""

    pid: int
    port: int
    token: str

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


class Server(uvicorn.Server):
    """Ends at once: what is open then are the event streams, and they end first."""

    def __init__(self, config: uvicorn.Config, before_exit: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_exit, self._after = before_exit, after
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal says otherwise."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._before_exit)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open. uvicorn then raises the signal once more, and SIGTERM leaves no time for anything else."""
        await super().shutdown(sockets)
        self._after()


def serve(place: Place, port: int | None, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the page of a place until Ctrl-C. Where another process serves it already, only say where.

    Raises:
        PortTaken: `port` is in use.
    """
    known = place.folder / "guide.json"
    if other := _serving(known):
        say(f"The page is open already: {other.url}")
        if browser:
            _open(other.url, say)
        return
    forget = partial(known.unlink, missing_ok=True)
    with listen(port) as listening:
        address = Address(os.getpid(), listening.getsockname()[1], _token(place.folder / "token"))
        _remember(known, address)
        try:
            if place.note:
                say(place.note)
            say(f"The page of the lab: {address.url}   (Ctrl-C ends it)")
            if browser:
                threading.Thread(target=_open, args=(address.url, say), daemon=True).start()
            asyncio.run(_serve(place, address, listening, forget))
        except KeyboardInterrupt:
            say("")
        finally:
            forget()


async def _serve(place: Place, address: Address, listening: socket.socket, after: Callable[[], None]) -> None:
    guide = Guide(place, version())
    app = create_app(guide, address.port, address.token)
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", server_header=False)
    await Server(config, guide.close, after).serve([listening])


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this port, or on the first free one from `PORT` on.

    Raises:
        PortTaken: it is in use.
    """
    for tried in [port] if port is not None else range(PORT, PORT + TRIES):
        found = socket.socket()
        if os.name != "nt":  # there the option would let two processes have one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", tried))
            found.listen()
        except OSError:
            found.close()
        else:
            return found
    raise PortTaken(
        f"Port {port} is taken{_by(port)}." if port is not None else f"{TRIES} ports from {PORT} on are taken."
    )


def _by(port: int) -> str:
    """Who has a port, as far as this user may know."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.laddr
                and connection.laddr.port == port
                and connection.status == psutil.CONN_LISTEN
                and connection.pid
            ):
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def _token(path: Path) -> str:
    """The token of this place: the same as before, so that an open page connects again when the server is back."""
    try:
        private = os.name == "nt" or path.stat().st_mode & 0o077 == 0
        if private and re.fullmatch(r"[\w-]{43}", known := path.read_text()):
            return known
    except (OSError, ValueError):
        pass
    made = secrets.token_urlsafe(32)
    _write_privately(path, made)
    return made


def _write_privately(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _remember(path: Path, address: Address) -> None:
    """Write down where the page is, for another start."""
    _write_privately(path, json.dumps(asdict(address)))


def _serving(path: Path) -> Address | None:
    """Who serves this place, if its process lives and its port is open."""
    try:
        other = Address(**json.loads(path.read_text(encoding="utf-8")))
        if not psutil.pid_exists(other.pid):
            return None
        with socket.create_connection(("127.0.0.1", other.port), 1):
            return other
    except (OSError, ValueError, TypeError):
        return None


def _open(url: str, say: Callable[[str], None]) -> None:
    """Open a browser, if this is the machine that the learner sits at."""
    if "SSH_CONNECTION" in os.environ:
        port = url.partition("/?")[0].rpartition(":")[2]
        say(f"From your own machine: ssh -L {port}:127.0.0.1:{port} ..., then open the address there.")
        return
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)
