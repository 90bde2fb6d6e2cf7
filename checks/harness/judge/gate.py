"""The probes of a cell: the judge counts each call of the model, and lets it go on."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from checks.harness.cell.batch_probe import BatchProbe, items_of
from checks.harness.cell.decoder_probe import DecoderProbe, Said
from checks.harness.cell.probe import NUMBERS, Probe, numbers
from checks.harness.cell.stacks import Lines
from checks.harness.cell.wire import decode, no_things
from checks.harness.judge.cell import Cell
from checks.harness.judge.raised import Place

_MOST_WORDS = 300

P = TypeVar("P", Probe, BatchProbe)


class Gate:
    """The judge's side of the models in a cell.

    A call is `entered` when word of it has come, and has `left` when its answer is sent. Both times are taken here:
    they lie within the time that the call took in the cell, whatever that says.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._probes: list[Any] = []
        self._calls: dict[int, tuple[Any, Any]] = {}
        self._questions: dict[int, tuple[DecoderProbe, int]] = {}
        """Of streams that wait for a token."""
        cell.on("enter", self._enter)
        cell.on("enter batch", self._enter_batch)
        cell.on("decoder", self._decoder)
        cell.on("left", self._left)

    def add(self, probe: Probe | BatchProbe | DecoderProbe) -> int:
        """The number that stands for this probe on the wire."""
        self._probes.append(probe)
        return len(self._probes) - 1

    def _enter_batch(self, told: dict[str, Any]) -> None:
        probe, number, items = self._called(told, BatchProbe), told["call"], decode(told["items"], no_things)
        if type(items) is not list:
            raise ValueError("no call")
        call = probe.enter(items_of(items), thread=int(told["thread"]), on_loop=bool(told["on_loop"]))
        self._hold(number, probe, call)

    def _enter(self, told: dict[str, Any]) -> None:
        probe, number, features = self._called(told, Probe), told["call"], decode(told["features"], no_things)
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
        self._hold(number, probe, call)
        return None

    def _called(self, told: dict[str, Any], kind: type[P]) -> P:
        """The probe of a call that has begun. Raises `ValueError` where it is none of that kind, or no new call."""
        probe = self._probes[told["probe"]]
        if type(told["call"]) is not int or told["call"] in self._calls or not isinstance(probe, kind):
            raise ValueError("a call that is inside")
        return probe

    def _decoder(self, told: dict[str, Any]) -> None:
        probe = self._probes[told["probe"]]
        if not isinstance(probe, DecoderProbe):
            raise ValueError("no decoder")
        match told:
            case {"what": "wants"}:
                probe.wants(lines_of(told["caller"]))
            case {"what": "holds"}:
                probe.holds()
            case {"what": "gives back"}:
                probe.gives_back(held=bool(told["held"]), caller=lines_of(told["caller"]))
            case {"what": "begins", "stream": int(stream), "prompt": str(prompt), "max_tokens": int(most)}:
                probe.begins(stream, prompt, most, held=bool(told["held"]), caller=lines_of(told["caller"]))
            case {"what": "misused", "given": [str(one), str(other)]}:
                probe.misused([one[:_MOST_WORDS], other[:_MOST_WORDS]], lines_of(told["caller"]))
            case {"what": "asks", "stream": int(stream), "call": int(call)} if call not in self._questions:
                self._questions[call] = (probe, probe.asks(stream, partial(self._say, call)))
            case {"what": "ends", "stream": int(stream)}:
                probe.ends(stream)
            case _:
                raise ValueError("nothing that a decoder does")

    def _say(self, call: int, said: Said) -> None:
        if found := self._questions.pop(call, None):
            found[0].gave_up(found[1])
            self._cell.tell("go", call=call, **said)

    def _hold(self, number: int, probe: Any, call: Any) -> None:
        """Keep a call until the probe lets it go; one that is not held, for as long as its stay."""
        self._calls[number] = (probe, call)
        call.go = partial(self._go, number)
        if probe.held:
            return
        if seconds := probe.stay(call):
            self._cell.after(seconds, call.go)
        else:
            call.go()

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
        if asked := self._questions.pop(told["call"], None):
            asked[0].gave_up(asked[1])


def lines_of(told: list[Any]) -> Lines:
    """The lines of a stack. Raises `ValueError` where they are none."""
    return [(str(path), int(number), str(function)) for path, number, function in told]
