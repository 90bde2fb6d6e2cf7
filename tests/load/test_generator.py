"""Closed-loop and open-loop load, against small servers that behave and misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate

import pytest

from checks.harness.load import loops
from checks.harness.load.generator import closed_loop, open_loop, schedule
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import Request, Trace
from tests.threaded_server import LIMIT, Server, Talk, answer, read_request, serving
from tests.waiting import SLOWER, until, upper_bound


def echo(peer: socket.socket, server: Server) -> None:
    """Answer every request with its own body."""
    while (body := read_request(peer)) is not None:
        peer.sendall(answer(body))


def never(peer: socket.socket, server: Server) -> None:
    """Read a request and never answer it."""
    read_request(peer)
    server.heard.set()
    server.leave.wait(LIMIT)


def after_reading(reply: bytes, *, reset: bool = False) -> Talk:
    """Read a request, send these bytes, and close or reset the connection."""

    def talk(peer: socket.socket, server: Server) -> None:
        read_request(peer)
        peer.sendall(reply)
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return talk


constant = partial(open_loop, seed=1, arrivals="constant")
"""An open loop of equally spaced requests."""


def known(moment: float | None) -> float:
    """A moment that there must have been."""
    assert moment is not None
    return moment


def peak_in_flight(trace: Trace) -> int:
    """The most requests that were sent and not yet finished (or given up) at one moment, as the client saw it."""
    sent = [request for request in trace.requests if request.sent is not None]
    ends = [request.gave_up if request.finished is None else request.finished for request in sent]
    # A connection sends its next request at the very moment the last one finished: -1 sorts before +1.
    moments = sorted([*((known(request.sent), 1) for request in sent), *((known(end), -1) for end in ends)])
    return max(accumulate(step for _, step in moments))


def refusing_url() -> str:
    """The URL of a port without a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture(params=["uvloop", "asyncio"])
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs on uvloop and on what is used where that cannot be imported."""
    if request.param == "asyncio":
        monkeypatch.setattr(loops, "_new_event_loop", asyncio.new_event_loop)
    else:
        pytest.importorskip("uvloop")


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("load", ["closed", "open"])
def test_every_request_is_in_the_trace_with_its_own_answer(load: str) -> None:
    """Each request is sent once, with the body made for its number, and stands in the trace at that number."""
    body = b"n%d".__mod__
    with serving(echo) as server:
        trace = (
            closed_loop(server.url, connections=4, requests=50, body=body, keep_bodies=True)
            if load == "closed"
            else constant(server.url, rate=500, seconds=0.1, connections=4, body=body, keep_bodies=True)
        )

    assert [b"n%d" % number for number in range(50)] == [request.body for request in trace.requests]
    assert all(request.ok for request in trace.requests), "each got its 200"
    assert server.connections <= 4, "connections are kept alive"


def test_closed_loop_times() -> None:
    """In a closed loop scheduled is sent, and sent and finished follow one another within the run."""
    with serving(echo) as server:
        trace = closed_loop(server.url, connections=2, requests=20, body=[b"a", b"b"])

    for request in trace.requests:
        assert request.scheduled == request.sent, "no schedule to be late for"
        assert trace.started <= known(request.sent) <= known(request.finished) <= trace.ended
    assert () == trace.lags, "a closed loop cannot lag"


def test_closed_loop_keeps_every_connection_busy() -> None:
    """As many requests as connections are in flight together, and never more."""
    together = threading.Barrier(8)

    def meet(peer: socket.socket, server: Server) -> None:
        while read_request(peer) is not None:
            together.wait(LIMIT)  # answers only when 8 requests are here at once
            peer.sendall(answer())

    with serving(meet) as server:
        trace = closed_loop(server.url, connections=8, requests=32)

    assert 32 == len(trace.answered), "all eight came together, four times"
    assert 8 == peak_in_flight(trace)
    assert 8 == len({request.connection for request in trace.requests}) == server.connections


def test_closed_loop_stops_sending_after_its_seconds() -> None:
    """After `seconds` nothing more is sent, and what is in flight is waited for."""
    with serving(echo) as server:
        trace = closed_loop(server.url, connections=2, seconds=0.1)

    assert trace.requests, "it has sent something"
    assert all(known(request.sent) < trace.started + 0.1 for request in trace.requests), "nothing is sent later"
    assert all(request.ok for request in trace.requests), "and all of it was waited for"


@pytest.mark.parametrize(
    ("method", "body", "line", "length"),
    [
        ("GET", None, b"GET /a?b=1 HTTP/1.1", None),
        ("POST", None, b"POST /a?b=1 HTTP/1.1", b"content-length: 0"),
        ("POST", b"{}", b"POST /a?b=1 HTTP/1.1", b"content-length: 2"),
    ],
)
def test_what_goes_over_the_wire(method: str, body: bytes | None, line: bytes, length: bytes | None) -> None:
    """A request is a plain HTTP/1.1 one, with the given headers, and JSON unless they say otherwise."""
    seen = []

    def record(peer: socket.socket, server: Server) -> None:
        seen.append(peer.recv(65536))
        peer.sendall(answer())
        peer.recv(1)

    with serving(record) as server:
        closed_loop(server.url + "a?b=1", connections=1, requests=1, method=method, body=body, headers=[("X-Id", "7")])
    head = seen[0].partition(b"\r\n\r\n")[0].split(b"\r\n")

    assert line == head[0]
    assert b"x-id: 7" in head[1:], "the given header"
    assert (body is not None) == (b"content-type: application/json" in head), "a body is JSON"
    assert length is None or length in head, "a length, unless it is a GET without a body"


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize(
    ("talk", "words", "status"),
    [
        (after_reading(b"", reset=True), "connection reset", None),
        (after_reading(b""), "connection closed without an answer", None),
        (after_reading(answer(b"whole")[:-2]), "connection closed in the middle of the answer", 200),
        (after_reading(b"HTTP/1.1 200 OK\r\ncont"), "connection closed in the middle of the answer", 200),
        (
            after_reading(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"),
            "connection closed in the middle of the answer",
            200,
        ),
        (after_reading(b"HTTP/1.1 100 Continue\r\n\r\n"), "connection closed in the middle of the answer", 100),
        (
            after_reading(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"whole")[:-2]),
            "connection closed in the middle of the answer",
            200,
        ),
        (after_reading(b"220 smtp.example.org ready\r\n"), "the answer is not HTTP", None),
        (after_reading(b"\x15\x03\x03\x00\x02\x02\x46"), "the answer is not HTTP", None),
    ],
)
@pytest.mark.parametrize("load", ["closed", "open"])
def test_an_answer_that_fails_is_recorded_in_plain_words(talk: Talk, words: str, status: int | None, load: str) -> None:
    """A reset, a missing, half or alien answer is an error of its one request, and the load goes on."""
    with serving(talk) as server:
        if load == "closed":
            trace = closed_loop(server.url, connections=2, requests=4)
        else:
            trace = constant(server.url, rate=200, seconds=0.02, connections=2)

    assert {words: 4} == trace.errors, "four requests, four errors"
    assert {status} == {request.status for request in trace.requests}
    assert {None} == {request.finished for request in trace.requests}, "none finished"
    assert all(known(request.gave_up) >= known(request.sent) for request in trace.requests)
    assert 4 == len({request.connection for request in trace.requests}), "each broken connection was replaced"


@pytest.mark.usefixtures("each_loop")
def test_refused_connections_are_no_storm() -> None:
    """In a closed loop each connection is tried again only after the back-off, and each try is a recorded request."""
    trace = closed_loop(refusing_url(), connections=2, seconds=0.2)
    most = 2 * (1 + 0.2 / loops.BACK_OFF)

    assert {"connection refused"} == set(trace.errors)
    assert 2 <= len(trace.requests) <= most, "a try at once, then one per back-off"
    assert {None} == {request.sent for request in trace.requests}, "nothing could be sent"


@pytest.mark.usefixtures("each_loop")
def test_refused_connections_of_an_open_loop() -> None:
    """In an open loop every scheduled request is tried, and recorded as refused."""
    trace = constant(refusing_url().replace("127.0.0.1", "localhost"), rate=200, seconds=0.1)

    assert {"connection refused": 20} == trace.errors
    assert 20 == len(trace.lags), "all of them were dispatched in their time"


@pytest.mark.usefixtures("each_loop")
def test_no_answer_is_given_up_after_the_timeout() -> None:
    """A request without an answer is given up after its timeout, not before, and its connection is replaced."""
    with serving(never) as server:
        trace = closed_loop(server.url, connections=2, requests=4, timeout=0.1)
        until(lambda: server.connections == 4, "four connections: the server is still busy with the first two")

    assert {"no answer within 0.1 s": 4} == trace.errors
    assert all(known(request.gave_up) - known(request.sent) >= 0.1 for request in trace.requests), "never early"
    assert 2 == peak_in_flight(trace), "but only two are in flight together"


def test_half_an_answer_within_the_timeout() -> None:
    """An answer that began and does not end is given up too, with its status."""

    def stall(peer: socket.socket, server: Server) -> None:
        read_request(peer)
        peer.sendall(answer(b"whole")[:-2])
        server.leave.wait(LIMIT)

    for slower in SLOWER:
        with serving(stall) as server:
            trace = closed_loop(server.url, connections=1, requests=1, timeout=0.1 * slower)
        if trace.requests[0].status == 200:
            break

    assert {f"no answer within {0.1 * slower:g} s": 1} == trace.errors
    assert 200 == trace.requests[0].status, "it had begun"


def test_requests_without_a_connection_are_given_up_too() -> None:
    """When no connection becomes free within the timeout, the waiting requests are given up unsent."""
    with serving(never) as server:
        trace = constant(server.url, rate=1000, seconds=0.02, connections=2, timeout=0.2)

    assert 20 == len(trace.requests) == sum(trace.errors.values()), "each exactly once"
    assert {"no answer within 0.2 s", "no free connection within 0.2 s"} >= set(trace.errors)
    assert all(known(request.gave_up) - request.scheduled >= 0.2 for request in trace.requests), (
        "counted from the schedule"
    )
    assert 2 == peak_in_flight(trace)


@pytest.mark.parametrize("close", [False, True])
def test_refusals_with_and_without_close(close: bool) -> None:
    """A 503 is an answer with a status and no error; `Connection: close` makes the next request use a new one."""

    def refuse(peer: socket.socket, server: Server) -> None:
        while read_request(peer) is not None:
            peer.sendall(answer(b"busy", status=503, headers=b"Connection: close\r\n" if close else b""))
            if close:
                return

    with serving(refuse) as server:
        trace = closed_loop(server.url, connections=1, requests=5)

    assert {"status 503": 5} == trace.errors
    assert {None} == {request.error for request in trace.requests}
    assert all(known(request.latency) > 0 for request in trace.requests), "a refusal has a latency"
    assert (5 if close else 1) == len({request.connection for request in trace.requests})


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n"


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (answer(b"whole"), 1),
        (CHUNKED, 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"whole"), 1),
        (b"HTTP/1.1 200 OK\r\n\r\nwhole", 3),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nwhole", 3),
        (b"HTTP/1.0 200 OK\r\n\r\nwhole", 3),
        (answer(b"whole", headers=b"Connection: close\r\n"), 3),
        (answer(b"whole") + answer(b"not requested"), 3),
        (answer(b"whole") + b"not requested", 3),
    ],
)
@pytest.mark.parametrize("pieces", [False, True])
def test_every_form_of_an_answer(reply: bytes, kept: int, pieces: bool) -> None:
    """Lengths, chunks, bodies that end with the connection and surplus bytes are understood, in any pieces."""
    surplus = reply.endswith(b"not requested")
    ends = b"length" not in reply.lower() and b"chunked" not in reply

    def talk(peer: socket.socket, server: Server) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while read_request(peer) is not None:
            if pieces:
                for i in range(len(reply)):
                    peer.sendall(reply[i : i + 1])
            else:
                peer.sendall(reply)
            if ends:
                return

    with serving(talk) as server:
        trace = closed_loop(server.url, connections=1, requests=3, keep_bodies=True)

    if not (surplus and pieces):  # surplus that comes later is found by its connection or spoils the next answer
        assert [b"whole"] * 3 == [request.body for request in trace.requests]
        assert {} == trace.errors
        assert kept == len({request.connection for request in trace.requests}), "connections used for three requests"
    assert 3 == len(trace.requests)


def test_words_on_an_idle_connection_are_no_answer() -> None:
    """A connection on which the server sends an answer without a request is not used again."""
    spoke = threading.Event()

    def speak(peer: socket.socket, server: Server) -> None:
        read_request(peer)
        peer.sendall(answer(b"first"))
        if server.connections == 1:
            server.leave.wait(0.02)  # long enough for the client to be idle; sooner must make no difference
            peer.sendall(answer(b"unasked", status=408))
            peer.recv(1)  # until the client has hung up
            spoke.set()

    for slower in SLOWER:
        with serving(speak) as server:
            trace = constant(server.url, rate=10 / slower, seconds=0.2 * slower, keep_bodies=True)
        if not trace.errors:  # it came to speak before the second request was sent
            break

    assert [b"first", b"first"] == [request.body for request in trace.requests]
    assert 2 == server.connections
    assert spoke.is_set(), "the first connection was hung up"


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("load", ["closed", "open"])
def test_a_server_that_goes_away_in_the_middle(load: str) -> None:
    """Requests before are answered, those after are errors, and each stands in the trace once."""

    def leave_after_ten(peer: socket.socket, server: Server) -> None:
        while (body := read_request(peer)) is not None:
            if body == b"10":
                server.go_away()
                return
            peer.sendall(answer())

    numbers = [b"%d" % number for number in range(14)]
    with serving(leave_after_ten) as server:
        if load == "closed":
            trace = closed_loop(server.url, connections=1, requests=14, body=numbers)
        else:
            trace = constant(server.url, rate=200, seconds=0.07, body=numbers, connections=1)

    assert [True] * 10 + [False] * 4 == [request.ok for request in trace.requests]
    assert {"connection refused", "connection reset", "connection closed without an answer"} >= set(trace.errors)


def test_open_loop_is_never_early() -> None:
    """Each request is sent at or after its scheduled time, which is the schedule's, and its lag says how late."""
    times = schedule(500, 0.2, seed=3)
    with serving(echo) as server:
        trace = open_loop(server.url, rate=500, seconds=0.2, seed=3)

    assert pytest.approx(times) == [request.scheduled - trace.started for request in trace.requests]
    assert len(times) == len(trace.lags) == len(trace.answered)
    assert all(known(request.sent) >= request.scheduled for request in trace.requests)
    assert all(0 <= lag <= known(r.sent) - r.scheduled for lag, r in zip(trace.lags, trace.requests, strict=True))


