"""Clocks of a machine that was busy, or was not, whatever this one is."""

from __future__ import annotations

from checks.harness.machine import FairClock


class Clock(FairClock):
    """One that says so."""

    def __init__(self, *, busy: bool) -> None:
        super().__init__()
        self._busy = busy

    @property
    def busy(self) -> bool:
        """As it was given."""
        return self._busy
