"""The numbers of recorded requests."""

from __future__ import annotations

from checks.harness.load.trace import Request, Trace


def request(
    scheduled: float = 0.0,
    sent: float | None = None,
    finished: float | None = None,
    *,
    status: int = 200,
    error: str | None = None,
    gave_up: float | None = None,
) -> Request:
    """A request that was sent when it was scheduled, unless said otherwise."""
    sent = scheduled if sent is None else sent
    return Request(scheduled, sent, finished, None if finished is None else status, error, 0, None, gave_up)


def trace(*requests: Request, started: float = 0.0, ended: float = 100.0) -> Trace:
    """A trace of these requests."""
    return Trace(tuple(requests), started, ended)


def test_latency_counts_from_scheduled() -> None:
    """A request that was sent late has waited since it was scheduled."""
    late = request(scheduled=1.0, sent=3.0, finished=4.0)

    assert 3.0 == late.latency, "1 s of service time, 2 s before it was sent"


def test_unfinished_has_no_latency() -> None:
    """A request without a whole answer has no latency and is not ok."""
    lost = request(error="connection reset", gave_up=5.0)

    assert lost.latency is None, "it never finished, however long it took to give up"
    assert not lost.ok, "an error is not ok"


def test_answered_and_errors_share_out_all_requests() -> None:
    """Only a whole 200 is an answer; everything else is counted by what went wrong, a refusal by its status."""
    good, refused, lost = request(finished=0.5), request(finished=0.1, status=503), request(error="connection reset")
    run = trace(good, refused, refused, lost)

    assert (good,) == run.answered, "of the four, one got its 200"
    assert {"status 503": 2, "connection reset": 1} == run.errors, "the other three, in plain words"
    assert [0.5] == run.latencies(), "a fast refusal is no latency"


def test_throughput_runs_from_start_to_last_finish() -> None:
    """Throughput divides the answers by the time to the last of them, not by the time until the load was cleared up."""
    run = trace(request(finished=12.0), request(finished=14.0), request(error="no answer"), started=10.0, ended=99.0)

    assert 0.5 == run.throughput, "2 answers in 4 s"
    assert 0.0 == trace(request(error="no answer")).throughput, "no answer, no throughput"
    assert 0.0 == trace(request(finished=0.0)).throughput, "no time, no throughput to tell"