def test_open_loop_waits_for_a_free_connection_in_order() -> None:
    """With all its connections busy an open loop sends in the order of the schedule, one request a connection."""
    gate = threading.Barrier(2)

    def in_pairs(peer: socket.socket, server: Server) -> None:
        while read_request(peer) is not None:
            gate.wait(LIMIT)
            peer.sendall(answer())

    with serving(in_pairs) as server:
        trace = constant(server.url, rate=2000, seconds=0.02, connections=2)
    sent = [known(request.sent) for request in trace.requests]

    assert 40 == len(trace.answered)
    assert sorted(sent) == sent, "first in, first out"
    assert 2 == peak_in_flight(trace) == server.connections


def test_open_loop_opens_connections_as_it_needs_them() -> None:
    """However many requests hang, the next one gets a connection of its own."""
    all_here = threading.Barrier(30)

    def meet(peer: socket.socket, server: Server) -> None:
        while read_request(peer) is not None:
            all_here.wait(LIMIT)
            peer.sendall(answer())

    with serving(meet) as server:
        trace = constant(server.url, rate=300, seconds=0.1)

    assert 30 == len(trace.answered) == peak_in_flight(trace), "all 30 were in flight together"


def test_schedule_is_made_by_its_seed() -> None:
    """The same seed gives the same schedule, another seed another one, at the rate that was asked for."""
    times = schedule(1000, 10, seed=7)

    assert times == schedule(1000, 10, seed=7)
    assert times != schedule(1000, 10, seed=8)
    assert sorted(times) == times
    assert 0 < times[0] < times[-1] < 10
    assert pytest.approx(10_000, rel=0.05) == len(times), "within 5 standard deviations of a Poisson count"


