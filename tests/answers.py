"""Named answers: mistakes people really make, and right answers written differently.

`wrong_answers/exN.toml` holds the answers, each a change of the solution:

    [[answer]]
    name = "a blocking call in async def"
    file = "lab/service.py"                       # `replace` must occur in it exactly once;
    replace = "await model.predict"               # without `replace` it is a new file
    with = "model.predict_blocking"
    changes = [{ file = ..., replace = ..., with = ... }]    # more of them, where one is not enough
    fails = ["1.4"]                               # exactly these; [] is a right answer, written differently
    locked = ["1.9"]                              # and these are locked: by them, or not to be checked here
    says = "on the event loop's own thread"       # a regex found in seen and wanted; a list where several fail
    hint = "await model.predict"                  # a regex found in the hint; "" where no hint may be shown; a list ...
    where = "service.py.*\\n.*predict_blocking"    # a regex found in the line that is named: its file, and its text
    shows = "in no stage"                         # a regex found in the tables and numbers that are shown
    of = ["name", "name"]                         # the changes of these right answers: servers and Locust run for all

A checkpoint that starts real servers, or Locust, takes longer than all others together: it runs only for the answers
that name it in `fails`, in `locked` or in `real = ["1.9"]`, and for those with `real = true`. One that needs a Docker
engine runs for none of them: answers with `live = true` fail it, and are judged where an engine answers, by
tests/test_containers.py.

Each answer is judged by the checkpoints that it is about: with `--exhaustive` all of them, see `exhaustive_cases`,
and without it a part, see `default_cases`. Those with `quick = true` come first: their checkpoint starts servers, or
Locust, and they fail it sooner than others do. A right answer made `of` others is tried in the place of all of them.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from checks.harness import ROOT
from tests.exercises import EXERCISES, Checkpoint
from tests.runs import Judged, grade, judge

SOLUTIONS = ROOT / "solutions"
REAL = frozenset({"serve", "launch", "serve_target", "load_test", "feature_store", "deploy"})
"""Fixtures of checkpoints that start real servers, or Locust."""
REAL_COST = 10
"""How many times as long such a checkpoint takes as another."""


@dataclass(frozen=True)
class Answer:
    """One entry of a `wrong_answers/exN.toml`."""

    exercise: int
    name: str
    changes: list[dict[str, str]]
    fails: list[str]
    locked: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    hints: list[str] | None = None
    wheres: list[str] | None = None
    shows: str = ""
    real: bool | list[str] = False
    live: bool = False
    quick: bool = False
    part: bool = False

    def write(self, workspace: Path) -> None:
        """Put the solution there, with this answer's changes."""
        shutil.copytree(SOLUTIONS, workspace, ignore=shutil.ignore_patterns("__pycache__"))
        for change in self.changes:
            path = workspace / change["file"]
            if "replace" not in change:
                assert not path.exists(), f"{change['file']} is not new"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(change["with"])
                continue
            text = path.read_text()
            found = text.count(change["replace"])
            assert found == 1, f"found {found} times in {change['file']}, wanted once:\n{change['replace']}"
            path.write_text(text.replace(change["replace"], change["with"]))

    @property
    def right(self) -> bool:
        """Whether it passes all that runs."""
        return not self.fails and not self.locked

    def wants(self, checkpoint: Checkpoint) -> bool:
        """Whether that checkpoint runs for this answer at all."""
        named = {*self.fails, *self.locked, *(self.real if isinstance(self.real, list) else ())}
        quick = not checkpoint.fixtures & REAL
        if self.part and not quick:  # the answer of which it is a part is judged by that
            return False
        return quick or checkpoint.id in named or (self.real is True and not checkpoint.needs_engine)

    @cached_property
    def places(self) -> set[tuple[str, str]]:
        """The files that it changes, and what in them: the name of a function or class, "" where there is none."""
        changed = [change for change in self.changes if "replace" in change]
        return {(change["file"], name) for change in changed for name in _names(change["file"], change["replace"])}


