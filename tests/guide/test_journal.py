"""The journal: fields of the lessons' tables, a prediction before each measurement, and the export of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from checks.harness.report.evidence import histogram, timeline
from checks.harness.report.results import Checkpoint, Exercise, Run, write
from lab_guide import ROOT, history
from lab_guide.bench.kept import Bench
from lab_guide.bench.plan import Plan
from lab_guide.bench.quantities import Predicted
from lab_guide.export import everything
from lab_guide.fields import fields
from lab_guide.journal import Journal, TooEarly
from lab_guide.lessons import lesson
from lab_guide.state import Guide


@pytest.mark.parametrize(
    ("exercise", "count", "measured"),
    [(1, 12, 12), (2, 9, 3), (3, 21, 21), (4, 12, 9), (5, 12, 0), (6, 8, 8), (7, 13, 9)],
)
def test_the_fields_of_the_lessons(exercise: int, count: int, measured: int) -> None:
    """Every empty cell is a field, no cell of a table with results is, and the bench can fill in what it measures."""
    found = fields(exercise, lesson(ROOT, exercise))

    assert count == len(found) == len({field.id for field in found})
    assert measured == sum(field.plan is not None for field in found)
    assert all(field.row and field.column for field in found)
    assert all((field.plan is None) == bool(field.how) for field in found), "what the bench does not measure says why"


def test_a_field_has_its_plan() -> None:
    """Sixty requests at once to the thread pool: the field says what the bench does, and which number is wanted."""
    field = next(f for f in fields(1, lesson(ROOT, 1)) if (f.row, f.column[:8]) == ("requests: 60", "threaded"))

    assert "last_s" == field.quantity
    assert Plan(path="/predict/threaded", load="burst", connections=60) == field.plan


async def test_the_prediction_comes_before_the_measurement(page: httpx.AsyncClient, guide: Guide) -> None:
    """A measurement without a prediction is refused, and a prediction does not change once it was measured."""
    field = "1.0.0.1"
    early = await page.post("/journal", json=[{"field": field, "measured": "0.1"}])
    first = await page.post("/journal", json=[{"field": field, "predicted": "0.1 s"}])
    changed = await page.post("/journal", json=[{"field": field, "predicted": "0.2 s"}])
    measured = await page.post("/journal", json=[{"field": field, "measured": "0.11"}])
    late = await page.post("/journal", json=[{"field": field, "predicted": "0.11"}])
    unknown = await page.post("/journal", json=[{"field": "9.0.0.1", "predicted": "1"}])
    await page.post("/journal/explain", json={"exercise": 1, "text": "It is one wait."})
    told = (await page.get("/journal/1")).json()
    kept = json.loads((guide.place.folder / "journal.json").read_text())

    codes = [answer.status_code for answer in (early, first, changed, measured, late, unknown)]
    assert [409, 202, 202, 202, 409, 422] == codes
    assert "what you expect first" in early.text
    assert ("0.2 s", "0.11") == (told["entries"][field]["predicted"], told["entries"][field]["measured"])
    assert "It is one wait." == told["explained"]
    assert "lab-journal/v1" == kept["schema"]
    assert told["entries"] == kept["entries"]


async def test_a_measurement_fills_in_the_fields_of_its_plan(page: httpx.AsyncClient, guide: Guide) -> None:
    """One run of the bench gives throughput, mean and p95 of a row: what was predicted of them gets its number."""
    row = [f for f in guide.fields.values() if f.id.startswith("3.0.1.")]
    assert row[0].plan is not None
    wish = {"plan": row[0].plan.model_dump(), "predicted": {"per_second": 10, "p95_ms": 300}, "cell": row[0].id}
    assert 202 == (await page.post("/bench", json=wish)).status_code
    await guide.stop_measuring()
    predicted = guide.journal.of(3)["entries"]

    assert {row[0].id: "10", row[2].id: "300"} == {name: entry["predicted"] for name, entry in predicted.items()}


def test_a_broken_journal_is_set_aside(tmp_path: Path) -> None:
    """What cannot be read is kept beside the new journal, and never overwritten."""
    (tmp_path / "journal.json").write_text('{"schema": "lab-journal/v1", "entries": [')
    field = fields(1, lesson(ROOT, 1))[0]
    journal = Journal(tmp_path)
    with pytest.raises(TooEarly):
        journal.measure(field, "1")
    journal.predict(field, "1")

    assert 1 == len(list(tmp_path.glob("journal-*-unread.json")))
    assert "1" == Journal(tmp_path).entries[field.id].predicted


def run_of(verdict: Any, *, hash_: str = "0" * 12, number: str = "1.4", at: int = 0) -> Run:
    """A run of one checkpoint that shows a picture."""
    picture = timeline([("#1", 0.0, 0.1, 0.2)], f"one request, {verdict}")
    checkpoint = Checkpoint(number, "a title", 3, verdict=verdict, points=3 * (verdict == "passed"), evidence=[picture])
    exercise = Exercise(int(number[0]), "An exercise", "", [checkpoint])
    return Run("your own files", hash_, 1, f"2026-01-01T10:00:0{at}+00:00", {}, [exercise])


def test_the_export_has_the_whole(tmp_path: Path) -> None:
    """The newest results, pictures of what passed, tables and runs of the bench with the learner's sentences."""
    for at, run in enumerate((run_of("failed"), run_of("passed", at=1), run_of("passed", number="2.1", at=2))):
        write(run, tmp_path / "last-run.json")
        found = history.load(tmp_path / "last-run.json")
        assert found is not None, at
        history.keep(tmp_path, found, history.newest(tmp_path, found))
    bench, journal = Bench(tmp_path), Journal(tmp_path)
    record = bench.write_down(Plan(path="/predict", load="burst"), Predicted(last_s=0.2))
    record.state, record.explained, record.rows = "measured", "<b>No</b> thread waits.", [[0, 100, 200]]
    record.measured = {"last_s": 0.1, "histogram": _histogram()}
    bench.keep(record)
    streams = bench.write_down(Plan(path="/generate", load="open"), Predicted(goodput=8))
    streams.rows, streams.measured = [[0, 400, 200, 200, 210, 230], [60, 70, 503]], {"goodput": 4.0}
    bench.keep(streams)
    field = fields(1, lesson(ROOT, 1))[0]
    journal.predict(field, "0.1")
    journal.measure(field, "0.102")
    journal.explain(1, "One wait, for all.")
    written = everything(tmp_path / "last-run.json")

    assert "6 of 6 points" in written
    for said in (
        "one request, passed",
        "requests: 1",
        "0.102",
        "One wait, for all.",
        "100 % too high",
        "p95 100",
        "200 ms + 2 x 15.0",
    ):
        assert said in written, said
    assert "&lt;b&gt;No&lt;/b&gt; thread waits." in written
    assert "<script" not in written
    assert str(tmp_path) not in written


def _histogram() -> dict[str, Any]:
    shown = histogram([0.1], "Latency")
    buckets = [{"from": b.low, "to": b.high, "count": b.count} for b in shown.buckets]
    return {"title": "Latency", "buckets": buckets, "p50": 100.0, "p95": 100.0, "p99": 100.0, "count": 1}


def test_what_was_before_is_the_last_other_verdict(tmp_path: Path) -> None:
    """A checkpoint that passes keeps the picture of its last failure, over any number of runs that passed."""
    found = history.Newest()
    changes = []
    for at, verdict in enumerate(("failed", "passed", "passed")):
        write(run_of(verdict, at=at), tmp_path / "x.json")
        run = history.load(tmp_path / "x.json")
        assert run is not None
        changes.append([*found.take(run)])

    assert [[], ["1.4"], []] == changes
    assert ("failed", "passed") == (found.before["1.4"]["verdict"], found.results["1.4"]["verdict"])
