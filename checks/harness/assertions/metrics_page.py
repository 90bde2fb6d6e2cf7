"""Reads what the learner's service reports at GET /metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checks.harness.assertions.answers import content, is_number
from checks.harness.assertions.routed import routed
from checks.harness.errors import Failure

if TYPE_CHECKING:
    from checks.harness.cell.inprocess import InProcess

FIGURES = ("min_ms", "avg_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms")
EXAMPLE = '{"in_flight": 0, "routes": {"POST /predict": {"count": 3, ..., "status": {"2xx": 3}, "stages": {}}}}'
WIRED_HINT = (
    "`app.add_middleware(TimingMiddleware, metrics=app.state.metrics)` in create_app, with the same Metrics that GET "
    "/metrics reports."
)


def metrics_of(app: InProcess) -> dict[str, Any]:
    """What GET /metrics answers, after a check that it has the form that the stub of `Metrics.report` shows."""
    answer = app.get("/metrics").answer()
    routed(app, answer)
    assert answer.status_code == 200, Failure(f"GET /metrics gave {answer.status_code}", wanted="200")
    return checked(content(answer))


def checked(page: Any) -> dict[str, Any]:
    """The page, which a `Metrics.report` has returned or GET /metrics has answered, after a check of its form."""
    well_formed = isinstance(page, dict) and is_number(page.get("in_flight")) and isinstance(page.get("routes"), dict)
    assert well_formed, Failure(f"GET /metrics answered {str(page)[:80]}", wanted=EXAMPLE)
    for route in page["routes"]:
        _check_series(page["routes"][route], route)
    return dict(page)


def series(page: dict[str, Any], route: str) -> dict[str, Any]:
    """What the page says of one route, such as `"POST /predict"`.

    A single series of the same method stands in for it: 2.8 judges what a series is called.
    """
    routes, method = page["routes"], route.partition(" ")[0]
    of_method = [name for name in routes if name.startswith(f"{method} ")] or [*routes]
    name = route if route in routes else of_method[0] if len(of_method) == 1 else None
    known = ", ".join(map(repr, routes)) or "no route"
    assert name is not None, Failure(
        f"GET /metrics has {known}", wanted=f"{route!r} among them", hint="" if routes else WIRED_HINT
    )
    _check_series(routes[name], name)
    found: dict[str, Any] = routes[name]
    return found


def _check_series(found: Any, route: str) -> None:
    figures_in(found, f"GET /metrics of {route!r}")
    for part in ("status", "stages"):
        assert isinstance(found.get(part), dict), Failure(f"GET /metrics of {route!r} has no {part}", wanted=EXAMPLE)
    for name, stage in found["stages"].items():
        figures_in(stage, f"GET /metrics of the stage {name!r} of {route!r}")
    for name, count in found["status"].items():
        assert is_number(count), Failure(f"GET /metrics of {route!r} says {name}: {count!r}", wanted="a number")


def figures_in(summary: Any, whose: str) -> dict[str, float]:
    """A summary of some samples, after a check that it holds all its figures."""
    what = f"{whose} is {str(summary)[:80]}"
    assert isinstance(summary, dict), Failure(what, wanted=f"a summary, with count, {', '.join(FIGURES)}")
    missing = [name for name in ("count", *FIGURES) if not is_number(summary.get(name))]
    assert not missing, Failure(what, wanted=f"a number for each of {', '.join(missing)}")
    return summary


def statuses(page: dict[str, Any]) -> Counter[str]:
    """How many answers of each class there were over all routes, without classes of which there were none."""
    counted: Counter[str] = Counter()
    for route in page["routes"].values():
        counted.update({name: count for name, count in route["status"].items() if count})
    return counted


def total_count(page: dict[str, Any]) -> int:
    """How many requests the page has counted over all routes."""
    return int(sum(route["count"] for route in page["routes"].values()))


def table_of_stages(stages: dict[str, tuple[float, float, float, int]], route: str) -> dict[str, Any]:
    """A page with one route whose stages have these minima, means and maxima in ms, and counts.

    The middle of a stage is its minimum, the tail its maximum: a few slow ones make the mean.
    """

    def summary(least: float, mean: float, most: float, count: int) -> dict[str, float]:
        tail = {"p50_ms": least, "p95_ms": most, "p99_ms": most}
        return {"count": count, "min_ms": least, "avg_ms": mean, "max_ms": most, **tail}

    total = sum(mean * count for _, mean, _, count in stages.values())
    requests = max((count for *_, count in stages.values()), default=1)
    whole = summary(total / requests / 2, total / requests, sum(most for _, _, most, _ in stages.values()), requests)
    found = {**whole, "status": {"2xx": requests}, "stages": {name: summary(*s) for name, s in stages.items()}}
    return {"in_flight": 0, "routes": {route: found}}
