"""1.8's arithmetic: a burst in waves."""

from __future__ import annotations

import math
from typing import Any

from checks.harness.assertions.answers import close, is_number
from checks.harness.errors import Failure


def waves_hint(kind: str, requests: int) -> str:
    """How the waves of such a burst are counted."""
    if not requests:
        return "Without requests nothing takes any time: 0.0."
    return {
        "async": "Awaited calls wait side by side: a burst of any size takes one model call.",
        "threaded": "At most `threads` calls run together. A last wave that is not full takes as long as a full one: "
        "`math.ceil(requests / threads)`. The default of `threads` is THREAD_POOL_SIZE.",
        "blocking": "One at a time: the last one waits for all the others.",
    }[kind]


def must_be_waves(got: Any, call: str, kind: str, requests: int, seconds: float, threads: int) -> None:
    """The burst goes through in full waves of the model's time each."""
    waves = {"async": min(requests, 1), "threaded": math.ceil(requests / threads), "blocking": requests}[kind]
    assert is_number(got), Failure(f"{call} returned {got!r}", wanted="a number of seconds", hint="No text, no unit.")
    assert close(got, waves * seconds), Failure(
        f"{call} is {got:g}",
        wanted=f"{waves * seconds:g}, {waves} wave{'s' * (waves != 1)} of {seconds:g} s",
        hint=waves_hint(kind, requests),
    )
