"""The sandwich: what the model took <= what the service recorded <= what the client saw, for each single request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.harness.cell.inprocess import Pending
from checks.harness.cell.probe import Call, Probe
from checks.harness.load.trace import MS
from checks.harness.report.evidence import Show, Timeline, timeline

if TYPE_CHECKING:
    import httpx

ROUNDING = 0.1
"""ms by which a number with one decimal may be off, and a little more."""
SHOWN = 4


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


def server_timing(answer: httpx.Response) -> float:
    """The ms that an answer's `Server-Timing` says for the whole app."""
    what = f"the answer {answer.status_code} to {answer.request.method} {answer.request.url.path}"
    header = answer.headers.get("server-timing")
    assert header, (
        f"{what} has no Server-Timing\nwanted: `Server-Timing: app;dur=12.3` on every answer\n"
        "try: create_app adds the middleware, `app.add_middleware(TimingMiddleware, ...)`, and that gives the app "
        "a `send` of its own, which appends the header."
    )
    decimals = re.search(r"""\bapp\b[^,]*?dur\s*=\s*"?-?\d+\.\d+(?![\de])""", header)
    assert decimals, f"Server-Timing of {what} is {header!r}\nwanted: app;dur=12.3, in ms with at least one decimal"
    return durations(header)["app"]


def sandwiches(probe: Probe, asked: Iterable[tuple[Sequence[float], Pending]]) -> list[Sandwich]:
    """Each question's request with the model's call for it, in the order in which they reached the model."""
    found = []
    for question, request in asked:
        recorded = server_timing(request.answer())
        model = next((call for call in probe.calls if call.features == tuple(question)), None)
        assert model is not None, "the model was never asked\nwanted: a prediction route that asks it: see 1.2"
        assert model.left is not None
        assert request.finished is not None
        took, client = (model.left - model.entered) * MS, (request.finished - request.sent) * MS
        found.append(Sandwich(model, request, took, recorded, client))
    return sorted(found, key=lambda sandwich: sandwich.model.entered)


def judge(show: Show, how: str, found: Sequence[Sandwich]) -> None:
    """Every one of them holds; if not, the broken ones are shown first."""
    broken = [one for one in found if not one.holds]
    shown = [*broken, *(one for one in found if one.holds)][:SHOWN]
    rows = [
        (number, *(f"{ms:.1f}" for ms in (one.took, one.recorded, one.client)), "" if one.holds else "<- broken")
        for number, one in enumerate(shown, 1)
    ]
    columns = ("request", "model", "Server-Timing", "client", "")
    show.table(f"model <= Server-Timing <= client? {how}, in ms", columns, rows)
    for one in broken[:1]:
        raise AssertionError(
            f"{how}: Server-Timing says {one.recorded:.1f} ms of a request that was in the model for {one.took:.1f} ms "
            f"and whose client waited {one.client:.1f} ms\n"
            f"wanted: model <= recorded <= client\ntry: {_hint(one, len(found))}"
        )


def _hint(broken: Sandwich, requests: int) -> str:
    if broken.recorded * MS <= broken.client + ROUNDING and broken.recorded < broken.took / 500:
        return "That looks like seconds: Server-Timing counts in milliseconds, times 1000."
    if broken.recorded > broken.client:
        return "Take the start when the request comes in: the recorded time began before there was a request."
    if requests < SHOWN + 1:
        return "`time.perf_counter()` around `await self.app(...)`; process_time counts computing only, not waiting."
    return "Keep the start in a local variable: what is kept on the middleware belongs to whoever came last."


def staircase(found: Sequence[Sandwich], title: str) -> Timeline:
    """The picture of requests that wait for a thread and then work."""
    rows = [("", one.request.sent, one.model.entered, one.request.finished or one.request.sent) for one in found]
    return timeline(rows, title)
