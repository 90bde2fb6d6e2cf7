"""The learner's app in a cell: requests go in, answers come out, and the judge's own probe is its model."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import fmean

import pytest

from checks.harness.cell.decoder_probe import DecoderProbe
from checks.harness.cell.probe import Probe
from checks.harness.errors import CellEnded, LearnerError, NoAnswer
from checks.harness.grading.verdicts import outcome_of
from checks.harness.judge.app import App, Running
from checks.harness.judge.cell import FORGED
from tests.judge.conftest import Learner
from tests.judge.test_cheats import WRITE

SERVICE = """
import asyncio, os, threading, time
from typing import Any

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from lab.settings import Settings

router = APIRouter()


async def get_model(request: Request) -> Any:
    return request.app.state.model


@router.get("/health")
async def health() -> dict[str, int]:
    return {"pid": os.getpid()}


@router.post("/predict")
async def predict(features: list[float] = Body(embed=True), model: Any = Depends(get_model)) -> dict[str, Any]:
    return {"prediction": await model.predict(features)}


@router.post("/predict/threaded")
def threaded(features: list[float] = Body(embed=True), model: Any = Depends(get_model)) -> dict[str, Any]:
    return {"prediction": model.predict_blocking(features)}


@router.post("/predict/blocking")
async def blocking(features: list[float] = Body(embed=True), model: Any = Depends(get_model)) -> dict[str, Any]:
    return {"prediction": model.predict_blocking(features)}


@router.get("/never")
async def never() -> None:
    await asyncio.Event().wait()


@router.get("/later")
async def later() -> str:
    await asyncio.sleep(0.5)
    return "later"


@router.get("/sleeps")
async def sleeps() -> str:
    time.sleep(0.01)
    return "slept"


@router.get("/spins")
async def spins() -> None:
    while True:
        pass


@router.get("/crash")
async def crash() -> None:
    raise ValueError("no")


@router.get("/leave")
async def leave() -> None:
    os._exit(3)


@router.get("/exit")
async def leave_politely() -> None:
    raise SystemExit(3)


@router.get("/wrong")
async def wrong(model: Any = Depends(get_model)) -> Any:
    return await model.predict("ten")


class Mean:
    async def predict(self, features):
        return sum(features) / len(features)


def create_app(settings: Settings | None = None) -> FastAPI:
    app = FastAPI(title="Theirs")
    app.state.model = Mean()
    app.include_router(router)
    return app
"""


@pytest.fixture
def running(learner: Learner) -> Running:
    """Apps in a cell."""
    return learner.serves(SERVICE)


@pytest.fixture
def probe() -> Probe:
    """One that holds its calls."""
    return Probe()


@pytest.fixture
def app(running: Running, probe: Probe) -> App:
    """An app whose model is the probe."""
    return running.app(probe, {})


def asked(app: App, path: str, number: int) -> list[object]:
    """What so many requests with a question of their own are answered with."""
    return [app.post(path, {"features": [n, n + 2]}) for n in range(number)]


def test_an_answer_is_data_and_its_lines_are_named(app: App, learner: Learner) -> None:
    """Status, headers and body; the function that answered has its line."""
    health = app.get("/health")
    answer = health.answer()

    assert (200, {"pid": learner.process.pid}) == (answer.status_code, answer.json())
    assert "application/json" == answer.headers["content-type"]
    assert str(app.where_routed).startswith("lab/service.py:")
    assert "async def health() -> dict[str, int]:" in str(app.where_routed)
    assert 404 == app.get("/nowhere").answer().status_code
    assert "POST /predict" in [*map(str, app.routes)]


@pytest.mark.parametrize(("path", "inside"), [("/predict", 50), ("/predict/threaded", 40), ("/predict/blocking", 1)])
def test_the_judge_counts_who_is_in_the_model(app: App, probe: Probe, path: str, inside: int) -> None:
    """Calls wait until the judge lets them go; the wait ends when no more can come. Each answer is the probe's."""
    requests = [app.post(path, {"features": [n, n + 2]}) for n in range(50)]
    standstill = app.until(lambda: probe.inside == 50)
    together, threads = probe.inside, app.threads()
    probe.open()
    app.finish(requests, seconds=20)

    assert (inside, inside == 50) == (together, standstill is None)
    assert inside == probe.peak
    assert [probe.answer((n, n + 2)) for n in range(50)] == [one.answer().json()["prediction"] for one in requests]
    assert (threads >= 40) == (path == "/predict/threaded")


