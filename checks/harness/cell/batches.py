"""Plays a scene with the learner's `Batcher` on a virtual clock, and reports what happened as plain data.

It decides nothing. A scene is data, drawn by the judge: what arrives when, who leaves, how long the model takes, and
the outcome of each item. The report is data as well: the calls of the model, and how each caller ended.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from checks.harness.cell.scene_notes import Notes
from checks.harness.cell.scene_watch import Watch
from checks.harness.cell.virtual_time import virtual_time
from checks.harness.errors import LearnerError
from checks.harness.plain_words import hint_for
from checks.harness.source_lines import SourceLines

Data = dict[str, Any]

TURNS = 5
"""Turns of the loop in which a task that has nothing more to do ends."""


def play(batcher: Callable[..., Any], scene: Data, lines: SourceLines) -> Data:
    """What happens when a `Batcher` of the learner's is used as the scene says.

    The scene: `max_batch`, `window`, the model's `base` and `item` seconds, `outcomes` (one for each item, by number),
    `values` (what the items are), `calls` (of the calls that do something else: by number, see `_Model`), `steps`
    (`{"at": seconds, "do": "submit" | "cancel" | "close" | "report", "item": number}`, in order) and `horizon`, the
    seconds after which no caller is waited for any more. With `noted` it is played to see where things happen.

    The report: `calls`, `callers` (by item), `closed` (a caller each), `reports`, `tasks` (how many are left at the
    end), `clock` (the learner's line that reads another clock than the loop's, if one does), and of a scene that is
    `noted` the `notes` (see `Notes.told`).

    Raises what the learner's code raises where it is no caller's: in `Batcher(...)` and in `report()`. Raises
    as well what explains the rest: a stub that was called, a `time.sleep` on the loop's thread, a mistake that ended a
    task or a caller, code that computes for ever.
    """
    watch = Watch(lines)
    notes = Notes(lines, batcher) if scene.get("noted") else None
    with watch.over():
        told = virtual_time(_Scene(scene, watch, notes).play(batcher))
    watch.raise_of_stubs()
    fails = any("ends" in other for other in scene["calls"].values())
    if not fails or watch.slept:  # where the model fails, callers may get any exception
        served = all(one["how"] for one in [*told["callers"].values(), *told["closed"]])
        watch.explain(served=served, left=any(step["do"] == "cancel" for step in scene["steps"]))
    return told | {"clock": watch.clock}


class _Bad(Exception):
    """The outcome of an item that has no answer."""


class _Broken(Exception):
    """What the model raises for a whole batch."""


class _Model:
    """The model of a scene. A call may do something else: `takes` other seconds, or end in another way (`ends`).

    `ends` is "raises", "short" (an outcome is missing), "long" (one too many), "none" (no list at all), "tuple", "set"
    or "dict" (all outcomes, in such a one; a text is the key of each).
    """

    def __init__(self, scene: Data, items: Sequence[object], notes: Notes | None) -> None:
        self.scene, self.items, self.notes = scene, items, notes
        self.calls: list[Data] = []
        self.inside = 0

    async def run(self, batch: Any) -> Any:
        """What the learner's `Batcher` awaits."""
        loop, other = asyncio.get_running_loop(), self.scene["calls"].get(str(len(self.calls)), {})
        given = list(batch)
        call: Data = {
            "items": [self._number(item) for item in given],
            "entered": loop.time(),
            "left": None,
            "cancelled": False,
            "inside": self.inside,
        }
        self.calls.append(call)
        if self.notes:
            self.notes.model_is_called()
        self.inside += 1
        try:
            await asyncio.sleep(other.get("takes", self.scene["base"] + self.scene["item"] * len(given)))
        except asyncio.CancelledError:
            call["cancelled"] = True
            raise
        finally:
            self.inside -= 1
            call["left"] = loop.time()
        outcomes = [_outcome(self.scene["outcomes"][number]) if number >= 0 else None for number in call["items"]]
        match other.get("ends"):
            case "raises":
                raise _Broken(other["words"])
            case "short":
                return outcomes[:-1]
            case "long":
                return [*outcomes, None]
            case "none":
                return None
            case "tuple":
                return tuple(outcomes)
            case "set":
                return set(outcomes)
            case "dict":
                return {f"outcome {number}": outcome for number, outcome in enumerate(outcomes)}
            case _:
                return outcomes

    def _number(self, item: object) -> int:
        """Which item it is, however many are equal to it; -1 for none."""
        return next((number for number, other in enumerate(self.items) if other is item), -1)


