"""The pictures of a run: what the page and the export draw of its rows and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from checks.harness.load.streams import Stream
from checks.harness.load.trace import MS, REFUSED
from checks.harness.report.batches import AtRate, BatchTimeline, batch_timeline, together
from checks.harness.report.evidence import Evidence, Histogram, timeline
from checks.harness.report.token_timeline import OfferedStreams, TokenGoodput, TokenTimeline, token_timeline
from lab_guide.bench.answers import Row
from lab_guide.bench.batches import law_picture
from lab_guide.bench.plan import LEAST, Plan

_EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)
_HISTOGRAM = TypeAdapter(Histogram)


def pictures(plan: Plan, rows: Sequence[Row], measured: dict[str, Any]) -> list[Evidence]:
    """All of a run's pictures, the first of which has a row for each request."""
    found: list[Evidence] = []
    if plan.kind == "stream":
        if points := measured.get("points"):
            found.append(_goodput(plan, points))
        if rows:
            found.append(_tokens(rows))
    elif plan.kind == "batch" and (points := measured.get("points")):
        found.append(law_picture(plan, [AtRate(**point) for point in points]))
    elif answered := [row for row in rows if row[2] == 200]:
        found.append(_batches(plan, answered, measured) if plan.kind == "batch" else _answered(plan, answered))
    if measured.get("histogram", {}).get("count"):
        found.append(_HISTOGRAM.validate_python(measured["histogram"]))
    return found


def as_json(evidence: Evidence) -> dict[str, Any]:
    """A picture as the page gets it."""
    told: dict[str, Any] = _EVIDENCE.dump_python(evidence, by_alias=True)
    return told


def _answered(plan: Plan, rows: Sequence[Row]) -> Evidence:
    """The model's time cannot be seen from outside: it is drawn at the end of each answer."""
    model = plan.inference_seconds
    spans: list[tuple[str, float, float | None, float]] = [
        ("", due / MS, max(due / MS, end / MS - model), end / MS) for due, end, _ in rows
    ]
    return timeline(spans, "Answered requests", note="the model's time is drawn at the end of each")


def _batches(plan: Plan, rows: Sequence[Row], measured: dict[str, Any]) -> BatchTimeline:
    """Who travelled together is known by the ends: calls are at least half of the model's base apart."""
    requests = [(due / MS, end / MS) for due, end, *_ in rows]
    found = together(requests, max(plan.batch_base_seconds / 2, LEAST), plan.max_batch)
    sizes = Counter(str(len(batch)) for batch in found)
    note = "Requests whose answers came together were in one batch"
    if (told := measured.get("sizes")) is not None:
        note += ", as /metrics counts them" if sizes == told else f"; /metrics counts {sum(told.values())}"
    return batch_timeline(found, plan.call_seconds, "Batches: which requests were together", f"{note}.")


def _tokens(rows: Sequence[Row]) -> TokenTimeline:
    return token_timeline([*map(stream_of_row, rows)], "Streams, token by token")


def stream_of_row(row: Row) -> Stream:
    """A kept row, as the stream that it was made of."""
    due, end, status, *tokens = (number / MS for number in row)
    code = round(status * MS)
    error = None if code == 200 else "refused" if code in REFUSED else "failed"
    return Stream(due, tuple(tokens), None if error else end, end, code, error)


def _goodput(plan: Plan, points: Sequence[dict[str, Any]]) -> TokenGoodput:
    title = f"Goodput over the offered load: TTFT within {plan.ttft_ms:g} ms and TPOT within {plan.tpot_ms:g} ms"
    return TokenGoodput(
        title, [OfferedStreams(**point) for point in points], round(plan.capacity, 3), plan.ttft_ms, plan.tpot_ms
    )