def test_one_call_goes_while_the_others_stay(app: App, probe: Probe) -> None:
    """In any order, and its request is answered."""
    requests = [app.post("/predict", {"features": [n]}) for n in range(3)]
    app.until(lambda: probe.inside == 3)
    call = probe.calls[1]
    probe.release(call)
    app.until(lambda: any(one.done for one in requests))

    assert [one.done for one in requests] == [call.features == (n,) for n in range(3)]
    assert 2 == probe.inside


def test_a_call_that_is_not_held_stays_for_its_time(running: Running) -> None:
    """By the judge's clock, which the request encloses."""
    probe = Probe(held=False, seconds=0.05)
    request = running.app(probe, {}).post("/predict", {"features": [1.0]})
    request.answer()
    call = probe.calls[0]
    left = call.left or 0.0

    assert request.sent <= call.entered <= left - 0.05
    assert left <= (request.finished or 0.0)


def test_their_own_model_comes_back(app: App, probe: Probe) -> None:
    """The probe is asked no more."""
    app.use_their_model()
    answer = app.post("/predict", {"features": [1.0, 2.0]}).answer().json()

    assert {"prediction": fmean([1.0, 2.0])} == answer
    assert not probe.calls


def test_what_is_no_list_of_numbers_is_the_learners_mistake(app: App, probe: Probe) -> None:
    """It counts as asked, and is no call."""
    with pytest.raises(LearnerError) as caught:
        app.get("/wrong").answer()

    assert "the model was given 'ten' (str)" == caught.value.failure.seen
    assert "lab/service.py" in str(app.lines.where_raised(caught.value.__traceback__))
    assert (1, []) == (probe.asked, probe.calls)


def test_what_an_app_raises_is_raised(app: App) -> None:
    """With its line, and where it ends the loop as well."""
    with pytest.raises(ValueError, match="no") as caught:
        app.get("/crash").answer()
    outcome = outcome_of(caught.value, app.lines)

    assert ("failed", "your code raised ValueError: no") == (outcome.verdict, outcome.failure.seen)
    assert "lab/service.py" in str(outcome.failure.where)
    with pytest.raises(LearnerError, match="your code ended the whole program: SystemExit"):
        app.get("/exit").answer()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/never", "was idle"), pytest.param("/spins", "kept computing", marks=pytest.mark.exhaustive)],
)
def test_an_answer_that_cannot_come_is_not_waited_for(app: App, path: str, words: str) -> None:
    """The line that it waits at is named."""
    with pytest.raises(NoAnswer, match=words) as caught:
        app.get(path).answer()

    assert "lab/service.py" in str(caught.value.where)


def test_an_answer_that_will_come_is_waited_for(app: App) -> None:
    """While a timer runs, all threads are asleep, and it is no standstill."""
    assert "later" == app.get("/later").answer().json()


def test_a_sleep_on_the_loop_is_told(app: App) -> None:
    """With its line, as soon as it begins."""
    request = app.get("/sleeps")
    app.until(app.where_slept)
    request.answer()

    assert "time.sleep(0.01)" in str(app.where_slept())


def test_the_end_of_the_cell_ends_the_wait(app: App) -> None:
    """However it comes."""
    with pytest.raises(CellEnded, match="exit code 3"):
        app.get("/leave").answer()