class _Scene:
    def __init__(self, scene: Data, watch: Watch, notes: Notes | None) -> None:
        self.scene, self.watch, self.notes = scene, watch, notes
        self.items = [[value] for value in scene["values"]]  # lists: two may be equal, and none is hashable
        self.model = _Model(scene, self.items, notes)
        self.callers: dict[int, Data] = {}
        self.closed: list[Data] = []
        self.reports: list[Any] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.closing: list[asyncio.Task[None]] = []

    async def play(self, batcher_class: Callable[..., Any]) -> Data:
        own, loop = asyncio.current_task(), asyncio.get_running_loop()
        with self.watch.tasks_of(loop), self.notes.over(loop) if self.notes else nullcontext():
            try:
                await self._steps(batcher_class(self.model.run, self.scene["max_batch"], self.scene["window"]))
            except asyncio.CancelledError:
                if not self.watch.spun:
                    raise
            for _ in range(TURNS):
                await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not own and task not in self.tasks.values()]
        # Copies: what is cancelled with the loop, after this, is no part of the scene.
        noted = {"notes": self.notes.told(self.watch.unseen, left)} if self.notes else {}
        return noted | {
            "calls": [dict(call) for call in self.model.calls],
            "callers": {str(number): dict(caller) for number, caller in self.callers.items()},
            "closed": [dict(one) for one in self.closed],
            "reports": self.reports,
            "tasks": len(left),
        }

    async def _steps(self, batcher: Any) -> None:
        loop = asyncio.get_running_loop()
        for step in self.scene["steps"]:
            if step["at"] > loop.time():
                await asyncio.sleep(step["at"] - loop.time())
            await self._do(step, batcher)
        if everything := [*self.tasks.values(), *self.closing]:
            await asyncio.wait(everything, timeout=self.scene["horizon"])

    async def _do(self, step: Data, batcher: Any) -> None:
        loop, number = asyncio.get_running_loop(), step.get("item", -1)
        match step["do"]:
            case "submit":
                told = self.callers[number] = {"came": loop.time(), "ended": None, "how": None, "what": None}
                self.tasks[number] = loop.create_task(
                    self._told(_method(batcher, "submit"), [self.items[number]], told, number)
                )
            case "cancel":
                self.tasks[number].cancel()
            case "close":
                told = {"came": loop.time(), "ended": None, "how": None, "what": None}
                self.closed.append(told)
                self.closing.append(loop.create_task(self._told(_method(batcher, "close"), [], told)))
            case "turn":
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            case _:
                self.reports.append(_method(batcher, "report")())

    async def _told(self, call: Callable[..., Any], args: list[Any], told: Data, number: int = -1) -> None:
        """Await a call, and note how and when it ended: "answered", "raised" or "cancelled"."""
        raised: BaseException | None = None
        try:
            got = await _awaitable(call(*args), call)
            how, what = ("returned", _words(got)) if isinstance(got, BaseException) else ("answered", got)
        except asyncio.CancelledError as error:
            how, what, raised = "cancelled", None, error
        except Exception as error:
            self.watch.errors.append(error)
            how, what, raised = "raised", _words(error), error
        if self.notes:
            self.notes.caller_ended(number, raised)
        told |= {"ended": asyncio.get_running_loop().time(), "how": how, "what": what}


def _method(batcher: Any, name: str) -> Callable[..., Any]:
    """A method of the learner's batcher, or an error that says what there is in its place."""
    try:
        method: Callable[..., Any] = getattr(batcher, name)
    except AttributeError as error:
        wanted = f"the method `{name}`, as the stub has it"
        raise LearnerError(f"a `Batcher` has no `{name}`", wanted=wanted, hint=hint_for(error)) from None
    return method


def _awaitable(given: Any, call: Callable[..., Any]) -> Any:
    if inspect.isawaitable(given):
        return given
    name = getattr(call, "__name__", "it")
    hint = f"`async def {name}(...)`" + (
        ", and no `yield` in it: that makes it a generator." if inspect.isasyncgen(given) else "."
    )
    raise LearnerError(f"{name} returned {given!r:.60}", wanted="something to await", hint=hint)


def _words(error: BaseException) -> list[str]:
    return [type(error).__name__.strip("_"), str(error)[:300]]


def _outcome(outcome: Any) -> Any:
    """`["bad", words]` stands for an exception in the place of an answer, `["answer", value]` for an answer."""
    kind, what = outcome
    return _Bad(what) if kind == "bad" else what
