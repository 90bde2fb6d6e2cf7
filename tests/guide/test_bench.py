"""The bench: no measurement without a prediction, a real one of a real service, and each way in which none comes."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from checks.harness import machine
from checks.harness.load.percentiles import percentile
from checks.harness.load.trace import Request, Trace
from checks.harness.report.results import Run
from lab_guide.bench import answers, measure
from lab_guide.bench.kept import Bench, Record
from lab_guide.bench.plan import Plan
from lab_guide.bench.quantities import Predicted, error_percent
from lab_guide.export import html
from lab_guide.state import Guide, Selection
from tests.guide.conftest import to_the_end

BURST: dict[str, Any] = {"path": "/predict/blocking", "load": "burst", "connections": 8, "inference_seconds": 0.05}
GUESS: dict[str, Any] = {"last_s": 0.4}
RUN = Run("it", "0" * 12, 1, "2026-01-01T10:00:00+00:00", {}, [])


@pytest.mark.parametrize(
    "predicted",
    [{}, {"last_s": None}, {"p95_ms": 100}, {"last_s": -1}, {"last_s": "soon"}, {"refused_per_second": 3}, {"x": 1}],
)
async def test_nothing_is_measured_without_a_prediction(
    page: httpx.AsyncClient, guide: Guide, predicted: dict[str, Any]
) -> None:
    """A burst needs a guess of what is asked about bursts; nothing is written and nothing starts."""
    answer = await page.post("/bench", json={"plan": BURST, "predicted": predicted})

    assert 422 == answer.status_code
    assert [] == (await page.get("/bench")).json()
    assert guide.state()["bench"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/health"},
        {"path": "/predict/../../x"},
        {"load": "x"},
        {"connections": 0},
        {"connections": 501},
        {"rate": 0},
        {"seconds": 61},
        {"workers": 9},
        {"inference_seconds": 6},
        {"command": "x"},
    ],
)
async def test_only_what_is_in_the_lists_is_measured(page: httpx.AsyncClient, change: dict[str, Any]) -> None:
    """Paths and loads are looked up, numbers have limits, and no other field is taken."""
    answer = await page.post("/bench", json={"plan": BURST | change, "predicted": GUESS})

    assert 422 == answer.status_code


async def test_the_prediction_is_kept_before_a_stub_is_found(page: httpx.AsyncClient, guide: Guide) -> None:
    """The file is there before any process is; a stub ends it with the stub's words and line, and no numbers."""
    assert 202 == (await page.post("/bench", json={"plan": BURST, "predicted": GUESS})).status_code
    written = guide.bench.read(guide.bench.briefs()[-1]["name"])
    ended = await to_the_end(guide)

    assert written is not None
    assert ("written", 0.4, None) == (written.state, written.predicted.last_s, written.measured)
    assert ("stub", 0.4, None) == (ended.state, ended.predicted.last_s, ended.measured)
    assert "1.1: create_app" in ended.said
    assert (ended.where or "").startswith("lab/service.py:")
    kept = json.loads((guide.place.folder / "bench" / f"{ended.name}.json").read_text())
    assert "lab-bench/v1" == kept["schema"]


def test_an_error_is_in_percent_of_what_was_measured() -> None:
    """Below 0 the prediction was too low; of nothing there is no percentage."""
    assert -50 == error_percent(0.1, 0.2)
    assert 100 == error_percent(2, 1)
    assert error_percent(1, 0) is None


def test_a_sentence_is_kept_and_a_broken_file_is_none(tmp_path: Path) -> None:
    """What a learner writes of a run is in its file; what cannot be read is left out of the list."""
    bench = Bench(tmp_path)
    first, second = (bench.write_down(Plan(**BURST), Predicted(**GUESS)) for _ in range(2))
    bench.explain(first.name, "They wait in line.")
    (tmp_path / "bench" / f"{second.name}.json").write_text("{")
    again = Bench(tmp_path)

    assert first.name != second.name
    assert ["They wait in line."] == [brief["explained"] for brief in again.briefs()]
    assert again.read("../token") is None
    assert again.explain("20200101T000000", "x") is None


