"""A pytest item as a checkpoint: what its marker and docstring say, and where its outcome is kept."""

from __future__ import annotations

import re
from typing import Any

import pytest

from checks.harness.report.evidence import Show
from checks.harness.report.results import Checkpoint, Exercise, Outcome

DEADLINE = 60.0
"""Seconds that a checkpoint may take; a right answer takes a few, on a machine with 16 busy processes too."""

PLAIN_ASSERTS = "PYTEST_DONT_REWRITE"
"""Stands in the docstring of each file of checkpoints: rewritten asserts would turn their `Failure` into text."""

CHECKPOINT = pytest.StashKey[Checkpoint]()
SHOWN = pytest.StashKey[Show]()
OUTCOME = pytest.StashKey[Outcome]()
"""What is known of a checkpoint that runs in this process: from the first phase that decided it."""

MARKER = "checkpoint(id, points, needs=[], hints=(), deadline=60): a checkpoint of the lab"


def adopt(item: pytest.Item) -> None:
    """Give a checkpoint its place for results; an item without the marker is left alone."""
    if item.get_closest_marker("checkpoint") is None:
        return
    marker = _marker(item)
    title, why = parts_of(getattr(getattr(item, "function", None), "__doc__", None))
    item.stash[SHOWN] = Show()
    item.stash[OUTCOME] = Outcome("not_run")
    item.stash[CHECKPOINT] = Checkpoint(
        id=marker.args[0],
        title=title,
        max_points=marker.kwargs["points"],
        why=why,
        hints=list(marker.kwargs.get("hints", ())),
    )
    item.extra_keyword_matches.add(marker.args[0])
    item.add_marker(pytest.mark.filterwarnings("ignore"))  # a warning of the learner's code is no failure


def deadline(item: pytest.Item) -> float:
    """Seconds that this checkpoint may take."""
    return float(_marker(item).kwargs.get("deadline", DEADLINE))


def needs(item: pytest.Item) -> list[str]:
    """The checkpoints without which this one cannot run."""
    return list(_marker(item).kwargs.get("needs", ()))


def declared(item: pytest.Item, name: str) -> tuple[Any, ...]:
    """What its marker declares for a fixture: of `load_test` the `plans` that it runs and the `parts` that it tests."""
    return tuple(_marker(item).kwargs.get(name, ()))


def later(item: pytest.Item) -> list[pytest.Item]:
    """The selected checkpoints after this one that are not known to be locked by what came before."""
    items = [other for other in item.session.items if CHECKPOINT in other.stash]
    failed = {c.id for c in (o.stash[CHECKPOINT] for o in items) if c.verdict not in ("passed", "not_run")}
    return [other for other in items[items.index(item) + 1 :] if not failed & set(needs(other))]


def in_cell(item: pytest.Item) -> bool:
    """Whether it takes the learner's code, which runs in a cell.

    A debugger needs that code here, in the process with the keyboard.
    """
    return "cell" in getattr(item, "fixturenames", ()) and item.config.option.isolation != "none"


def uses_service(item: pytest.Item) -> bool:
    """Whether it runs the learner's app, and so needs the heavy libraries."""
    return bool({"service", "serve"} & set(getattr(item, "fixturenames", ())))


def exercises(items: list[pytest.Item]) -> list[Exercise]:
    """The selected checkpoints, file by file; a file's docstring gives title and subject."""
    found: dict[str, Exercise] = {}
    for item in items:
        module = getattr(item, "module", None)
        checkpoint = item.stash[CHECKPOINT]
        name = getattr(module, "__name__", item.nodeid)
        if name not in found:
            title, about = headline_of(getattr(module, "__doc__", None))
            found[name] = Exercise(int(checkpoint.id.partition(".")[0]), title, about, [])
        found[name].checkpoints.append(checkpoint)
    return list(found.values())


def _marker(item: pytest.Item) -> pytest.Mark:
    marker = item.get_closest_marker("checkpoint")
    assert marker is not None
    return marker


def headline_of(docstring: str | None) -> tuple[str, str]:
    """Title and subject of an exercise, from the docstring of its file."""
    title, about = parts_of(docstring)
    return re.sub(r"^Exercise \d+ - ", "", title), about


def parts_of(docstring: str | None) -> tuple[str, str]:
    """The first line without its full stop, and the rest as one paragraph."""
    text = (docstring or "").replace(PLAIN_ASSERTS, "")
    title, _, rest = text.strip().partition("\n")
    return title.strip().rstrip("."), " ".join(rest.split())
