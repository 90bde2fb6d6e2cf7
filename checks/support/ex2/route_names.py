"""2.8: many requests to few routes, and the names under which GET /metrics has counted them."""

from __future__ import annotations

import random
from collections import Counter

from checks.harness.assertions.metrics_page import metrics_of
from checks.harness.cell.given_routes import LOOKALIKES
from checks.harness.cell.inprocess import InProcess
from checks.harness.errors import Failure
from checks.harness.judge.handles import attribute
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex2.middleware import line_that_passes_on

TEMPLATE, UNMATCHED = "GET /v1/users/{user_id}/items/{item_id}", "GET unmatched"
TEMPLATE_HINT = (
    "`route_template(scope)` of lab.routes gives the template, and one name for all paths that no route takes."
)
PREFIX_HINT = (
    "`route_template(scope)` of lab.routes keeps the prefixes of the routers; `scope['route'].path` does not have them."
)
LATE_HINT = "Call `route_template(scope)` when the app below has answered: before that, the request is not routed yet."
COPY_HINT = (
    "Pass on the same `scope` object that came in. The router writes the route into the scope that it gets. If "
    "that is a copy, such as `dict(scope)`, the middleware does not see the route."
)
NOT_COUNTED_HINT = '`scope["path"] in NOT_COUNTED` first: such a request is timed, and neither counted nor logged.'
EXACT_HINT = '`scope["path"] in NOT_COUNTED` compares whole paths: `startswith` and `in` on text find others, too.'
STATUS_HINT = "A 404 can come from a handler, too: only the route decides on the name, not the status."


def ask_all(app: InProcess, rng: random.Random) -> dict[str, int]:
    """500 items, 20 paths without a route, the lookalikes, and NOT_COUNTED. Returns the counts that are right."""
    users = [f"/v1/users/{rng.randrange(10**6)}/items/{rng.randrange(1, 10**6)}" for _ in range(498)]
    users += ["/v1/users/1/items/0"] * 2  # a 404 of the handler's own still belongs to its route
    strangers = [f"/{rng.randrange(10**9)}.php" for _ in range(20)]
    for call in [app.get(path) for path in [*users, *strangers, *LOOKALIKES, "/health", "/metrics"]]:
        call.answer()
    return {TEMPLATE: len(users), UNMATCHED: len(strangers)} | {f"GET {path}": 1 for path in LOOKALIKES}


def counts(app: InProcess) -> Counter[str]:
    """How many requests each series has so far."""
    return Counter({name: route["count"] for name, route in metrics_of(app)["routes"].items()})


def are_named_by_template(
    counted: dict[str, int], wanted: dict[str, int], lab: LearnerModules, workspace: Workspace, where: str | None
) -> None:
    """Each series has its route's name and its requests.

    How often a request counts, and whether a 404 does, 2.6 judges.
    """
    machines = [name for name in counted if name.endswith((" /health", " /metrics"))]
    assert not machines, Failure(
        f"GET /metrics counts {', '.join(machines)}",
        wanted="no requests that only machines send",
        hint=NOT_COUNTED_HINT,
    )
    users, strangers = wanted[TEMPLATE], wanted[UNMATCHED]
    assert len(counted) <= len(wanted), Failure(
        f"{users} requests to one route and {strangers} to no route made {len(counted)} series, such as "
        f"{', '.join(map(repr, list(counted)[:2]))}",
        wanted=f"one series for each route, as {TEMPLATE!r}, and {UNMATCHED!r}",
        hint=TEMPLATE_HINT,
        where=where,
    )
    times = max(1, counted.get("GET /healthy", 1))
    right = {name: times * count for name, count in wanted.items()}
    if UNMATCHED not in counted and counted.get(TEMPLATE) == times * (users - 2):  # no 404 is counted: see 2.6
        right = {name: count for name, count in right.items() if name != UNMATCHED} | {TEMPLATE: times * (users - 2)}
    if counted != right:
        hint, where = _why(counted, right, where, lab, workspace)
        raise AssertionError(Failure(f"GET /metrics counts {counted}", wanted=str(wanted), hint=hint, where=where))


def _why(
    counted: dict[str, int], right: dict[str, int], where: str | None, lab: LearnerModules, workspace: Workspace
) -> tuple[str, str | None]:
    """The hint for wrong names or counts, and the line to change."""
    if not counted:
        return "", where
    if [*counted] == [UNMATCHED]:
        line, same_scope = line_that_passes_on(lab, workspace, "/x")
        if not same_scope:
            return COPY_HINT, line
        return LATE_HINT, where
    left_out = [path for path in LOOKALIKES if f"GET {path}" not in counted]
    if left_out and counted and {*counted} <= {*right}:
        return EXACT_HINT, workspace.where_defined(attribute(lab.timing.TimingMiddleware, "__call__"))
    if {*counted} == {*right}:
        return STATUS_HINT, where
    if any(name.endswith("/items/{item_id}") for name in counted):
        return PREFIX_HINT, where
    return TEMPLATE_HINT, where
