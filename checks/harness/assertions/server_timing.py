"""The sandwich: what the model took <= what the service recorded <= what the client saw, for each single request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from checks.harness.cell.inprocess import Pending
from checks.harness.cell.probe import Call, Probe
from checks.harness.errors import Failure
from checks.harness.load.trace import MS
from checks.harness.report.evidence import Show, Timeline, timeline

ROUNDING = 0.1
"""ms by which a number with one decimal may be off, and a little more."""
SHOWN = 4

HEADER_HINT = (
    "Give the app a `send` of your own. It appends the header to the message `http.response.start`, for every path and "
    "every status, and passes each message on."
)
DECIMALS_HINT = 'Seconds become ms with one decimal like this: `f"app;dur={seconds * 1000:.1f}"`.'
NAME_HINT = 'The entry of the whole request is called `app`: `f"app;dur={seconds * 1000:.1f}"`.'
UNIT_HINT = "`dur` is a number and nothing else: it is always in ms, and browsers do not accept a unit after it."
SECONDS_HINT = "The number is right in seconds. Server-Timing is in milliseconds: multiply by 1000."
START_HINT = (
    "Take the start in the first line of `__call__`, before `await self.app(...)`: here the start is earlier than "
    "the request, or was never set."
)
CLOCK_HINT = (
    "`time.perf_counter()` before `await self.app(...)`, and again at the response's start. `time.process_time()` "
    "counts computing only, not waiting."
)
LOCAL_HINT = (
    "Keep the start in a local variable of `__call__`. All requests share an attribute of the middleware, and the "
    "latest request overwrites it."
)


@dataclass(frozen=True, slots=True)
class Sandwich:
    """One request, all times in ms."""

    model: Call
    request: Pending
    took: float
    recorded: float
    client: float

    @property
    def holds(self) -> bool:
        """Whether the recorded time lies where it must."""
        return self.took - ROUNDING <= self.recorded <= self.client + ROUNDING


def durations(header: str) -> dict[str, float]:
    """The ms of each entry of a `Server-Timing`, whose form is `name;desc="words";dur=12.3, name;dur=1.0`."""
    parameter = r'\s*;\s*(?!dur)[\w-]+\s*=\s*(?:"[^"]*"|[^;,]*)'
    entries = re.findall(rf'([\w-]+)(?:{parameter})*\s*;\s*dur\s*=\s*"?(-?\d+(?:\.\d*)?)', header)
    return {name: float(ms) for name, ms in entries}


def server_timing(headers: Mapping[str, str], what: str, where: str | None = None) -> float:
    """The ms of the whole app in the `Server-Timing` of an answer, `what` in words. `where`: the line to change."""
    header = headers.get("server-timing")
    assert header, Failure(
        f"{what} has no Server-Timing",
        wanted="`Server-Timing: app;dur=12.3` on every answer",
        hint=HEADER_HINT,
        where=where,
    )
    decimals = re.search(r"""\bapp\b[^,]*?dur\s*=\s*"?-?\d+\.\d+(?!\w)""", header)
    assert decimals, Failure(
        f"Server-Timing of {what} is {header!r}",
        wanted="app;dur=12.3, in ms with at least one decimal",
        hint=_what_is_no_number(header),
        where=where,
    )
    return durations(header)["app"]


def _what_is_no_number(header: str) -> str:
    """The hint for a header without ms of the entry `app`."""
    if "app" not in durations(header):
        return NAME_HINT
    return UNIT_HINT if re.search(r"\bapp\b[^,]*?dur\s*=\s*-?[\d.]+\s*[a-z]", header) else DECIMALS_HINT


def no_longer_than_the_client(recorded: float, request: Pending, what: str) -> None:
    """A recorded time in ms is at most what the client waited, whatever was asked."""
    assert request.finished is not None
    client = (request.finished - request.sent) * MS
    assert 0 <= recorded <= client + ROUNDING, Failure(
        f"Server-Timing of {what} says {recorded:.1f} ms, and its client waited {client:.1f} ms",
        wanted="0 <= recorded <= client",
        hint=START_HINT,
    )


def sandwiches(probe: Probe, asked: Iterable[tuple[Sequence[float], Pending]]) -> list[Sandwich]:
    """Each question's request with the model's call for it, in the order in which they reached the model."""
    found = []
    for question, request in asked:
        answer = request.answer()
        recorded = server_timing(answer.headers, f"the answer {answer.status_code} to {request.asked}")
        model = next((call for call in probe.calls if call.features == tuple(question)), None)
        assert model is not None, Failure(
            f"{request.asked} was answered without a call of the model",
            wanted="a prediction route that calls the model with the features that came in: see 1.2",
        )
        assert model.left is not None
        assert request.finished is not None
        took, client = (model.left - model.entered) * MS, (request.finished - request.sent) * MS
        found.append(Sandwich(model, request, took, recorded, client))
    return sorted(found, key=lambda sandwich: sandwich.model.entered)


def judge(show: Show, how: str, found: Sequence[Sandwich], written: str | None = None) -> None:
    """Every one of them holds; if not, the broken ones are shown first. `written`: the line that makes the header."""
    broken = [one for one in found if not one.holds]
    shown = [*broken, *(one for one in found if one.holds)][:SHOWN]
    rows = [
        (number, *(f"{ms:.1f}" for ms in (one.took, one.recorded, one.client)), "" if one.holds else "<- broken")
        for number, one in enumerate(shown, 1)
    ]
    columns = ("request", "model", "Server-Timing", "client", "")
    show.table(f"model <= Server-Timing <= client? {how}, in ms", columns, rows)
    for one in broken[:1]:
        hint = _hint(one, len(found))
        raise AssertionError(
            Failure(
                f"{how}: Server-Timing says {one.recorded:.1f} ms of a request that was in the model for "
                f"{one.took:.1f} ms and whose client waited {one.client:.1f} ms",
                wanted="model <= recorded <= client",
                hint=hint,
                where=written if hint == SECONDS_HINT else None,
            )
        )


def _hint(broken: Sandwich, requests: int) -> str:
    if broken.took - ROUNDING <= broken.recorded * MS <= broken.client + ROUNDING * MS:
        return SECONDS_HINT
    if broken.recorded > broken.client:
        return START_HINT
    return CLOCK_HINT if requests < SHOWN + 1 else LOCAL_HINT


def staircase(found: Sequence[Sandwich], title: str) -> Timeline:
    """The picture of requests that wait for a thread and then work."""
    rows = [("", one.request.sent, one.model.entered, one.request.finished or one.request.sent) for one in found]
    return timeline(rows, title)