@dataclass(frozen=True)
class Case:
    """An answer, and the checkpoints that judge it."""

    answer: Answer
    checkpoints: tuple[str, ...]

    @property
    def cost(self) -> int:
        """About how long it takes, compared to others."""
        known = {checkpoint.id: checkpoint for checkpoint in EXERCISES[self.answer.exercise].checkpoints}
        return sum(REAL_COST if known[name].fixtures & REAL else 1 for name in self.checkpoints)

    def run(self, folder: Path, cell: str | None = None, number: int = 0) -> Judged:
        """Judge it, as `pytest checks/test_exN.py --workspace DIR` does, or as `lab grade --cell` does.

        In a cell `number` is another one for each run that goes on at the same time.
        """
        self.answer.write(folder / "workspace")
        if cell:
            return grade(folder, self.answer.exercise, self.checkpoints, cell, number)
        exercise = EXERCISES[self.answer.exercise]
        chosen = [checkpoint.function for checkpoint in exercise.checkpoints if checkpoint.id in self.checkpoints]
        named = [f"{exercise.path}::{function}" for function in chosen]
        return judge(folder, folder / "workspace", *named, engine=self.answer.live)

    def assert_deserved(self, run: Judged) -> None:
        """The checkpoints that the answer names fail or are locked, all others pass, in words that fit."""
        results = run.checkpoints
        said = {c["id"]: f"{c['seen']}\nwanted: {c['wanted']}" for c in results.values()}
        told = "\n".join(f"{c} {result['verdict']}: {said[c]}" for c, result in results.items() if said[c])
        deserved = dict.fromkeys(self.answer.fails, "failed") | dict.fromkeys(self.answer.locked, "locked")

        run.assert_verdicts({name: deserved.get(name, "passed") for name in self.checkpoints})
        for checkpoint, words in zip(self.answer.fails, self.answer.says, strict=True):
            assert re.search(words, said[checkpoint]), told
        for checkpoint, words in zip(self.answer.fails, self.answer.hints or [], strict=self.answer.hints is not None):
            hint = results[checkpoint]["hint"]
            assert re.search(words, hint) if words else not hint, f"{told}\nhint: {hint}"
        shown = json.dumps([result["evidence"] for result in results.values()], ensure_ascii=False)
        assert re.search(self.answer.shows, shown), f"{told}\nshown: {shown}"
        for checkpoint, line in zip(self.answer.fails, self.answer.wheres or [], strict=self.answer.wheres is not None):
            assert re.search(line, results[checkpoint]["where"] or ""), f"{told}\nwhere: {results[checkpoint]['where']}"


def _answers() -> Iterator[tuple[str, Answer]]:
    for number in EXERCISES:
        path = ROOT / "tests" / "wrong_answers" / f"ex{number}.toml"
        known: dict[str, list[dict[str, str]]] = {}
        entries = tomllib.loads(path.read_text())["answer"] if path.exists() else []
        parts = {name for entry in entries for name in entry.get("of", [])}
        for entry in entries:
            first = {key: entry.pop(key) for key in ("file", "replace", "with") if key in entry}
            others = [change for name in entry.pop("of", []) for change in known[name]]
            changes = known[entry["name"]] = [*([first] if first else []), *entry.pop("changes", []), *others]
            says, hints, wheres = (_listed(entry.pop(key, None)) for key in ("says", "hint", "where"))
            answer = Answer(
                number,
                changes=changes,
                says=says or [],
                hints=hints,
                wheres=wheres,
                part=entry["name"] in parts,
                **entry,
            )
            yield f"{number}: {answer.name}", answer


def _listed(value: str | list[str] | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value


@cache
def _parsed(file: str) -> tuple[str, ast.Module]:
    source = (SOLUTIONS / file).read_text()
    return source, ast.parse(source)


@cache
def _names(file: str, text: str) -> frozenset[str]:
    """The functions and classes of the solution's file in which that text stands."""
    if not file.endswith(".py"):
        return frozenset({""})
    source, tree = _parsed(file)
    first = source.partition(text)[0].count("\n") + 1
    last = first + text.strip("\n").count("\n")
    found = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.lineno <= last
        and first <= (node.end_lineno or 0)
    }
    return frozenset(found or {""})