LIES = """
import types

def settled(*_, **__):
    return types.SimpleNamespace(kind="settled", busy=False)

for thing in object.__subclasses__():
    if thing.__name__ == "Watch":
        thing.until = settled
"""


def test_what_moves_is_not_at_a_standstill_whatever_the_cell_says(learner: Learner) -> None:
    """The kernel sees a thread run, and the request is answered in the end."""
    busy = "time.sleep(0.01)\n    " * 40
    running = learner.serves(LIES + SERVICE.replace("await asyncio.sleep(0.5)", busy))
    app = running.app(None, {})
    request = app.get("/later")

    assert app.until(lambda: request.done) is None
    assert "later" == request.answer().json()


def test_a_lie_about_a_standstill_costs_no_more_than_a_while(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that never rests is not waited for until the end."""
    monkeypatch.setattr("checks.harness.judge.app.UNPROVED", 0.5)
    app = learner.serves(LIES + SERVICE).app(None, {})
    request, started = app.get("/spins"), time.monotonic()
    standstill = app.until(lambda: request.done)

    assert standstill is not None
    assert "settled" == standstill.kind
    assert time.monotonic() - started >= 0.5


ENTER = {"event": "enter", "probe": 0, "call": 1, "features": [1.0], "wrong": None, "blocking": False, "on_loop": True}
ENTER |= {"thread": 1, "caller": ["a.py", 1, "f"]}
ENDED = {"event": "ended", "request": 0, "endpoint": None, "status": 200, "fields": [], "body": {"$": "b", "v": ""}}
HOSTILE = {
    "an unknown event": {"event": "passed"},
    "no event": {"verdict": "passed"},
    "a probe that there is not": ENTER | {"probe": 7},
    "a call without a number": ENTER | {"call": "1"},
    "features without a number": ENTER | {"features": ["1"]},
    "a caller without a line": ENTER | {"caller": ["a.py"]},
    "an answer to no request": ENDED | {"request": 99},
    "an answer to the last request": ENDED | {"request": -1},
    "an answer without a status": ENDED | {"status": "200"},
    "an answer without bytes": ENDED | {"body": "passed"},
    "a standstill of another kind": {"event": "still", "watch": 1, "kind": "passed", "busy": False},
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_an_event_of_another_form_ends_the_cell(learner: Learner, hostile: object) -> None:
    """And so the checkpoint: *failed*."""
    handler = f"""
@router.get("/hostile")
async def hostile() -> str:
    write(frame({hostile}))
    return "done"

def create_app("""
    app = learner.serves(WRITE + SERVICE.replace("\ndef create_app(", handler)).app(Probe(), {})
    request = app.get("/hostile")
    with pytest.raises(CellEnded, match=FORGED):
        app.until(lambda: request.done)


DECODER = {"event": "decoder", "probe": 0}
BEGINS = DECODER | {"what": "begins", "stream": 1, "prompt": "a", "max_tokens": 3, "held": True, "caller": []}
ASKS = DECODER | {"what": "asks", "stream": 1, "call": 7}
HOSTILE_DECODERS: dict[str, list[object]] = {
    "nothing that a decoder does": [DECODER | {"what": "passes"}],
    "a probe that there is not": [DECODER | {"what": "holds", "probe": 3}],
    "a slot without the lines": [DECODER | {"what": "wants"}],
    "lines that are none": [BEGINS | {"caller": [["a.py", "one", "f"]]}],
    "a stream without a prompt": [BEGINS | {"prompt": None}],
    "a token for a stream that there is not": [ASKS],
    "two questions in one": [BEGINS, ASKS, ASKS],
    "an end of a stream that there is not": [DECODER | {"what": "ends", "stream": 3}],
    "arguments that are none": [DECODER | {"what": "misused", "given": ["a"], "caller": []}],
}


@pytest.mark.parametrize("hostile", HOSTILE_DECODERS.values(), ids=HOSTILE_DECODERS)
def test_a_decoder_that_does_what_none_can_do_ends_the_cell(learner: Learner, hostile: list[object]) -> None:
    """And so the checkpoint: *failed*."""
    handler = f"""
@router.get("/hostile")
async def hostile() -> str:
    for one in {hostile}:
        write(frame(one))
    return "done"

def create_app("""
    served = learner.serves(WRITE + SERVICE.replace("\ndef create_app(", handler))
    app = served.app(None, {}, decoder=DecoderProbe(1))
    request = app.get("/hostile")
    with pytest.raises(CellEnded, match=FORGED):
        app.until(lambda: request.done)


def test_the_judge_counts_slots_and_lets_tokens_out(learner: Learner) -> None:
    """A stream's slot, its lines, and its tokens one by one."""
    handler = """
@router.post("/stream")
async def stream(request: Request) -> Any:
    decoder, given = request.app.state.decoder, await request.json()
    await decoder.acquire()
    try:
        return [token async for token in decoder.generate(*given)]
    finally:
        decoder.release()

def create_app("""
    probe = DecoderProbe(1)
    app = learner.serves(SERVICE.replace("\ndef create_app(", handler)).app(None, {}, decoder=probe)
    request = app.post("/stream", ["a", 3])
    for token in ("one", "two"):
        app.until(lambda: any(call.asks for call in probe.of("a")))
        held = probe.holders
        probe.let(probe.of("a")[0], token)
    app.until(lambda: probe.of("a")[0].asks)
    probe.end(probe.of("a")[0])

    assert ["one", "two"] == request.answer().json()
    assert (1, 0, True) == (held, probe.holders, probe.of("a")[0].closed)
    for lines in (probe.acquired_at, probe.of("a")[0].caller):
        named = [app.lines.where_line(Path(path), number, name) or "" for path, number, name in lines]
        assert any("in stream" in line for line in named)
    app.post("/stream", [b"a".hex(), "3"])
    app.until(lambda: probe.misuses)
    assert ["'61'", "'3'"] == probe.misuses[0][0]


def test_a_client_that_left_before_an_answer_is_no_forgery(learner: Learner) -> None:
    """What the app sends then reaches nobody: there is no answer, and the cell goes on."""
    handler = """
@router.get("/left")
async def left(request: Request) -> str:
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    return "too late"

def create_app("""
    app = learner.serves(SERVICE.replace("\ndef create_app(", handler)).app(None, {})
    request = app.drive("GET", "/left")
    app.until(lambda: request.arrived)
    request.leave()
    app.until(lambda: request.done)

    with pytest.raises(LearnerError, match="its client had left before the answer began"):
        request.answer()
    assert 200 == app.get("/health").answer().status_code


def test_an_answer_is_taken_once(learner: Learner) -> None:
    """What is written before the app's own answer takes its place, and that one then ends the cell."""
    handler = f"""
@router.get("/hostile")
async def hostile() -> str:
    write(frame({ENDED}))
    return "done"

def create_app("""
    app = learner.serves(WRITE + SERVICE.replace("\ndef create_app(", handler)).app(None, {})
    request = app.get("/hostile")
    with pytest.raises(CellEnded, match=FORGED):  # at once, or at the next wait
        [app.until(lambda: request.done), app.get("/health").answer()]


def test_a_cell_that_is_held_up_takes_what_is_sent(app: App, probe: Probe) -> None:
    """Hundreds of requests behind a call that blocks the loop: nothing waits for the other side to read."""
    first = app.post("/predict/blocking", {"features": [0.5]})
    app.until(lambda: probe.inside == 1)
    requests = [app.post("/predict/blocking", {"features": [n] * 100}) for n in range(600)]
    probe.open()
    app.until(lambda: all(one.done for one in [first, *requests]), seconds=60)

    assert 601 == len(probe.calls)
    assert os.getpid() != app.get("/health").answer().json()["pid"]
