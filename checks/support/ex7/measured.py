"""7.8: what GET /metrics says of the streams, between what the gate knows and what the reader saw."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from checks.harness.assertions.answers import content, is_number
from checks.harness.assertions.server_timing import ROUNDING
from checks.harness.cell.decoder_probe import DecoderProbe
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure, cut
from checks.harness.load.trace import MS
from checks.harness.report.evidence import Show
from checks.harness.syntax import recorded_since, tree_of
from checks.support.ex7.leaving import LISTEN, WAYS
from checks.support.ex7.slots import REFUSED
from checks.support.ex7.slow_reader import reads_until
from checks.support.ex7.streams import Reader, Service, Streams
from checks.support.ex7.wire import AN_ERROR

QUEUED, PREFILL, GAP = 0.05, 0.03, 0.02
"""Seconds at least of waiting for a slot, of the prefill and between tokens: what a wrong time leaves out."""
ENDS = ("finished", "left", "failed", "refused")
KEYS = ("count", "min_ms", "avg_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms")
RECORDS = {
    "ttft": "Record it where the first token is handed to `send`: some streams never finish.",
    "tpot": "Once a stream, where it has finished: `if tokens > 1`.",
}
ONCE = (
    "Each stream ends once: finished, left, failed or refused. Count it as left if its reader has left before the last "
    "event was sent."
)
SENT = (
    "What is decoded is not sent yet. A stream has finished, and has a TPOT, where its last event is handed to `send`: "
    "record both there, and not in the task that decodes."
)
FAILED = "Where you send the `error` event, count the stream as failed, not as finished. Count it once."
WAITING = (
    "A stream that ends while it waits in `acquire` has left, too. Count it in a `finally` (or with `except "
    "asyncio.CancelledError:` and `raise`) around everything, also around `acquire`."
)
READ, UNSENT = 2, 24
"""Tokens that a slow reader has, and of how many."""
WHERE = '`GET /metrics`: `... | {"streams": request.app.state.streams.report()}`.'


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds between which a latency lies."""

    least: float
    most: float


def report(streams: Streams, where: Callable[[], str | None]) -> dict[str, Any]:
    """What GET /metrics has of the streams, in the form that it must have; `where` gives the line that makes it."""
    told = content(streams.app.get("/metrics").answer()).get("streams")
    seen = f"in GET /metrics `streams` is a {type(told).__name__}: {cut(str(told))}"
    assert isinstance(told, dict), Failure(
        "GET /metrics has no `streams`" if told is None else seen, "an object with ttft, tpot and ends", WHERE
    )
    for name in ("ttft", "tpot"):
        one = told.get(name)
        missing = [key for key in KEYS if not isinstance(one, dict) or key not in one]
        assert not missing, Failure(
            f"GET /metrics has {name} {one!r}",
            "a summary, as in exercise 2",
            "`LatencyWindow(window).summary()`.",
            where(),
        )
    ends = told.get("ends")
    assert isinstance(ends, dict) and set(ends) == set(ENDS), Failure(  # noqa: PT018
        f"GET /metrics has ends {ends!r}",
        f"a number for each of {', '.join(ENDS)}",
        "All four from the first request on, and 0 for what has not happened.",
        where(),
    )
    return told


def _raise_of_a_stub(streaming: Any) -> None:
    """Raise what the stub of `StreamMetrics.report` raises. What is wrong with one that is none shows elsewhere."""
    try:
        streaming.StreamMetrics(1).report()
    except NotImplementedError:
        raise
    except Exception:
        return


def _asks(probe: DecoderProbe, reader: Reader) -> bool:
    return any(call.asks for call in probe.of(reader.prompt))


def _has(reader: Reader, tokens: int) -> bool:
    return len(reader.tokens) >= tokens