def test_schedule_of_constant_arrivals() -> None:
    """Constant arrivals are equally spaced from 0, and exactly rate times seconds."""
    assert pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06]) == schedule(100, 0.07, 0, "constant")


@pytest.mark.parametrize(
    "plan",
    [
        lambda: schedule(0, 1, 0),
        lambda: schedule(1, 0, 0),
        lambda: schedule(1, 1, 0, "uniform"),  # type: ignore[arg-type]
        lambda: closed_loop("http://127.0.0.1:9/", connections=1),
        lambda: closed_loop("http://127.0.0.1:9/", connections=0, requests=1),
        lambda: open_loop("http://127.0.0.1:9/", rate=1, seconds=1, seed=0, connections=0),
        lambda: closed_loop("https://127.0.0.1:9/", connections=1, requests=1),
        lambda: closed_loop("127.0.0.1:9", connections=1, requests=1),
        lambda: closed_loop("http://127.0.0.1:9/", connections=1, requests=1, body=[]),
    ],
)
def test_plans_that_cannot_be_run(plan: Callable[[], object]) -> None:
    """A plan without an end, a rate, a connection, or a plain http URL is a ValueError."""
    with pytest.raises(ValueError):
        plan()


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("at", [0, 5])
def test_a_body_that_cannot_be_made_ends_the_load(at: int) -> None:
    """An exception in the function that makes the bodies reaches the caller."""

    def make(number: int) -> bytes:
        if number == at:
            raise KeyError("no such input")
        return b""

    with serving(echo) as server, pytest.raises(KeyError, match="no such input"):
        closed_loop(server.url, connections=1, seconds=60, body=make)


