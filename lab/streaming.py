"""Streaming: an answer that leaves token by token, as server-sent events, while the decoder still works on it.

What stands here is a proposal: the checkpoints see `POST /generate`, `app.state.decoder` and `GET /metrics` only.
"""

from typing import Any

from fastapi import Response

from lab.decoder import SimulatedDecoder

ENDS = ("finished", "left", "failed", "refused")
"""How a stream can end: all of it was sent, its reader has left, its decoder has failed, it never got a slot."""


def event(data: Any, name: str | None = None) -> bytes:
    r"""One server-sent event: its data as JSON in one line, after its name if it has one.

    >>> event({"token": "Hel"})
    b'data: {"token": "Hel"}\n\n'
    >>> event({"tokens": 12}, "done")
    b'event: done\ndata: {"tokens": 12}\n\n'
    """
    raise NotImplementedError("7.3: event")


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
        raise NotImplementedError("7.3: StreamMetrics")

    def report(self) -> dict[str, Any]:
        """All that was recorded, in ms.

        `{"ttft": {<summary>}, "tpot": {<summary>}, "ends": {"finished": 7, "left": 1, "failed": 0, "refused": 2}}`
        """
        raise NotImplementedError("7.8: StreamMetrics.report")


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
        raise NotImplementedError("7.3: TokenStream")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it, until it has ended, or its reader has left, or the server cancels the request.

        None of its tasks goes on then, whatever it was doing: waiting for a slot, sending the head, or the tokens.
        """
        raise NotImplementedError("7.3: TokenStream")
