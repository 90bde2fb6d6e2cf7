"""6.7: what the batcher reports, and what GET /metrics says of it."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from checks.harness.assertions.answers import content
from checks.harness.errors import Failure
from checks.harness.judge.handles import attribute
from checks.harness.report.evidence import Show
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex6.batched import Batched
from checks.support.ex6.scenes import Play, Scene


@dataclass(frozen=True, slots=True)
class Told:
    """Where it is told: the learner's `GET /metrics`, and `Batcher.report`; and where requests are refused."""

    metrics: str | None
    report: str | None
    guard: str | None


def where_told(lab: LearnerModules, workspace: Workspace) -> Told:
    """Where that is."""
    batcher, guard = lab.batching.Batcher, None
    with suppress(Exception):  # exercise 4 says what is wrong there
        guard = workspace.where_defined(attribute(lab.admission.AdmissionControl, "__call__"))
    return Told(
        workspace.where_named(lab.service, "metrics", "create_app"),
        workspace.where_defined(getattr(batcher, "report", batcher)),
        guard,
    )


OF_ITS_OWN = (
    "Keep the state of an app on that app: `app.state.batcher`, and the batcher's fields on `self`, made in "
    "`__init__`. All apps share a variable of the module or of the class."
)


def sizes_are_as_run_was_given_them(play: Play, rng: random.Random, show: Show, where: str | None) -> None:
    """`report()`, which is at `where`, has the size of each batch, also of one that failed: see 6.4."""
    earlier = Scene(rng, 1, 4, 0.05, "one item")
    earlier.submit(0, 0)
    earlier.play(play, show)
    scene = Scene(rng, 5, 4, 0.05, "a batch that fails, and one that does not")
    scene.other_calls["0"] = {"ends": "raises", "words": "no memory left"}
    scene.submit(0, 0, 1)
    scene.submit(5, 2, 3, 4)
    scene.does("report", 10)
    seen = scene.play(play, show)
    show.evidence[:] = []
    told, sizes = seen.reports[0], {str(len(call.items)) for call in seen.calls}
    wanted = {str(size): number for size, number in Counter(len(call.items) for call in seen.calls).items()}
    got = told.get("sizes") if isinstance(told, dict) else None
    assert isinstance(got, dict), Failure(
        f"`report()` of the batcher returned {told!r:.80}",
        '`{"waiting": 0, "sizes": {...}}`',
        "`Batcher.report` returns a dict with these two keys.",
        where,
    )
    foreign = {str(size) for size in got} - sizes
    assert not foreign, Failure(
        f"a new batcher gave batches of {', '.join(sorted(sizes))} to the model, and its `report()` says sizes {got}",
        f"{wanted}: only its own batches, not those of another batcher",
        OF_ITS_OWN,
        seen.places.window.shared or where,
    )
    missing = sizes - {str(size) for size in got}
    assert not missing, Failure(
        f"after a batch of two for which `run` raised and a batch of three, `report()` says sizes {got}",
        f"{wanted}: every batch that `run` was given, also one that failed",
        "Count a batch when it is given to `run`, not when it has been answered.",
        seen.places.call(0).asked,
    )


def sizes_are_told(batched: Batched, at: Told, *, second: bool = False) -> None:
    """GET /metrics has what the gate saw; of a `second` app nothing that the first has counted."""
    seen = {str(size): number for size, number in Counter(len(call.items) for call in batched.probe.calls).items()}
    told = content(batched.app.get("/metrics").answer()).get("batches")
    hint = '`collected.report() | {"batches": request.app.state.batcher.report()}`.'
    assert isinstance(told, dict), Failure(
        f"GET /metrics has `batches` {told!r}", f"the sizes: {seen}", hint, at.metrics
    )
    assert told.get("sizes") == seen, Failure(
        f"GET /metrics says of the batches {told.get('sizes')!r}"
        + " in the second app of the process, as if it had served those of the first, too" * second,
        f"{seen}: what the model was given",
        OF_ITS_OWN if second else hint,
        at.metrics,
    )
    assert told.get("waiting") == 0, Failure(
        f"GET /metrics says waiting {told.get('waiting')!r}", "0: all were answered", where=at.report
    )


def waiting_is_told(batched: Batched, waiting: int, at: Told) -> None:
    """GET /metrics says how many wait while the model works."""
    told = content(batched.app.get("/metrics").answer()).get("batches")
    got = told.get("waiting") if isinstance(told, dict) else None
    assert got == waiting, Failure(
        f"while a call was running and {waiting} items waited, GET /metrics says waiting {got!r}",
        f"{waiting}",
        "`len(self._waiting)`: an item in the model does not wait any more.",
        at.report if isinstance(told, dict) else at.metrics,
    )