def test_coordinated_omission() -> None:
    """A server that stalls once is hardly seen by a closed loop's p99, and plainly by an open loop's from scheduled."""
    one_at_a_time = threading.Lock()
    stalled: list[bool] = []

    def stall_once(peer: socket.socket, server: Server) -> None:
        while (body := read_request(peer)) is not None:
            with one_at_a_time:
                if body == b"50" and not stalled:
                    time.sleep(0.3)  # the stall under test
                    stalled.append(True)
                peer.sendall(answer())

    numbers = [b"%d" % number for number in range(1000)]
    with serving(stall_once) as server:
        closed = closed_loop(server.url, connections=1, requests=400, body=numbers)
        stalled.clear()
        opened = constant(server.url, rate=400, seconds=0.6, body=numbers)

    assert max(closed.latencies()) >= 0.3, "the closed loop met the stall, in one request of 400"
    assert percentile(opened.latencies(), 99) >= 0.28, "of the open loop's, all that were due in it waited"
    with upper_bound():
        assert percentile(closed.latencies(), 99) <= 0.07, "the closed loop's p99 hides what users would have waited"


def test_what_watches_a_load_sees_each_request_once() -> None:
    """What has ended is told while the load runs, with its start; what the watcher raises ends the load."""
    told: list[tuple[float, list[Request]]] = []

    def stop(started: float, new: list[Request]) -> None:
        raise KeyError("enough")

    with serving(echo) as server:
        trace = constant(server.url, rate=100, seconds=0.5, live=lambda *what: told.append(what))
        with pytest.raises(KeyError, match="enough"):
            closed_loop(server.url, connections=1, seconds=LIMIT, live=stop)
    seen = [request for _, new in told for request in new]

    assert {trace.started} == {started for started, _ in told}
    assert len(seen) == len({request.scheduled for request in seen}) > 0
    assert set(seen) <= set(trace.requests)
