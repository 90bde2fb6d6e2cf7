"""The same call again and again, in one go: what it costs is measured from outside."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Ring:
    """A window whose `record` costs the same at any size."""

    def __init__(self, size: int) -> None:
        self.record: Callable[[float], None] = deque[float](maxlen=size).append


def repeat(method: Callable[[float], object], argument: float, times: int) -> None:
    """Call it so many times."""
    for _ in range(times):
        method(argument)
