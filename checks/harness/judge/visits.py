"""Requests to a bare admission control: step by step, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from checks.harness.cell.visitors import Deed, Told, Visitors
from checks.harness.cell.wire import Broken, decode, no_things
from checks.harness.judge.handles import Handle

Take = Callable[[Sequence[Deed], float], None]
"""Takes a step: does all this at once, and waits for so many seconds, or for some turns of the loop."""


@contextmanager
def visits(control: Any, limits: dict[str, Any], told: Told) -> Iterator[Take]:
    """Steps of visitors to a control with these limits. `told` is called with what became of each of them."""
    if not isinstance(control, Handle):
        visitors = Visitors(control, limits, told)
        try:
            yield visitors.step
        finally:
            visitors.end()
        return
    cell = control._cell

    def hear(event: dict[str, Any]) -> None:
        error = None if event["raised"] is None else cell.raised(event["raised"])
        body, status = decode(event["body"], no_things), event["status"]
        if type(body) is not bytes or type(event["visitor"]) is not int:
            raise Broken("no visitor")
        told(event["visitor"], str(event["how"]), status if type(status) is int else None, body, error)

    def take(deeds: Sequence[Deed], seconds: float) -> None:
        cell.ask("step", deeds=list(deeds), seconds=seconds)  # its reply is behind all that it has to tell

    cell.on("visitor", hear)
    cell.ask("visitors", of=control._number, limits=limits)
    yield take