@cache
def _failed_there(exercise: int) -> dict[tuple[str, str], set[str]]:
    """The checkpoints that some mistake fails, by the place where it is: a function or class of a file."""
    found = dict[tuple[str, str], set[str]]()
    for answer in HERE.values():
        for place in answer.places if answer.exercise == exercise else ():
            found.setdefault(place, set()).update(answer.fails)
    return found


def in_reach(answer: Answer) -> tuple[str, ...]:
    """Of the checkpoints that run for an answer those which fail a mistake in the same function or class; its own."""
    there = _failed_there(answer.exercise)
    named = {*answer.fails, *answer.locked}.union(*(there.get(place, ()) for place in answer.places))
    running = [checkpoint.id for checkpoint in EXERCISES[answer.exercise].checkpoints if answer.wants(checkpoint)]
    return tuple(checkpoint for checkpoint in running if checkpoint in named)


def about(answer: Answer) -> tuple[str, ...]:
    """The checkpoints that an answer is about.

    Of a wrong one those that it fails. Of a right one those in its reach; all that run for it where there are none.
    """
    return tuple(answer.fails) or in_reach(answer) or whole(answer).checkpoints


def whole(answer: Answer) -> Case:
    """The answer, judged by its whole exercise."""
    checkpoints = EXERCISES[answer.exercise].checkpoints
    return Case(answer, tuple(checkpoint.id for checkpoint in checkpoints if answer.wants(checkpoint)))


@cache
def default_cases() -> dict[str, Case]:
    """What `uv run pytest tests` judges: chosen by what the answers say of themselves, so that no list has to be kept.

    For each checkpoint the two cheapest wrong answers that fail it, and one right one, of the fewest about all. A right
    one is judged by those checkpoints that no other one stands for.
    """
    cases = {name: Case(answer, about(answer)) for name, answer in HERE.items()}
    # Stable: of the same cost, the first in the file.
    cheapest = sorted(cases, key=lambda name: (not cases[name].answer.quick, cases[name].cost))
    chosen: set[str] = set()
    for checkpoint in [checkpoint.id for exercise in EXERCISES.values() for checkpoint in exercise.checkpoints]:
        failing = [name for name in cheapest if checkpoint in cases[name].answer.fails]
        chosen.update(sorted(failing, key=lambda name: name not in chosen)[:2])
    right = [name for name in cheapest if cases[name].answer.right]
    uncovered = {checkpoint for name in right for checkpoint in cases[name].checkpoints}
    while uncovered:
        most = max(right, key=lambda name: len(uncovered & {*cases[name].checkpoints}))
        chosen.add(most)
        cases[most] = Case(HERE[most], tuple(one for one in cases[most].checkpoints if one in uncovered))
        uncovered -= {*cases[most].checkpoints}
    return {name: case for name, case in cases.items() if name in chosen}


def exhaustive_cases() -> dict[str, Case]:
    """What `--exhaustive` judges: every answer by what it is about, and by what it names in `real`.

    A checkpoint passes one mistake, too, in each place where it fails others: what is wrong only for those.
    """
    cases, passed = dict[str, Case](), set[tuple[str, tuple[str, str]]]()
    known = {checkpoint.id: checkpoint for exercise in EXERCISES.values() for checkpoint in exercise.checkpoints}
    for name, answer in HERE.items():
        own = {*about(answer), *(answer.real if isinstance(answer.real, list) else ())}
        others = [one for one in in_reach(answer) if not known[one].fixtures & REAL and one not in own]
        news = {one for one in others if not {(one, place) for place in answer.places} <= passed}
        passed |= {(one, place) for one in news for place in answer.places}
        cases[name] = Case(answer, tuple(one for one in known if one in own or one in news))
    return cases


ANSWERS = dict(_answers())
LIVE = {name: answer for name, answer in ANSWERS.items() if answer.live}
HERE = {name: answer for name, answer in ANSWERS.items() if not answer.live}