def _numbers(ends: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {ends[name]!r}" for name in names)


def _when(way: str) -> str:
    return f"after {way[0].lower()}{way[1:]}"


class Measured:
    """One slot, and windows of one sample: a summary is of the last stream alone."""

    def __init__(self, service: Service, rng: random.Random, streaming: Any) -> None:
        """`streaming` is the learner's module: `StreamMetrics.report` may be a stub there."""
        self.rng, self.streams = rng, Streams(service, rng, slots=1, latency_window=1)
        self._streaming = streaming
        if content(self.streams.app.get("/metrics").answer()).get("streams") is None:
            _raise_of_a_stub(streaming)
        self.first, self.several = 0, 0
        self.ends = dict.fromkeys(ENDS, 0)
        self.rows: list[tuple[Any, ...]] = []

    def a_stream(self, tokens: int, *, waits: bool) -> None:
        """One of so many tokens, which waits for the slot first or not; then the report is compared."""
        streams, probe, app = self.streams, self.streams.probe, self.streams.app
        before = streams.begin(1) if waits else None
        if before:
            streams.asking(before)
        wanted = len(probe.wanted)
        reader = streams.begin(tokens)
        asked = streams.asks_for_a_slot(reader, wanted)
        if before:
            time.sleep(QUEUED)  # this is the stream before
            streams.let(before)
            self._one_more("finished", 1)
        streams.asking(reader)
        came: list[float] = []
        for number in range(tokens):
            time.sleep(PREFILL if not number else GAP * self.rng.randint(1, 3))  # this is the decoder's work
            streams.let(reader)
            app.settle()
            came.append(time.perf_counter())
        streams.end(reader)
        self._one_more("finished", tokens)
        let_out = probe.of(reader.prompt)[0].let_out
        told = self._report()
        ttft = Span(let_out[0] - asked, came[0] - reader.pending.sent)
        self._lies_within("ttft", told["ttft"], ttft, tokens)
        self._counted(told, f"after a stream of {tokens} tokens")
        if tokens > 1:
            tpot = Span((let_out[-1] - came[0]) / (tokens - 1), (came[-1] - let_out[0]) / (tokens - 1))
            self._lies_within("tpot", told["tpot"], tpot, tokens)
        self.rows.append(
            (tokens, "yes" if waits else "no", f"{ttft.least * MS:.1f} to {ttft.most * MS:.1f}", told["ttft"]["p50_ms"])
        )

    def other_ends(self, service: Service) -> None:
        """Who leaves and whose decoder fails is counted as that, and no TPOT is taken of them.

        In an app of its own, with a slot for each: one that is lost is another mistake.
        """
        ways = ("left", "failed", "left", "failed")
        streams = self._afresh(service, len(ways))
        for number, how in enumerate(ways):
            reader = streams.begin()
            tokens = self.rng.choice((1, 3)) if number < 2 else 0
            for _ in range(tokens):
                streams.let(reader)
            asking = streams.asking(reader)
            reader.pending.leave() if how == "left" else streams.probe.fail(asking, "out of memory")
            streams.ended(reader)
            assert reader.done, Failure(
                f"a stream of {tokens} tokens does not end, when "
                + ("its reader has left" if how == "left" else "its decoder has failed"),
                f"it ends, and {how!r} is one more",
                LISTEN if how == "left" else AN_ERROR,
                (streams.where_listening if how == "left" else None) or streams.where_acquired,
            )
            streams.app.settle()
            self._one_more(how, tokens)
            word = "its reader had left" if how == "left" else "its decoder had failed"
            hint, where = self._of_an_end(how, reader)
            self._counted(self._report(), f"after a stream of {tokens} tokens, when {word}", hint, where)

    def left_unsent(self, service: Service) -> None:
        """All tokens are decoded, and most are not sent when the reader leaves, or the server cancels the request."""
        for way, leave in WAYS.items():
            streams = self._afresh(service, slots=2)
            probe, taken = streams.probe, Probe()
            reader = streams.begin(UNSENT, taken=taken)
            asks = partial(_asks, probe, reader)
            for number in range(READ):
                reads_until(streams, taken, asks)
                streams.let_out(reader)
                reads_until(streams, taken, partial(_has, reader, number + 1))
            if len(reader.tokens) < READ:
                continue  # 7.4 judges that
            while len(reader.let_out) < UNSENT and streams.until(asks):
                streams.let_out(reader)
            streams.app.settle()
            leave(reader)
            streams.over(reader)
            streams.app.settle()
            self._one_more("left", READ)
            when = f"{_when(way)} with {READ} of {UNSENT} tokens sent, after {len(reader.let_out)} had been decoded"
            self._counted(self._report(), when, SENT, partial(streams.where_counted, "finished"))

    def left_waiting(self, service: Service) -> None:
        """A reader leaves, or the server cancels the request, while the stream waits for a slot."""
        for way, leave in WAYS.items():
            streams = self._afresh(service, slots=1)
            holds = streams.begin()
            streams.asking(holds)
            before = len(streams.probe.wanted)
            waits = streams.begin()
            streams.asks_for_a_slot(waits, before)
            leave(waits)
            streams.over(waits)  # or, where it looks only then, when its slot has come
            streams.let(holds)
            streams.end(holds)
            streams.over(waits)
            streams.app.settle()
            if streams.probe.of(waits.prompt):
                continue  # 7.5 judges that
            self._one_more("finished", 1)
            self._one_more("left", 0)
            when = f"{_when(way)} while its stream waited for a slot"
            self._counted(self._report(), when, WAITING, lambda streams=streams: streams.where_serving)  # type: ignore[misc]

    def _afresh(self, service: Service, slots: int) -> Streams:
        """An app that has counted nothing: a slot that is lost in another one is another mistake."""
        self.streams = Streams(service, self.rng, slots, latency_window=1)
        self.first, self.several, self.ends = 0, 0, dict.fromkeys(ENDS, 0)
        return self.streams

    def refusals(self, service: Service) -> None:
        """Who is refused is counted as that, in an app of its own. Whether the right ones are is judged by 7.7."""
        streams = Streams(service, self.rng, slots=1, queue=0, latency_window=1)
        holds = streams.begin()
        streams.asking(holds)
        late = [streams.begin() for _ in range(2)]
        streams.until(lambda: all(one.done for one in late))
        refused = sum(one.done for one in late)
        streams.end(holds)
        for one in late:
            if not one.done:
                streams.end(one)
        self.streams = streams
        ends = self._report()["ends"]
        wanted = {"finished": 3 - refused, "left": 0, "failed": 0, "refused": refused}
        other = [name for name in ENDS if ends[name] != wanted[name]]
        sent = (streams.where_sent(one, "head") for one in late if one.pending.status == REFUSED)
        assert not other, Failure(
            f"of 3 streams {3 - refused} finished, and {refused} got a 503; GET /metrics says {_numbers(ends, other)}",
            _numbers(wanted, other),
            "Each stream ends once. Count one as refused where its 503 is sent.",
            next(filter(None, sent), None) or streams.where_acquired,
        )

    def _report(self) -> dict[str, Any]:
        return report(self.streams, self._reported_at)

    def _reported_at(self) -> str | None:
        """Where `StreamMetrics.report` is."""
        method = getattr(getattr(self._streaming, "StreamMetrics", None), "report", None)
        return self.streams.lines.where_defined(method) if method else None

    def _of_an_end(self, how: str, reader: Reader) -> tuple[str, Callable[[], str | None]]:
        """What mends a count that is wrong after such an end, and where."""
        if how == "failed":
            return FAILED, partial(self.streams.where_made, reader, len(reader.events) - 1)
        return ONCE, partial(self.streams.where_counted, "finished")

    def _one_more(self, how: str, tokens: int) -> None:
        self.first += tokens > 0
        self.several += how == "finished" and tokens > 1
        self.ends[how] += 1

    def _counted(
        self, told: dict[str, Any], when: str, hint: str = ONCE, where: Callable[[], str | None] = lambda: None
    ) -> None:
        ends = told["ends"]
        other = [name for name in ENDS if ends[name] != self.ends[name]]
        assert not other, Failure(
            f"GET /metrics says {_numbers(ends, other)} {when}",
            _numbers(self.ends, other),
            hint,
            where() or self.streams.where_decoded,
        )
        for name, count, of in (
            ("ttft", self.first, "all streams with a first token, however they ended"),
            ("tpot", self.several, "the streams that finished with two tokens or more"),
        ):
            got = told[name]["count"]
            assert got == count, Failure(
                f"GET /metrics counts {got} {name} {when}",
                f"{count}: {of}",
                RECORDS[name],
                self._where_recorded(name),
            )

    def _lies_within(self, name: str, told: dict[str, Any], span: Span, tokens: int) -> None:
        got = told["p50_ms"]
        rounding = ROUNDING
        got_early = name == "ttft" and is_number(got) and got < span.least * MS
        right = is_number(got) and span.least * MS - rounding <= got <= span.most * MS + rounding
        assert right, Failure(
            f"GET /metrics reports {name} {got!r} ms for a stream of {tokens} tokens",
            f"{span.least * MS:.1f} to {span.most * MS:.1f} ms: between what the decoder did and what the reader saw",
            self._hint(name, got, span, tokens),
            (self._where_begun(name) if got_early else None) or self._where_recorded(name),
        )

    def _where_recorded(self, name: str) -> str | None:
        return self.streams.where_written(f"{name}.record") or self.streams.where_decoded

    def _where_begun(self, name: str) -> str | None:
        """Where the time is taken last that the record of a latency begins with."""
        path = self.streams.lines.tree / "lab" / "streaming.py"
        line = recorded_since(tree_of(str(path)), name)
        return self.streams.lines.where_line(path, line) if line else None

    @staticmethod
    def _hint(name: str, got: Any, span: Span, tokens: int) -> str:
        if not is_number(got):
            return "There is no number. Call `window.record(seconds)` at the first token."
        if span.least * MS - ROUNDING <= got / MS <= span.most * MS + ROUNDING:
            return "`record` takes seconds, and the summary has ms."
        if name == "ttft" and got < span.least * MS:
            return "TTFT begins with the handler, not with the slot: the wait for a slot is a part of it."
        if name == "ttft":
            return "TTFT ends when the *first* token is handed to `send`: record it there, once."
        if tokens > 1 and span.least * (tokens - 1) / tokens * MS <= got <= span.most * (tokens - 1) / tokens * MS:
            return "Between n tokens there are n - 1 gaps: divide by tokens - 1."
        return "(last token - first token) / (tokens - 1), once a stream, when it has finished."

    def show(self, show: Show) -> None:
        """The streams, and what was said of them."""
        columns = ("tokens", "waited for a slot", "TTFT between, ms", "reported, ms")
        show.table("time to first token, one slot", columns, self.rows)
        show.number(f"{len(self.rows)} streams, each between its limits", len(self.rows))
