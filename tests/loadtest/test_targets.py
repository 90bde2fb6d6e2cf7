"""Targets: servers of known capacity, as a load of the harness's own generator sees them."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest

from checks.harness.load.generator import closed_loop, open_loop
from checks.harness.load.trace import Request, Trace
from checks.harness.loadtest.targets import Answer, Service, Target, target

BODY = b'{"features": [1.0, 2.0, 6.0]}'


def load(url: str, requests: int, connections: int = 4, timeout: float = 20) -> Trace:
    """A short closed loop on `/predict`."""
    return closed_loop(
        f"{url}/predict", connections=connections, requests=requests, body=BODY, timeout=timeout, keep_bodies=True
    )


def prediction(request: Request) -> float:
    """What was answered."""
    return float(json.loads(request.body or b"")["prediction"])


def kinds(running: Target) -> list[str]:
    """Which answers were given, by order of the requests."""
    return [arrival.answer.kind for arrival in running.arrivals if arrival.answer]


def test_a_right_answer_is_the_mean_but_for_its_last_digits() -> None:
    """Where the service is not exact: a load test that compares with == fails them."""
    with target(Service((Answer(0.001),), exact=False)) as running:
        trace = load(running.url, 8)
    predictions = [prediction(request) for request in trace.requests]

    assert all(math.isclose(one, 3.0) for one in predictions)
    assert 3.0 not in predictions


def test_a_deck_is_dealt_to_the_last_card() -> None:
    """Of each round exactly what was put into it comes out, whatever the order."""
    deck = (*[Answer(0.001)] * 7, Answer(0.001, 503, kind="refused"), Answer(0.001, right=False, kind="wrong"))
    with target(Service(deck, seed=3)) as running:
        trace = load(running.url, 27)
        dealt = Counter(kinds(running))

    assert {"right": 21, "refused": 3, "wrong": 3} == dealt
    assert 3 == sum(request.status == 503 for request in trace.requests)
    wrong = [r for r in trace.answered if not math.isclose(prediction(r), 3.0, rel_tol=0.1)]
    assert 3 == len(wrong)


def test_without_a_seed_the_deck_keeps_its_order() -> None:
    """What comes first and what comes last is then known beforehand."""
    with target(Service((Answer(0, kind="a"), Answer(0, kind="b"), Answer(0, kind="c")))) as running:
        load(running.url, 7, connections=1)

    assert [*"abcabca"] == kinds(running)


def test_connections_get_answers_of_their_own() -> None:
    """The same one for all requests of a connection."""
    with target(Service((Answer(0.001, kind="even"), Answer(0.002, kind="odd")), by_connection=True)) as running:
        load(running.url, 40)

    connections = [arrival.connection % 2 for arrival in running.arrivals]
    assert {(0, "even"), (1, "odd")} == {*zip(connections, kinds(running), strict=True)}


def test_slots_are_all_the_capacity_there_is() -> None:
    """Twelve requests on three slots take four service times at least, however many connections carry them."""
    with target(Service((Answer(0.05),), slots=3)) as running:
        trace = load(running.url, 12, connections=12)

    assert trace.ended - trace.started >= 4 * 0.05 - 0.002
    assert 12 == max(arrival.in_flight for arrival in running.arrivals)
    assert 0 == running.in_flight


@pytest.mark.parametrize(
    ("path", "settings", "problem"),
    [
        ("/other", {}, "404: there is no /other"),
        ("/predict", {"method": "GET", "body": None}, "405: /predict takes POST, not GET"),
        ("/predict", {"headers": [("content-type", "text/plain")]}, "422: its content type is text/plain"),
        ("/predict", {"body": b'{"features": []}'}, '422: its body is {"features": []}'),
        ("/predict", {"body": b'{"features": [true]}'}, "422: its body is"),
        ("/predict", {"body": b'{"features": [NaN]}'}, "422: its body is"),
        ("/predict", {"body": b"[1.0]"}, "422: its body is [1.0]"),
    ],
)
def test_what_is_no_request_for_a_prediction_is_refused(path: str, settings: dict[str, Any], problem: str) -> None:
    """The status is that of a real service, and the arrival says why."""
    with target(Service((Answer(0),))) as running:
        trace = closed_loop(f"{running.url}{path}", connections=1, requests=1, **{"body": BODY} | settings)

    assert running.arrivals[0].problem.startswith(problem)
    assert trace.requests[0].status == int(problem[:3])


def test_a_stall_holds_what_arrives_in_it() -> None:
    """Requests that arrive while it lasts are answered after its end, the others at once."""
    with target(Service((Answer(0.001),), stall=(0.2, 0.5))) as running:
        open_loop(f"{running.url}/predict", rate=50, seconds=0.7, seed=1, arrivals="constant", body=BODY)
    first = running.arrivals[0].arrived
    stalled = [a for a in running.arrivals if 0.2 <= a.arrived - first < 0.5]

    assert stalled
    assert all((arrival.finished or 0) - first >= 0.5 - 0.002 for arrival in stalled)


def test_what_is_never_answered_does_not_hold_up_the_end() -> None:
    """A target stops though it still owes an answer."""
    with target(Service((Answer(math.inf),))) as running:
        trace = load(running.url, 1, connections=1, timeout=0.3)

    assert trace.requests[0].error
    assert running.arrivals[0].finished is None
