"""Reads what the learner's service says of itself at GET /metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checks.harness.assertions.answers import content, is_number

if TYPE_CHECKING:
    from checks.harness.cell.inprocess import InProcess

FIGURES = ("min_ms", "avg_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms")
EXAMPLE = '{"in_flight": 0, "routes": {"POST /predict": {"count": 3, ..., "status": {"2xx": 3}, "stages": {}}}}'
UNROUTED = "try: Ask `route_template(scope)` when the app below has answered: before, nobody has routed the request."
WIRED = "try: create_app adds the TimingMiddleware, with the same Metrics that GET /metrics reports."


def metrics_of(app: InProcess) -> dict[str, Any]:
    """The page, once it is sure to have the form that was asked for."""
    answer = app.get("/metrics").answer()
    assert answer.status_code == 200, f"GET /metrics gave {answer.status_code}\nwanted: 200"
    page = content(answer)
    well_formed = is_number(page.get("in_flight")) and isinstance(page.get("routes"), dict)
    assert well_formed, f"GET /metrics answered {answer.text[:80]}\nwanted: {EXAMPLE}"
    for route in page["routes"]:
        series(page, route)
    return page


def series(page: dict[str, Any], route: str) -> dict[str, Any]:
    """What the page says of one route, such as `"POST /predict"`."""
    known = ", ".join(map(repr, page["routes"])) or "no route"
    hint = UNROUTED if any(name.endswith("unmatched") for name in page["routes"]) else WIRED
    assert route in page["routes"], f"GET /metrics knows {known}\nwanted: {route!r} among them\n{hint}"
    told: dict[str, Any] = page["routes"][route]
    figures_in(told, f"GET /metrics of {route!r}")
    for part in ("status", "stages"):
        assert isinstance(told.get(part), dict), f"GET /metrics says of {route!r} no {part}\nwanted: {EXAMPLE}"
    for name, stage in told["stages"].items():
        figures_in(stage, f"GET /metrics of the stage {name!r} of {route!r}")
    for name, count in told["status"].items():
        assert is_number(count), f"GET /metrics says of {route!r} {name}: {count!r}\nwanted: a number"
    return told


def figures_in(summary: Any, whose: str) -> dict[str, float]:
    """A summary of some samples, once it is sure to hold all its figures."""
    what = f"{whose} is {str(summary)[:80]}"
    assert isinstance(summary, dict), f"{what}\nwanted: a summary, with count, {', '.join(FIGURES)}"
    missing = [name for name in ("count", *FIGURES) if not is_number(summary.get(name))]
    assert not missing, f"{what}\nwanted: a number each for {', '.join(missing)}"
    return summary


def statuses(page: dict[str, Any]) -> Counter[str]:
    """How many answers of each class there were over all routes, without those of which there were none."""
    counted: Counter[str] = Counter()
    for route in page["routes"].values():
        counted.update({name: count for name, count in route["status"].items() if count})
    return counted


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
    told = {**whole, "status": {"2xx": requests}, "stages": {name: summary(*s) for name, s in stages.items()}}
    return {"in_flight": 0, "routes": {route: told}}
