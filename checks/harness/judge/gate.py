"""The probes of a cell: the judge counts each call of the model, and lets it go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from checks.harness.cell.batch_probe import BatchProbe, items_of
from checks.harness.cell.probe import NUMBERS, Probe, numbers
from checks.harness.cell.wire import Broken, decode
from checks.harness.judge.cell import Cell
from checks.harness.judge.raised import Place

_MOST_WORDS = 300


class Gate:
    """The judge's side of the models in a cell.

    A call is `entered` when word of it has come, and has `left` when its answer is sent. Both times are taken here:
    they lie within the time that the call took in the cell, whatever that says.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._probes: list[Probe] = []
        self._batch_probes: list[BatchProbe] = []
        self._calls: dict[int, tuple[Any, Any]] = {}
        cell.on("enter", self._enter)
        cell.on("enter batch", self._enter_batch)
        cell.on("left", self._left)

    def add(self, probe: Probe) -> int:
        """The number that stands for this probe on the wire."""
        self._probes.append(probe)
        return len(self._probes) - 1

    def add_batch(self, probe: BatchProbe) -> int:
        """The number of a batch probe, which a cell knows it by."""
        self._batch_probes.append(probe)
        return len(self._batch_probes) - 1

    def _enter_batch(self, told: dict[str, Any]) -> None:
        probe, number, items = self._batch_probes[told["probe"]], told["call"], decode(told["items"], _nothing)
        if type(number) is not int or number in self._calls or type(items) is not list:
            raise ValueError("no call")
        call = probe.enter(items_of(items), thread=int(told["thread"]), on_loop=bool(told["on_loop"]))
        self._calls[number] = (probe, call)
        call.go = partial(self._go, number)
        if not probe.held:
            call.go()

    def _enter(self, told: dict[str, Any]) -> None:
        probe, number, features = self._probes[told["probe"]], told["call"], decode(told["features"], _nothing)
        if type(number) is not int or number in self._calls:
            raise ValueError("a call that is inside")
        probe.asked += 1
        if type(features) is not list or not numbers(features):
            seen, hint = (str(words)[:_MOST_WORDS] for words in told["wrong"])
            return self._cell.tell("go", call=number, wrong=[seen, NUMBERS, hint])
        path, line, function = told["caller"]
        place = Place(str(path), 1, str(function)).__code__
        blocking, on_loop = bool(told["blocking"]), bool(told["on_loop"])
        call = probe.enter(
            features, blocking=blocking, thread=int(told["thread"]), on_loop=on_loop, caller=(place, int(line))
        )
        self._calls[number] = (probe, call)
        call.go = partial(self._go, number)
        if not probe.held:
            self._soon(probe.stay(call), call.go)
        return None

    def _soon(self, seconds: float, go: Callable[[], None]) -> None:
        if seconds:
            self._cell.after(seconds, go)
        else:
            go()

    def _go(self, number: int) -> None:
        if number in self._calls:
            probe, call = self._calls.pop(number)
            answer = probe.answered(call)
            probe.leave(call)
            self._cell.tell("go", call=number, answer=answer)

    def _left(self, told: dict[str, Any]) -> None:
        """A call has ended that was not let go: its request was given up, say."""
        if found := self._calls.pop(told["call"], None):
            found[0].leave(found[1])


def _nothing(*_: object) -> object:
    raise Broken("no numbers")
