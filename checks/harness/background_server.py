"""A server of the lab's own, on an asyncio event loop that runs on a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

START_SECONDS = 20.0
"""Seconds until a server listens, and until it has ended, on a very busy machine."""


@contextlib.contextmanager
def background_server(listen: Callable[[], Awaitable[asyncio.Server]], name: str) -> Iterator[int]:
    """Run the server that `listen` starts on a thread while the body runs. Gives its port on 127.0.0.1.

    All tasks that are left at the end are cancelled and awaited.

    Raises:
        RuntimeError: the server did not start.

    """
    loop, ready, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = await listen()
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await over.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        if not ready.wait(START_SECONDS):
            raise RuntimeError(f"the {name} of the lab did not start within {START_SECONDS:g} s")
        yield ports[0]
    finally:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ended early, with a traceback
            loop.call_soon_threadsafe(over.set)
        thread.join(START_SECONDS)
