"""`lab watch` in a terminal of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.report.results import Checkpoint, Exercise, Run, write
from tests.guide.opened import LAB
from tests.waiting import SECONDS, ended, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")


@dataclass
class Terminal:
    """`lab watch`, the two ends of its terminal, and what it has written so far."""

    process: subprocess.Popen[bytes]
    ours: int
    its: int
    seen: bytearray = field(default_factory=bytearray)

    def shows(self, text: str) -> bool:
        """Whether it has written this by now."""
        try:
            while chunk := os.read(self.ours, 65536):
                self.seen.extend(chunk)
        except BlockingIOError:
            pass
        return text.encode() in self.seen


@contextmanager
def watching(work: Path, term: str, rows: int, columns: int) -> Iterator[Terminal]:
    """`lab watch` on a workspace, in a terminal of this kind and size; the terminal is left as it was."""
    import termios

    ours, its = os.openpty()
    termios.tcsetwinsize(its, (rows, columns))
    before = termios.tcgetattr(its)
    os.set_blocking(ours, False)
    command = [LAB, "watch", "--workspace", str(work)]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=os.environ | {"TERM": term}) as process:
        try:
            yield Terminal(process, ours, its)
            os.write(ours, b"q")
            assert 0 == ended(process)
            assert before == termios.tcgetattr(its)
        finally:
            if process.poll() is None:
                process.kill()
            os.close(ours)
            os.close(its)


@pytest.mark.exhaustive
def test_a_save_a_key_and_the_end(work: Path) -> None:
    """The card follows a save, keys go on, a long card scrolls."""
    import termios

    with watching(work, "xterm-256color", 60, 100) as terminal:
        until(lambda: terminal.shows("Nothing is judged yet"), "the first screen")
        os.write(terminal.ours, b"n")
        until(lambda: terminal.shows("1.2   watching"), "the next checkpoint")
        shutil.copy(ROOT / "solutions/lab/predictions.py", work / "lab/predictions.py")
        until(lambda: terminal.shows("2 of 20 points"), "the verdict", SECONDS * 2)
        termios.tcsetwinsize(terminal.its, (14, 80))
        terminal.process.send_signal(signal.SIGWINCH)
        until(lambda: terminal.shows("lines 1 to "), "a card that is longer than the screen")
        terminal.seen.clear()
        os.write(terminal.ours, b"\x1b[B")
        until(lambda: terminal.shows("lines 2 to "), "the next line")


@pytest.mark.exhaustive
def test_a_terminal_that_cannot_move_its_cursor(work: Path) -> None:
    """With TERM=dumb the card is printed, whole, after what changes it: nothing in it is a control sequence."""
    with watching(work, "dumb", 24, 80) as terminal:
        until(lambda: terminal.shows("Nothing is judged yet"), "the first card")
        os.write(terminal.ours, b"nc")
        until(lambda: terminal.shows("1.2   running 1.2"), "the beginning of a run")
        until(lambda: terminal.shows("again  uv run pytest"), "the last line of its card", SECONDS * 2)

    assert b"1.2   watching" in terminal.seen
    assert b"\x1b" not in terminal.seen


def test_the_checkpoint_in_hand_is_shown_in_full(work: Path) -> None:
    """The key for the next one shows that one and no longer the first open one, from its first line on."""
    failed = [
        Checkpoint(name, "a title", 1, verdict="failed", seen=f"what {name} did. " * 20, hint=f"do {name}")
        for name in ("1.1", "1.2")
    ]
    run = Run("it", "0" * 12, 1, "2026-01-01T10:00:00+00:00", {}, [Exercise(1, "First", "", failed)])
    (work / ".lab").mkdir()
    write(run, work / ".lab/last-run.json")
    with watching(work, "xterm-256color", 12, 80) as terminal:
        until(lambda: terminal.shows("1.1   watching"), "the first screen")
        assert not terminal.shows("1.2 a title - failed")
        os.write(terminal.ours, b"n")
        until(lambda: terminal.shows("1.2 a title - failed"), "the next checkpoint's own failure")
        terminal.seen.clear()
        os.write(terminal.ours, b"3")
        until(lambda: terminal.shows("Nothing of exercise 3 is judged yet"), "no card of another exercise")
        assert terminal.shows("3.1   watching")
        assert terminal.shows("lessons/ex3.md, step 1")
        assert not terminal.shows("1.1 a title")
