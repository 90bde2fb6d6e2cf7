"""What a load of single answers came to: numbers, and a row for each request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from checks.harness.errors import printable
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import MS, REFUSED, Request, Trace
from checks.harness.report.evidence import Histogram, histogram
from checks.harness.report.spread import spread

KEPT_ROWS = 10_000

Row = list[float]
Told = dict[str, Any]

_HISTOGRAM = TypeAdapter(Histogram)
_REFUSALS = {f"status {status}" for status in REFUSED}


def counted(trace: Trace, window: float = 0.0) -> Told:
    """The numbers of a load that was offered for `window` seconds (0: all at once), and its rows."""
    kept = spread(trace.requests, KEPT_ROWS)
    return {
        "measured": numbers(trace, window),
        "rows": rows(kept, trace.started),
        "left_out": len(trace.requests) - len(kept),
    }


def rate(moments: Sequence[float], window: float) -> float:
    """Per second: while the load was offered, or until the last, whichever is more.

    The first leaves out a late tail: where one worker has more connections than others, only that one still answers.
    The second keeps the last round of users whose answers take a large part of the window.
    """
    within = sum(moment <= window for moment in moments) / window if window else 0.0
    last = max(moments, default=0.0)
    return round(max(within, len(moments) / last if last > 0 else 0.0), 2)


def numbers(trace: Trace, window: float = 0.0) -> Told:
    """What is compared with a prediction, in its units; None where there was no answer."""
    latencies = trace.latencies()
    finishes = [r.finished for r in trace.requests if r.finished is not None]
    seconds = max(finishes, default=trace.started) - trace.started
    kinds = Counter(map(how, trace.requests))

    def ms(q: float) -> float | None:
        return round(percentile(latencies, q) * MS, 3) if latencies else None

    answers = [r.finished for r in trace.answered if r.finished is not None]
    return {
        "requests": len(trace.requests),
        "answered": kinds["answered"],
        "refused": kinds["refused"],
        "failed": {printable(words): n for words, n in trace.errors.items() if words not in _REFUSALS},
        "seconds": round(seconds, 3),
        "last_s": round(max(answers) - trace.started, 4) if answers else None,
        "per_second": rate([moment - trace.started for moment in answers], window),
        "mean_ms": round(sum(latencies) / len(latencies) * MS, 3) if latencies else None,
        "p50_ms": ms(50),
        "p95_ms": ms(95),
        "p99_ms": ms(99),
        "refused_per_second": rate(
            [r.finished - trace.started for r in trace.requests if r.refused and r.finished is not None], window
        ),
        "lag_p99_ms": lag_p99_ms(trace),
        "histogram": drawn(latencies, "Latency"),
    }


def lag_p99_ms(trace: Trace) -> float | None:
    """How late the generator itself was, for one request of a hundred; None without a schedule."""
    return round(percentile(trace.lags, 99) * MS, 3) if trace.lags else None


def drawn(latencies: Sequence[float], title: str) -> Told:
    """A histogram as its JSON has it."""
    told: Told = _HISTOGRAM.dump_python(histogram(latencies, title), by_alias=True)
    return told


def rows(requests: Sequence[Request], started: float) -> list[Row]:
    """A row for each request: when it was due and when it had ended, in ms, and its status, 0 for none."""
    return [
        [
            round((r.scheduled - started) * MS, 2),
            round(((r.finished or r.gave_up or r.scheduled) - started) * MS, 2),
            (r.status or 0) if r.error is None else 0,
        ]
        for r in requests
    ]


def how(request: Request) -> str:
    """What became of a request."""
    if request.ok:
        return "answered"
    return "refused" if request.refused else "failed"
