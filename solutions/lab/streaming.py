"""Streaming: an answer that leaves token by token, as server-sent events, while the decoder still works on it.

What stands here is a proposal: the checkpoints see `POST /generate`, `app.state.decoder` and `GET /metrics` only.
"""

import asyncio
import json
import math
import time
from collections import Counter
from contextlib import aclosing
from typing import Any

from fastapi import Response

from lab.decoder import SimulatedDecoder
from lab.timing import LatencyWindow

ENDS = ("finished", "left", "failed", "refused")
"""How a stream can end: all of it was sent, its reader has left, its decoder has failed, it never got a slot."""


def event(data: Any, name: str | None = None) -> bytes:
    r"""One server-sent event: its data as JSON in one line, after its name if it has one.

    >>> event({"token": "Hel"})
    b'data: {"token": "Hel"}\n\n'
    >>> event({"tokens": 12}, "done")
    b'event: done\ndata: {"tokens": 12}\n\n'
    """
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(data)}\n\n".encode()


class StreamMetrics:
    """What `GET /metrics` reports of the streams: time to first token, time per output token, and how they ended.

    - TTFT: from when the `TokenStream` is made until its first token is handed to `send`; it contains the wait for a
      slot. Each stream that got a first token has one, however it ended.
    - TPOT: (last - first) / (tokens - 1). Each stream that finished with two tokens or more has one.
    - Each stream ends once: "left" if its reader left, or the server cancelled it, before its last event was sent. That
      holds while it waits for a slot, too, and after its last token was decoded: what is decoded is not sent yet.

    Take the times with `time.perf_counter()`, as in exercise 2.
    """

    def __init__(self, window: int) -> None:
        """Start without streams. Both latencies are kept in a `LatencyWindow` of this size."""
        self.ttft = LatencyWindow(window)
        self.tpot = LatencyWindow(window)
        self.ends: Counter[str] = Counter()

    def report(self) -> dict[str, Any]:
        """All that was recorded, in ms.

        `{"ttft": {<summary>}, "tpot": {<summary>}, "ends": {"finished": 7, "left": 1, "failed": 0, "refused": 2}}`
        """
        ends = {name: self.ends[name] for name in ENDS}
        return {"ttft": self.ttft.summary(), "tpot": self.tpot.summary(), "ends": ends}


class TokenStream(Response):
    """A response that waits for a slot of the decoder, and sends each token as soon as it is there.

    - A slot first, then the 200. A stream gets a 503 if it finds no free slot and `queue` others waiting, or if it has
      waited `queue_seconds`.
    - The slot is held for decoding, not for reading: from `acquire` to the last token decoded, failed, or given up.
    - A reader who leaves frees its slot at once, before the next token. So does a request that the server cancels.
    - If the reader leaves while its stream waits for a slot, the stream is never decoded.
    - A decoder that fails after the 200 gives an `error` event, and the response ends as it should.
    """

    def __init__(
        self,
        decoder: SimulatedDecoder,
        prompt: str,
        max_tokens: int,
        *,
        queue: int,
        queue_seconds: float,
        metrics: StreamMetrics,
    ) -> None:
        """An answer of at most `max_tokens` tokens. Its time to first token begins here.

        Call `Response.__init__`: FastAPI needs what it sets. But do not send its headers: they count an empty body.
        """
        super().__init__()
        self._began = time.perf_counter()
        self._decoder = decoder
        self._prompt, self._max_tokens = prompt, max_tokens
        self._queue, self._queue_seconds = queue, queue_seconds
        self._metrics = metrics
        self._ended: str | None = None  # one of ENDS

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - ASGI's signature
        """Send it, until it has ended, or its reader has left, or the server cancels the request.

        None of its tasks goes on then, whatever it was doing: waiting for a slot, sending the head, or the tokens.
        """
        # Two tasks: one serves, the other hears whether the reader leaves. The first that ends, ends both.
        serving = asyncio.ensure_future(self._serve(send))
        leaving = asyncio.ensure_future(_until_it_leaves(receive))
        try:
            await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:  # also where the server cancels the request
            leaving.cancel()
            serving.cancel()
            self._end("left")
        await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()

    def _end(self, how: str) -> None:
        """Count how it ended, once."""
        if self._ended is None:
            self._ended = how
            self._metrics.ends[how] += 1

    async def _serve(self, send: Any) -> None:
        if not await self._got_a_slot():
            self._end("refused")
            return await self._refuse(send)
        tokens: asyncio.Queue[str | Exception | None] = asyncio.Queue()  # at most `max_tokens` wait for the reader
        decoding = asyncio.ensure_future(self._decode(tokens))
        # Not `finally` in the task: one that is cancelled before its first step never gets there.
        decoding.add_done_callback(lambda _: self._decoder.release())
        try:
            await self._send_all(tokens, send)
        finally:
            decoding.cancel()
        return None

    async def _got_a_slot(self) -> bool:
        if not self._decoder.free and self._decoder.waiting >= self._queue:
            return False
        try:
            async with asyncio.timeout(self._queue_seconds):
                await self._decoder.acquire()
        except TimeoutError:
            return False
        return True

    async def _decode(self, tokens: "asyncio.Queue[str | Exception | None]") -> None:
        """Put each token, and then how it ended: None, or the exception."""
        try:
            async with aclosing(self._decoder.generate(self._prompt, self._max_tokens)) as generated:
                async for token in generated:
                    tokens.put_nowait(token)
        except Exception as error:
            tokens.put_nowait(error)
        else:
            tokens.put_nowait(None)

    async def _send_all(self, tokens: "asyncio.Queue[str | Exception | None]", send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sent, first, last = 0, 0.0, 0.0
        while isinstance(token := await tokens.get(), str):
            last = time.perf_counter()
            if not sent:
                first = last
                self._metrics.ttft.record(first - self._began)
            sent += 1
            await send(_piece(event({"token": token})))
        if token is None:
            end, how = event({"tokens": sent}, "done"), "finished"
            if sent > 1:
                self._metrics.tpot.record((last - first) / (sent - 1))
        else:
            end, how = event({"detail": f"the decoder failed: {token}"}, "error"), "failed"
        self._end(how)
        await send(_piece(end))
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, send: Any) -> None:
        seconds = max(1, math.ceil(self._queue_seconds))
        body = json.dumps({"detail": f"all slots are taken: try again in {seconds} s"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(seconds).encode()),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _until_it_leaves(receive: Any) -> None:
    """Return when the reader has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _piece(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}