def test_a_late_tail_does_not_lower_the_rate() -> None:
    """Four workers give 40/s for 5 s, then one of them works off what is left; refusals are counted in the same way."""
    times = [n / 40 for n in range(1, 201)] + [5 + n / 10 for n in range(1, 90)]
    requests = tuple(Request(0.0, 0.0, at, status, None, 0) for status in (200, 503) for at in times)
    measured = answers.counted(Trace(requests, 0.0, 14.0), 5.0)["measured"]

    assert (40.0, 40.0) == (measured["per_second"], measured["refused_per_second"])
    assert 13.9 == measured["last_s"]


def test_a_round_that_ends_after_the_load_is_counted() -> None:
    """Ten users with answers of 2 s make 5/s, also where the load ends in the middle of a round."""
    assert 5.0 == answers.rate([at for at in (2.0, 4.0, 6.0) for _ in range(10)], 5.0)
    assert (2.0, 0.0) == (answers.rate([0.5, 1.0], 0.0), answers.rate([], 5.0))


async def test_a_busy_machine_is_in_the_run_and_in_the_journal(page: httpx.AsyncClient, guide: Guide) -> None:
    """The field that is filled in by such a run says so, and so does the export."""
    field = next(f for f in guide.fields.values() if f.plan and f.quantity == "last_s")
    assert field.plan is not None
    guide.journal.predict(field, "0.1")
    record = guide.bench.write_down(field.plan, Predicted(last_s=0.1), field.id)
    record.state, record.measured = "measured", {"last_s": 0.3}
    record.machine = {"cores": 2, "load": 15.0, "busy": "load 15 on 2 cores"}
    guide.bench.keep(record)

    async def finish() -> Record:
        return record

    await guide._measure(SimpleNamespace(finish=finish))  # type: ignore[arg-type]
    written = html(RUN, guide.bench.records(), guide.journal)

    assert "load 15 on 2 cores" == guide.journal.entries[field.id].busy
    assert "0.3 (the machine was busy: load 15 on 2 cores)" in written
    assert "This machine was busy: load 15 on 2 cores." in written


