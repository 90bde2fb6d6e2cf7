"""Plays a scene with the learner's `Batcher` on a virtual clock, and reports what happened as plain data.

It decides nothing. A scene is data, drawn by the judge: what arrives when, who leaves, how long the model takes, and
the outcome of each item. The report is data as well: the calls of the model, and how each caller ended.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from checks.harness.cell.virtual_time import virtual_time

Data = dict[str, Any]

CPU_SECONDS = 3.0
"""CPU time of this process after which a scene, which takes milliseconds, will not come to its end."""
LOOK = 0.2
TURNS = 5
"""Turns of the loop in which a task that has nothing more to do ends."""


def play(batcher: Callable[..., Any], scene: Data) -> Data:
    """What happens when a `Batcher` of the learner's is used as the scene says.

    The scene: `max_batch`, `window`, the model's `base` and `item` seconds, `outcomes` (one for each item, by number),
    `values` (what the items are), `calls` (of the calls that do something else: by number, see `_Model`), `steps`
    (`{"at": seconds, "do": "submit" | "cancel" | "close" | "report", "item": number}`, in order) and `horizon`, the
    seconds after which no caller is waited for any more.

    The report: `calls`, `callers` (by item), `closed` (a caller each), `reports`, `tasks` (how many are left at the
    end), `over` (whether the scene came to its end), `unhandled` (what the loop says that no code has caught).

    Raises what the learner's code raises where it is no caller's: in `Batcher(...)` and in `report()`.
    """
    return virtual_time(_Scene(scene).play(batcher))


class _Bad(Exception):
    """The outcome of an item that has no answer."""


class _Broken(Exception):
    """What the model raises for a whole batch."""


class _Model:
    """The model of a scene. A call may do something else: `takes` other seconds, or end in another way (`ends`).

    `ends` is "raises", "short" (an outcome is missing), "long" (one too many) or "none" (no list at all).
    """

    def __init__(self, scene: Data, items: Sequence[object]) -> None:
        self.scene, self.items = scene, items
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
            case _:
                return outcomes

    def _number(self, item: object) -> int:
        """Which item it is, however many are equal to it; -1 for none."""
        return next((number for number, other in enumerate(self.items) if other is item), -1)


class _Scene:
    def __init__(self, scene: Data) -> None:
        self.scene = scene
        self.items = [[value] for value in scene["values"]]  # lists: two may be equal, and none is hashable
        self.model = _Model(scene, self.items)
        self.callers: dict[int, Data] = {}
        self.closed: list[Data] = []
        self.reports: list[Any] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.closing: list[asyncio.Task[None]] = []
        self.unhandled: list[str] = []

    async def play(self, batcher_class: Callable[..., Any]) -> Data:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.unhandled.append(str(context.get("message"))[:300]))
        batcher = batcher_class(self.model.run, self.scene["max_batch"], self.scene["window"])
        own = asyncio.current_task()
        enough = threading.Event()
        threading.Thread(target=_end_what_spins, args=(loop, own, enough), daemon=True).start()
        over = True
        try:
            for step in self.scene["steps"]:
                if step["at"] > loop.time():
                    await asyncio.sleep(step["at"] - loop.time())
                await self._do(step, batcher)
            if everything := [*self.tasks.values(), *self.closing]:
                _, late = await asyncio.wait(everything, timeout=self.scene["horizon"])
                over = not late
        except asyncio.CancelledError:
            over = False
        finally:
            enough.set()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not own and task not in self.tasks.values()]
        # Copies: what is cancelled with the loop, after this, is no part of the scene.
        return {
            "calls": [dict(call) for call in self.model.calls],
            "callers": {str(number): dict(caller) for number, caller in self.callers.items()},
            "closed": [dict(one) for one in self.closed],
            "reports": self.reports,
            "tasks": len(left),
            "over": over,
            "unhandled": self.unhandled,
        }

    async def _do(self, step: Data, batcher: Any) -> None:
        loop, number = asyncio.get_running_loop(), step.get("item", -1)
        match step["do"]:
            case "submit":
                told = self.callers[number] = {"came": loop.time(), "ended": None, "how": None, "what": None}
                self.tasks[number] = loop.create_task(_told(batcher.submit, [self.items[number]], told))
            case "cancel":
                self.tasks[number].cancel()
            case "close":
                told = {"came": loop.time(), "ended": None, "how": None, "what": None}
                self.closed.append(told)
                self.closing.append(loop.create_task(_told(batcher.close, [], told)))
            case "turn":
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            case _:
                self.reports.append(batcher.report())


async def _told(call: Callable[..., Any], args: list[Any], told: Data) -> None:
    """Await a call, and note how and when it ended: "answered", "raised" or "cancelled"."""
    try:
        got = await call(*args)
        how, what = ("returned", _words(got)) if isinstance(got, BaseException) else ("answered", got)
    except asyncio.CancelledError:
        how, what = "cancelled", None
    except Exception as error:
        how, what = "raised", _words(error)
    told |= {"ended": asyncio.get_running_loop().time(), "how": how, "what": what}


def _words(error: BaseException) -> list[str]:
    return [type(error).__name__.strip("_"), str(error)[:300]]


def _outcome(outcome: Any) -> Any:
    """`["bad", words]` stands for an exception in the place of an answer, `["answer", value]` for an answer."""
    kind, what = outcome
    return _Bad(what) if kind == "bad" else what


def _end_what_spins(loop: Any, scene: Any, enough: threading.Event) -> None:
    """Cancel the scene when this process has computed for long: code that waits for another clock spins here."""
    begun = time.process_time()
    while not enough.wait(LOOK):
        if time.process_time() - begun > CPU_SECONDS:
            loop.call_soon_threadsafe(scene.cancel)
            return
