"""The line below the card that says what runs now; the next line of the card takes its place."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from checks.harness.progress import doing, forget
from checks.harness.report.card import ellipsis_of, shortened
from checks.harness.report.results import Checkpoint


class ProgressLine:
    """Writes to a terminal that can move back to the start of a line, and to nothing else."""

    def __init__(self, console: Console, folder: Path, *, enabled: bool) -> None:
        self._console, self._folder = console, folder
        self._enabled = enabled and console.is_terminal and not console.is_dumb_terminal
        self._checkpoint: Checkpoint | None = None
        self._since = 0.0

    def start(self, checkpoint: Checkpoint) -> None:
        """Show this checkpoint from now on."""
        forget(self._folder)  # it may be that of the checkpoint before
        self._checkpoint, self._since = checkpoint, time.monotonic()
        self.tick()

    def tick(self) -> None:
        """Write what it does now, for how long it has run, and for how long it will go on where that is known."""
        if self._checkpoint:
            what, left = doing(self._folder)
            begins, ends = f"   {self._checkpoint.id:<5}", f", {time.monotonic() - self._since:.0f} s"
            ends += f", about {max(left, 1):.0f} s left" if left is not None else ""
            room = self._console.width - 1 - len(begins) - len(ends)
            self._write(begins + shortened(what or self._checkpoint.title, room, ellipsis_of(self._console)) + ends)

    def clear(self) -> None:
        """Wipe the line."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._enabled:  # spaces wipe it, not a control code
            width = self._console.width - 1
            self._console.file.write(f"\r{text:<{width}}\r")
            self._console.file.flush()
