"""4.3: how many calls stand in the model together, for a pool of threads of a given size."""

from __future__ import annotations

import ast
from pathlib import Path

from checks.harness.assertions.answers import calls_inside
from checks.harness.cell.inprocess import InProcess, Pending, refuse_if_busy
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure
from checks.harness.workspace import Workspace, handwritten
from checks.support.ex4.requests import Calls


def most_inside(app: InProcess, probe: Probe, calls: Calls) -> tuple[int, int]:
    """Hold all calls in the model until no more come; returns how many were inside, and lets them go.

    Also on how many threads, at most: those of the whole service.
    """
    standstill = app.until(lambda: probe.inside == len(calls))
    if standstill:
        refuse_if_busy(standstill)
    together, threads = sum(call.features in calls for call in probe.held_calls), app.threads()
    probe.open()
    pending: list[Pending] = [*calls.values()]
    app.finish(pending, seconds=5)
    return together, threads


def no_threads(size: int, peak: int, threads: int) -> Failure:
    """As many calls as there should be threads, and they are not on threads of a pool of that size."""
    return Failure(
        f"with thread_pool_size={size} {peak} calls were in the model together in the end, and the service had "
        f"{threads} threads",
        f"{size} calls, each on a thread of FastAPI's pool",
        "A plain `def` that calls `model.predict_blocking`, on the pool that FastAPI has.",
    )


def made_without_lifespan(file: Path, workspace: Workspace) -> str | None:
    """The line that makes the app without a lifespan; None where there is no such line."""
    calls = [node for node in ast.walk(ast.parse(handwritten(file))) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "FastAPI"]
    given = [call for call in made if any(word.arg in ("lifespan", None) for word in call.keywords)]
    return workspace.where_line(file, made[0].lineno) if made and not given else None


def another_size(size: int, calls: int, together: int, held_before: bool, workspace: Workspace) -> Failure:
    """The pool has another size than it should have."""
    where, file = None, workspace.tree / "lab" / "service.py"
    if together == calls and (where := workspace.where_written(file, "total_tokens +=")):
        hint = "`+=` adds to the 40 threads that the pool has by default. Write `total_tokens = ...`."
    elif together == calls:
        hint = (
            "The calls have no limit, or one that is too large: a limiter that is made for each request limits "
            "nothing. Set FastAPI's own: `current_default_thread_limiter().total_tokens = ...`, in the lifespan."
        )
        where = workspace.where_written(file, "CapacityLimiter(")
    elif held_before:
        hint = (
            f"A larger number takes effect, and {size} does not: set the number as it is, without `max` and "
            "without a minimum."
        )
    elif together == 40 and (where := made_without_lifespan(file, workspace)):
        hint = "40 is anyio's default: the lifespan did not run. Make the app with `FastAPI(..., lifespan=lifespan)`."
    elif together == 40:
        hint = (
            "40 is anyio's default: your number did not reach it. Make the app with `FastAPI(..., lifespan=lifespan)`, "
            "and set `current_default_thread_limiter().total_tokens` before the `yield`."
        )
    elif together == 1:
        hint = "One at a time blocks the event loop: a plain `def` runs on a thread of the pool."
    else:
        hint = "Take the number from `app.state.settings.thread_pool_size`."
    return Failure(f"with thread_pool_size={size} {calls_inside(together, calls)}", f"{size}", hint, where)
