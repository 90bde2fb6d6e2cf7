"""`lab watch` in a terminal of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checks.harness import ROOT
from tests.guide.opened import LAB
from tests.waiting import SECONDS, ended, until


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_save_a_key_and_the_end(work: Path) -> None:
    """The card follows a save, keys go on, a long card scrolls, and the terminal is left as it was."""
    import termios

    ours, its = os.openpty()
    termios.tcsetwinsize(its, (60, 100))
    before = termios.tcgetattr(its)
    environment = os.environ | {"TERM": "xterm-256color"}
    seen = bytearray()
    os.set_blocking(ours, False)

    def shows(text: str) -> bool:
        try:
            while chunk := os.read(ours, 65536):
                seen.extend(chunk)
        except BlockingIOError:
            pass
        return text.encode() in seen

    command = [LAB, "watch", "--workspace", str(work)]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
        try:
            until(lambda: shows("Nothing is judged yet"), "the first screen")
            os.write(ours, b"n")
            until(lambda: shows("1.2   watching"), "the next checkpoint")
            shutil.copy(ROOT / "solutions/lab/predictions.py", work / "lab/predictions.py")
            until(lambda: shows("2 of 20 points"), "the verdict", SECONDS * 2)
            termios.tcsetwinsize(its, (14, 80))
            process.send_signal(signal.SIGWINCH)
            until(lambda: shows("lines 1 to "), "a card that is longer than the screen")
            seen.clear()
            os.write(ours, b"\x1b[B")
            until(lambda: shows("lines 2 to "), "the next line")
            os.write(ours, b"q")

            assert 0 == ended(process)
            assert before == termios.tcgetattr(its)
        finally:
            if process.poll() is None:
                process.kill()
            os.close(ours)
            os.close(its)
