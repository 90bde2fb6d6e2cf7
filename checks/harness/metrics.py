"""Reads what the learner's service says of itself at GET /metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checks.harness.reading import content, is_number

if TYPE_CHECKING:
    from checks.harness.inprocess import InProcess

FIGURES = ("min_ms", "avg_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms")
EXAMPLE = '{"in_flight": 0, "routes": {"POST /predict": {"count": 3, ..., "status": {"2xx": 3}, "stages": {}}}}'
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
    assert route in page["routes"], f"GET /metrics knows {known}\nwanted: {route!r} among them\n{WIRED}"
    told: dict[str, Any] = page["routes"][route]
    missing = [name for name in ("count", *FIGURES) if not is_number(told.get(name))]
    missing += [name for name in ("status", "stages") if not isinstance(told.get(name), dict)]
    assert not missing, f"GET /metrics says of {route!r} no {', '.join(missing)}\nwanted: {EXAMPLE}"
    return told


def statuses(page: dict[str, Any]) -> Counter[str]:
    """How many answers of each class there were over all routes, without those of which there were none."""
    counted: Counter[str] = Counter()
    for route in page["routes"].values():
        counted.update({name: count for name, count in route["status"].items() if count})
    return counted


def table_of_stages(stages: dict[str, tuple[float, float, int]], route: str) -> dict[str, Any]:
    """A page with one route whose stages have these means and maxima in ms, and counts."""

    def summary(mean: float, most: float, count: int) -> dict[str, float]:
        middle = {"min_ms": mean / 2, "avg_ms": mean, "p50_ms": mean * 0.9, "p95_ms": mean * 1.4}
        return {"count": count, **middle, "p99_ms": most, "max_ms": most}

    total = sum(mean * count for mean, _, count in stages.values())
    requests = max((count for *_, count in stages.values()), default=1)
    whole = summary(total / requests, sum(most for _, most, _ in stages.values()), requests)
    told = {**whole, "status": {"2xx": requests}, "stages": {name: summary(*s) for name, s in stages.items()}}
    return {"in_flight": 0, "routes": {route: told}}
