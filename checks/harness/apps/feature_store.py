"""A feature store for the learner's service to ask: a real server that counts connections, and can be slow or wrong."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from checks.harness.background_server import background_server

STATUS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    302: "Found",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
CONNECT_SECONDS = 0.2
"""Seconds after which a connection to this machine hangs."""


class Store:
    """Answers `GET /features/{user_id}` on 127.0.0.1, each after `seconds`, over connections that it keeps open.

    Attributes:
        url: where it listens.
        users: features by user id; 404 for all others.
        replies: status and body by user id, sent as they are; None for an answer that never comes.
        seconds: how long an answer takes, or each of its parts.
        parts: in how many parts an answer comes.
        accepted: connections so far.
        open: connections that are open now.
        most_open: the most connections that were open together.
        sent: parts of answers so far.
        asked: the paths of all requests so far.
        working: the connections with a request that is being answered now.
        most_working: the most that were so together; may be set to 0.
    """

    def __init__(self) -> None:
        self.url = ""
        self.users: dict[int, list[float]] = {}
        self.replies: dict[int, tuple[int, str] | None] = {}
        self.seconds = 0.0
        self.parts = 1
        self._gate = asyncio.Event()
        self._gate.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.accepted = self.open = self.most_open = self.sent = 0
        self.working = set[asyncio.StreamWriter]()
        self.most_working = 0
        self.asked: list[str] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Give no answer while the body runs."""
        self._gate.clear()
        try:
            yield
        finally:
            if self._loop:
                self._loop.call_soon_threadsafe(self._gate.set)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its client closes it."""
        self._loop = asyncio.get_running_loop()
        self.accepted += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode("latin-1")
                self.asked.append(path)
                seconds, parts = self.seconds, self.parts
                self.working.add(writer)
                self.most_working = max(self.most_working, len(self.working))
                await asyncio.sleep(seconds)
                await self._gate.wait()
                if (reply := self.reply(path)) is None:
                    await reader.read()  # no answer, until the client closes the connection
                    return
                status, body = reply
                lines = [f"HTTP/1.1 {status} {STATUS[status]}"]
                lines += [f"location: /features/{next(iter(self.users), '')}"] if status == 302 else []
                lines += ["content-type: application/json", f"content-length: {len(body)}"] if status != 204 else []
                answer = "\r\n".join([*lines, "", body if status != 204 else ""]).encode()
                size = -(-len(answer) // parts)
                for part in range(0, len(answer), size):
                    await asyncio.sleep(seconds if part else 0)
                    writer.write(answer[part : part + size])
                    self.sent += 1
                self.working.discard(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed it
        finally:
            self.open -= 1
            self.working.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def reply(self, path: str) -> tuple[int, str] | None:
        """Status and body for a path."""
        name = path.removeprefix("/features/")
        user = int(name) if name.isdecimal() else -1
        if user in self.replies:
            return self.replies[user]
        if user in self.users:
            return 200, json.dumps({"features": self.users[user]})
        return 404, '{"detail": "Not Found"}'


@contextmanager
def running_store() -> Iterator[Store]:
    """A store that runs on a thread of its own."""
    store = Store()
    with background_server(lambda: asyncio.start_server(store.talk, "127.0.0.1", 0), "feature store") as port:
        store.url = f"http://127.0.0.1:{port}"
        yield store


@contextmanager
def store_that_is_full() -> Iterator[str | None]:
    """URL of a socket whose backlog is full, so that connecting hangs; None where the system refuses instead."""
    with ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = None
        for _ in range(200):
            caller = held.enter_context(socket.socket())
            caller.settimeout(CONNECT_SECONDS)
            try:
                caller.connect(listening.getsockname())
            except TimeoutError:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                break
            except OSError:
                break
        yield url
