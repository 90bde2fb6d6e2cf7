"""Streamed answers under load: each token's moment over a real connection, and what is made of a load of them."""

from __future__ import annotations

import math
import socket
import time

import pytest

from checks.harness.load.generator import closed_loop
from checks.harness.load.streams import Stream, Tail, good, stream_of, tail
from checks.harness.load.trace import Request
from tests.threaded_server import Server, Talk, read_request, serving

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN, DONE = b'data: {"token": "a"}\n\n', b'event: done\ndata: {"tokens": 2}\n\n'


def chunk(piece: bytes) -> bytes:
    """A piece of a body, as it goes over the wire."""
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


def streamed(*pieces: bytes, pause: float = 0.05) -> Talk:
    """Answer with these pieces, a pause before each."""

    def talk(peer: socket.socket, server: Server) -> None:
        while read_request(peer) is not None:
            peer.sendall(HEAD)
            for piece in pieces:
                time.sleep(pause)
                peer.sendall(piece)

    return talk


def test_each_token_has_its_moment() -> None:
    """A token came with the piece that ends its event; of two halves the second counts."""
    half = len(TOKEN) // 2
    pieces = [chunk(TOKEN), chunk(TOKEN + TOKEN[:half]), chunk(TOKEN[half:] + DONE) + b"0\r\n\r\n"]
    with serving(streamed(*pieces)) as server:
        trace = closed_loop(f"{server.url}/generate", connections=1, requests=2, body=b"{}", keep_pieces=True)
    first, second = map(stream_of, trace.requests)

    for stream in (first, second):
        times = [moment - stream.scheduled for moment in stream.tokens]
        assert 3 == len(times)
        assert all(after >= 0.05 * n for n, after in enumerate(times, 1)), times
        assert stream.finished == stream.ended >= stream.tokens[-1]
    assert first.ended <= second.scheduled


@pytest.mark.parametrize(
    ("pieces", "tokens", "error"),
    [
        ((chunk(TOKEN), b"x"), 1, "the answer is not HTTP"),
        ((chunk(TOKEN) + b"0\r\n\r\n",), 1, "no event `done` at the end"),
        ((chunk(TOKEN + b"event: error\ndata: {}\n\n") + b"0\r\n\r\n",), 1, "an error event"),
        ((chunk(DONE + TOKEN) + b"0\r\n\r\n",), 1, "no event `done` at the end"),
        ((chunk(TOKEN),), 1, "no answer within 0.4 s"),
    ],
)
def test_what_does_not_end_as_it_should(pieces: tuple[bytes, ...], tokens: int, error: str) -> None:
    """Broken off, without an end, with an error, given up: not finished, and what came of it is known."""
    with serving(streamed(*pieces)) as server:
        trace = closed_loop(
            f"{server.url}/generate", connections=1, requests=1, body=b"{}", keep_pieces=True, timeout=0.4
        )
    stream = stream_of(trace.requests[0])

    assert (tokens, None, error) == (len(stream.tokens), stream.finished, stream.error)


def test_a_refusal_is_no_stream() -> None:
    """Its body is not read for tokens."""
    stream = stream_of(Request(1.0, 1.0, 1.5, 503, None, 0, pieces=((1.5, TOKEN),)))

    assert stream.refused
    assert ((), None, 1.5) == (stream.tokens, stream.finished, stream.ended)


def at(*tokens: float, finished: bool = True) -> Stream:
    """A stream that was due at 0."""
    end = tokens[-1] if tokens else 0.0
    return Stream(0.0, tokens, end if finished else None, end, 200)


def test_failures_are_in_the_tail() -> None:
    """Infinite TTFT and TPOT for what did not come; all gaps that were seen, in one pool; None for nothing."""
    streams = [at(0.25, 0.5), at(0.5, 0.75, 1.5), at(0.5), at(finished=False)]

    assert Tail(0.5, 0.5, 0.25) == tail(streams, 50)
    assert Tail(math.inf, math.inf, 0.75) == tail(streams, 99)
    assert Tail(None, None, None) == tail([], 50)


@pytest.mark.parametrize(
    ("stream", "of_use"),
    [
        (at(0.5, 0.5625), True),
        (at(0.5), True),
        (at(0.5625), False),
        (at(0.5, 0.625), False),
        (at(0.5, 0.5625, finished=False), False),
        (at(), False),
    ],
)
def test_both_limits(stream: Stream, of_use: bool) -> None:
    """A value at its limit keeps it, and one token has no TPOT to miss."""
    assert of_use == good(stream, 500.0, 62.5)
