"""What is read at GET /metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from checks.harness.assertions.metrics_page import FIGURES, metrics_of, series, statuses, table_of_stages

ROUTE = {"count": 2, **dict.fromkeys(FIGURES, 1.5), "status": {"2xx": 1, "5xx": 0}, "stages": {}}


def app(page: Any, status: int = 200) -> Any:
    """An app whose GET /metrics answers this."""
    answer = httpx.Response(status, json=page, request=httpx.Request("GET", "http://localhost/metrics"))
    return SimpleNamespace(get=lambda _: SimpleNamespace(answer=lambda: answer))


def test_a_well_formed_page_is_read() -> None:
    """Classes of which there are none do not count."""
    page = metrics_of(app({"in_flight": 0, "routes": {"GET /a": ROUTE, "GET /b": ROUTE}}))

    assert series(page, "GET /a") == ROUTE
    assert statuses(page) == {"2xx": 2}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ([], "a JSON object"),
        ({"routes": {}}, "GET /metrics answered"),
        ({"in_flight": 0, "routes": []}, "GET /metrics answered"),
        ({"in_flight": 0, "routes": {"GET /a": 3}}, "GET /metrics of 'GET /a' is 3"),
        ({"in_flight": 0, "routes": {"GET /a": ROUTE | {"p95_ms": None}}}, "a number for each of p95_ms"),
        (
            {"in_flight": 0, "routes": {"GET /a": ROUTE | {"stages": {"model": 10.1}}}},
            "stage 'model' of 'GET /a' is 10.1",
        ),
        ({"in_flight": 0, "routes": {"GET /a": ROUTE | {"status": {"2xx": "1"}}}}, "of 'GET /a' says 2xx: '1'"),
        ({"in_flight": 0, "routes": {"GET /a": ROUTE | {"stages": None}}}, "of 'GET /a' has no stages"),
    ],
)
def test_what_is_missing_is_named(page: Any, words: str) -> None:
    """A page of another form gives a failure in words, not a KeyError."""
    with pytest.raises(AssertionError, match=words):
        metrics_of(app(page))


def test_a_route_that_was_not_counted_comes_with_a_hint() -> None:
    """Without any route the middleware most often collects into something that is not reported."""
    with pytest.raises(AssertionError, match=r"has no route\nwanted: 'GET /b' among them\ntry: `app.add_middleware"):
        series({"in_flight": 0, "routes": {}}, "GET /b")
    with pytest.raises(AssertionError, match=r"has 'GET /a', 'GET /c'\nwanted: 'GET /b' among them$"):
        series({"in_flight": 0, "routes": {"GET /a": ROUTE, "GET /c": ROUTE}}, "GET /b")


def test_a_single_series_stands_in_for_one_of_another_name() -> None:
    """What a series is called, one checkpoint judges; the others read it whatever its name."""
    routes = {"GET unmatched": ROUTE, "POST /b": ROUTE | {"count": 3}, "POST /c": ROUTE}

    assert 2 == series({"in_flight": 0, "routes": routes}, "GET /b")["count"]
    assert 3 == series({"in_flight": 0, "routes": routes}, "POST /b")["count"]


def test_a_table_of_stages_is_a_page_like_theirs() -> None:
    """Means, maxima and counts stand where a summary has them."""
    page = table_of_stages({"slow": (1.0, 30.0, 45.0, 100), "rare": (190.0, 200.0, 210.0, 3)}, "GET /x")

    assert metrics_of(app(page)) == page
    assert series(page, "GET /x")["stages"]["rare"]["avg_ms"] == 200
    assert series(page, "GET /x")["avg_ms"] == pytest.approx(36)
    assert series(table_of_stages({}, "GET /x"), "GET /x")["stages"] == {}