def test_a_clock_on_a_busy_machine_has_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads wait for a core the words say how many; on a quiet machine there are none."""
    said = []
    for crowded in (1.0, 7.5):
        monkeypatch.setattr(machine, "crowding", lambda crowded=crowded: crowded)
        monkeypatch.setattr(measure, "load", lambda: 0.0)
        clock = machine.FairClock()
        time.sleep(0.01)
        said.append(measure.busy(clock))

    assert ["", machine.load_in_words(7.5 * machine.CORES)] == said


# -- for real --------------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
async def test_a_blocking_endpoint_is_measured(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """Eight calls of 0.05 s, one at a time: the last one is answered after 0.4 s or more; all is told as it comes."""
    stream = guide.events()
    await anext(stream)
    await page.post("/bench", json={"plan": BURST, "predicted": GUESS})
    told: list[tuple[str, dict[str, Any]]] = []
    while not told or told[-1][0] != "measured":
        told.append(await anext(stream))
    record = await to_the_end(guide)
    measured, ends = record.measured, sorted(row[1] for row in record.rows)

    assert measured is not None
    assert "measured" == record.state, record.said
    assert (8, 8, 0, {}) == tuple(measured[name] for name in ("requests", "answered", "refused", "failed"))
    assert measured["last_s"] >= 0.4
    assert measured["p95_ms"] == pytest.approx(percentile([row[1] - row[0] for row in record.rows], 95), abs=0.1)
    assert all(end >= 50 * n for n, end in enumerate(ends, 1)), "one at a time"
    assert 8 == sum(bucket["count"] for bucket in measured["histogram"]["buckets"])
    phases = [data["phase"] for name, data in told if name == "bench" and "phase" in data]
    assert ["starting", "starting", "measuring"] == phases
    assert any(data.get("rows") for name, data in told if name == "bench")
    assert record.brief == told[-1][1]
    assert record.whole == (await page.get(f"/bench/{record.name}")).json()


@pytest.mark.exhaustive
async def test_admission_is_lifted_unless_the_form_sets_it(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """Forty at once, where 8 may be inside and 16 wait by default: none is refused; with limits of 1 most are."""
    plan = BURST | {"path": "/predict", "connections": 40}
    refused = []
    for limits in ({}, {"max_in_flight": 1, "max_queue": 1}):
        await page.post("/bench", json={"plan": plan | limits, "predicted": GUESS})
        measured = (await to_the_end(guide)).measured
        assert measured is not None
        assert 40 == measured["answered"] + measured["refused"]
        refused.append(measured["refused"])

    assert 0 == refused[0]
    assert refused[1] >= 20


@pytest.mark.exhaustive
async def test_a_run_and_a_measurement_wait_for_each_other(page: httpx.AsyncClient, guide: Guide, solved: Path) -> None:
    """While one goes on the other is refused with 409; a save waits; a stop keeps what was answered until then."""
    live = asyncio.create_task(guide.live())
    stream = guide.events()
    await anext(stream)
    plan = BURST | {"load": "closed", "seconds": 60}
    await page.post("/bench", json={"plan": plan, "predicted": {"per_second": 20}})
    while not (guide.state()["bench"] or {}).get("answered"):
        await anext(stream)
    refused = await page.post("/run", json={"exercise": 1, "only": ["1.8"]})
    again = await page.post("/bench", json={"plan": BURST, "predicted": GUESS})
    await guide.run(Selection(1, ("1.8",)))  # as a save does
    waiting = (guide.running, len(guide._wanted))
    await page.post("/bench/stop", json={})
    while (await anext(stream))[0] != "running":
        pass
    during = await page.post("/bench", json={"plan": BURST, "predicted": GUESS})
    while (told := await anext(stream))[0] != "ended":
        pass
    live.cancel()
    await asyncio.gather(live, return_exceptions=True)
    record = guide.bench.read(guide.bench.briefs()[-1]["name"])

    assert (409, 409, 409) == (refused.status_code, again.status_code, during.status_code)
    assert "A measurement is running" in refused.text
    assert (None, 1) == waiting
    assert 0 == told[1]["exit_code"]
    assert record is not None
    assert "stopped" == record.state
    assert record.rows


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("before", "after", "state", "said", "where"),
    [
        ("settings = settings or Settings()", "settings = settings or Setings()", "no_start", "Setings", "create_app"),
        ("answer = model.predict_blocking(body.features)", "answer = 1 / 0", "no_answer", "status 500", "in predict"),
        (
            "answer = model.predict_blocking(body.features)",
            "answer = model.predict_blocking(body.features)\n    model.seen = getattr(model, 'seen', 0) + 1\n"
            "    if model.seen == 4:\n        os._exit(7)",
            "crashed",
            "ended with exit code 7",
            "",
        ),
    ],
    ids=["it does not start", "it answers nothing", "it ends in the middle"],
)
async def test_what_cannot_be_measured_has_its_words(
    page: httpx.AsyncClient, guide: Guide, solved: Path, before: str, after: str, state: str, said: str, where: str
) -> None:
    """A service that does not start, answers nothing or ends: each has its state, its reason and, if any, its line."""
    text = (solved / "lab/service.py").read_text()
    assert before in text
    (solved / "lab/service.py").write_text(text.replace(before, after))
    await page.post("/bench", json={"plan": BURST, "predicted": GUESS})
    record = await to_the_end(guide)

    assert state == record.state, record.said
    assert said in record.said
    assert where in (record.where or "")
    assert (len(record.rows) > 0) == (state == "crashed")
