"""Processes of Locust, each with the learner's locustfile: started, ended at a deadline, and what they printed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.harness.errors import Inconclusive
from checks.harness.judge.start import Started, Zygote, can_fork, interpreter
from checks.harness.machine import load_in_words
from checks.harness.processes.process_group import GONE_SECONDS, Tail, end_tree, run_guarded

IMPORT_SECONDS = 60.0
"""Fair seconds that the import of Locust may take, also where nothing has compiled it yet."""
_MODULE = "checks.harness.cell.locust_start"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process of Locust ended: `code` is None where it was killed, `printed` the end of its output."""

    code: int | None
    printed: str


class Locusts:
    """Starts processes of Locust in the folder `tree`.

    The first of them imports Locust, the others are forked from there: the import takes most of a second of computing.
    """

    def __init__(self, tree: Path) -> None:
        self._tree, self._env = tree, locust_environment(tree)
        self._zygote = Zygote(_MODULE, env=self._env, cwd=tree) if can_fork() else None

    @property
    def killed(self) -> bool:
        """Whether the process that forks the others has ended: no more of them can be started."""
        return self._zygote is not None and self._zygote.ended

    def run(
        self,
        arguments: Sequence[str],
        environment: dict[str, str],
        cpu_seconds: int,
        seconds: float,
        stop: Callable[[], bool],
    ) -> Ended:
        """Run Locust to its end. After so many seconds, or once `stop()` is true, all of it is killed.

        Raises `Inconclusive` where no process was there in time.
        """
        if self._zygote is None:
            command = interpreter(_MODULE, "run", str(cpu_seconds), *arguments)
            return Ended(*run_guarded(command, self._env | environment, self._tree, seconds, stop=stop))
        if self.killed:
            return Ended(None, "")
        forked = self._zygote.fork_printing(IMPORT_SECONDS)
        if forked is None:
            raise Inconclusive(f"no process of Locust could be started: {load_in_words()}")
        process, output = forked
        tail = Tail(output)
        try:
            with contextlib.suppress(OSError):  # one that was killed at once
                process.wire.send({"arguments": [*arguments], "environment": environment, "seconds": cpu_seconds})
            code = self._exit_code(process, seconds, stop)
        finally:
            end_tree(process.pid)
            process.wire.close()
            tail.thread.join(GONE_SECONDS)
        return Ended(code, tail.kept.decode(errors="replace"))

    def _exit_code(self, process: Started, seconds: float, stop: Callable[[], bool]) -> int | None:
        deadline = time.monotonic() + seconds
        code = None
        while code is None and time.monotonic() < deadline and not stop() and not self.killed:
            code = process.exit_code()
        return code

    def end(self) -> None:
        """End what runs."""
        if self._zygote:
            self._zygote.end()


def locust_arguments(*arguments: str, locustfiles: Sequence[Path]) -> list[str]:
    """Locust's command line, without its web page."""
    return ["-f", ",".join(map(str, locustfiles)), "--headless", "--only-summary", *arguments]


def locust_environment(tree: Path) -> dict[str, str]:
    """This process's environment without what a shell happens to export for Locust, and without proxies."""
    # Nothing else compiles Locust and its libraries: without the byte code each run spends three seconds on that.
    foreign = ("LOAD_", "LOCUST_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    # Without a user class Locust looks for tests in the locustfile, with pytest and all its plugins.
    quiet = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return ours | quiet | {"PYTHONPATH": str(tree), "NO_PROXY": "*", "no_proxy": "*"}
