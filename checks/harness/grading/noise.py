"""Whether a run was too noisy to judge: a miss is compared with a control, or with how busy the machine is.

Which deadlines and bounds there are, each with its control: `docs/architecture.md`. A deadline itself is judged by
`grading/runner.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from checks.harness.errors import Failure, Inconclusive
from checks.harness.machine import FairClock, load_in_words

LONGEST_WAIT = 60.0
"""Seconds after which `holds_soon` gives up, also on a machine where fair time hardly passes."""

EARLY = 0.002
"""Seconds by which a sleep may end early (uvloop's do, by up to 1 ms): what a lower bound on real time allows."""


def best_of(measure: Callable[[], float], wanted: float, *, rounds: int = 3) -> float:
    """The best of up to so many rounds, ending at the first that reaches `wanted`.

    Noise only ever makes a service look slower: one good round is proof, several bad ones are none.
    """
    best = measure()
    for _ in range(rounds - 1):
        if best >= wanted:
            break
        best = max(best, measure())
    return best


def blame_the_machine_unless(
    control: Callable[[], float],
    wanted: float,
    clock: FairClock,
    what: str,
    *,
    rounds: int = 3,
    likely: Failure | None = None,
) -> float:
    """After a miss: measure a control of known good behaviour in the same conditions, and return the least it reached.

    `clock` ran during the miss, and `what` is in doubt. Raises `Inconclusive` where the machine was busy then, since
    the control may run in quieter seconds; and where the control misses `wanted` too, in any of the rounds: where one
    in two misses, three misses of a right answer and one good round of the control are no rare thing.
    """
    blame_the_machine_if_busy(clock, what, likely)
    least = math.inf
    for _ in range(rounds):
        least = min(least, control())
        if least < wanted:
            raise Inconclusive(
                f"this machine is too busy: the lab's own service, known to be right, reached {least:.1f} of the "
                f"wanted {wanted:.1f} in the same seconds"
            )
    return least


def blame_the_machine_if(control: float, limit: float) -> None:
    """After a cost ratio above `limit`: raise `Inconclusive` where a control's, which is 1 for certain, is so, too."""
    if control > limit:
        raise Inconclusive(
            "this machine is too busy: the lab's own code, which costs the same in both cases, measured "
            f"{control:.1f} times as much"
        )


def blame_the_machine_if_busy(clock: FairClock, what: str, likely: Failure | None = None) -> None:
    """Raise `Inconclusive` where everything took several times as long as on an idle machine. `what` is in doubt.

    `likely` is the failure that follows where the machine was idle.
    """
    if clock.busy:
        raise Inconclusive(f"this machine is too busy ({load_in_words()}) to tell {what}", likely)


def blame_the_machine_if_unanswered(clock: FairClock, path: str, limit: float) -> None:
    """After a request without an answer: raise `Inconclusive` where the machine was busy.

    `clock` ran meanwhile. Once it has counted `limit` seconds, an idle machine would have waited long enough as well.
    """
    if clock.busy and clock.seconds() < limit:
        raise Inconclusive(f"{path} was not answered within {limit:g} s, at {load_in_words()}")


def holds_soon(condition: Callable[[], object], seconds: float, what: str) -> bool:
    """Wait until the condition holds, for so many seconds of fair time: whether it does.

    Raises `Inconclusive` where it does not, on a machine too busy to tell `what`.
    """
    clock = FairClock()
    while not condition():
        if clock.seconds() > seconds or clock.real_seconds > LONGEST_WAIT:
            blame_the_machine_if_busy(clock, what)
            return False
        time.sleep(0.02)
    return True
