"""Where the runs of a class happen: on threads of this process, or on the workers of a dask scheduler."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checks.harness.classroom.jobs import version
from checks.harness.errors import printable
from checks.harness.walls.choice import choose
from checks.harness.walls.wall import NoCell

ANSWER_SECONDS = 30
"""How long a scheduler, and then its workers, may take to answer."""


class NoWorkers(Exception):
    """There is no scheduler, or one of its workers cannot grade this class: one sentence."""


@contextmanager
def threads(jobs: int) -> Iterator[Executor]:
    """So many runs at a time on this machine."""
    with ThreadPoolExecutor(jobs) as executor:
        yield executor


@contextmanager
def workers(address: str, cell: str, paths: Sequence[Path]) -> Iterator[Executor]:
    """As many runs at a time as the scheduler's workers have threads.

    Args:
        address: such as `tcp://10.0.0.5:8786`.
        cell: what each run will be in.
        paths: what every worker has to find where this process finds it.

    Raises:
        NoWorkers: nobody answers there, or a worker has another lab, not these paths, or no such cell.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise NoWorkers("`distributed` is not installed: `uv sync --group cluster` installs it") from error
    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise NoWorkers(f"no dask scheduler answers at {address}: {printable(str(error))}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise NoWorkers(f"the scheduler at {address} has no workers")
        _examine(client, cell, [str(path.resolve()) for path in paths])
        yield client.get_executor(pure=False)


def _examine(client: Any, cell: str, paths: list[str]) -> None:
    answers = client.run(_look, cell, paths, on_error="return")
    for worker, answer in sorted(answers.items()):
        if isinstance(answer, BaseException):
            where = "start it in the lab's folder, with the lab's own Python"
            raise NoWorkers(f"the worker {worker} cannot load the lab ({printable(str(answer))}): {where}")
        found, python, missing, why = answer
        if (found, python) != (version(), sys.version_info[:2]):
            raise NoWorkers(f"the worker {worker} has another version of the lab or of Python")
        if missing:
            raise NoWorkers(f"the worker {worker} has no {missing}: the folders have to be shared, at the same paths")
        if why:
            raise NoWorkers(f"the worker {worker}: {why}")


def _look(cell: str, paths: list[str]) -> tuple[str, tuple[int, int], str, str]:
    """On a worker: its lab, its Python, the first path that is not there, and why it cannot have the cell."""
    try:
        choose(cell)
        why = ""
    except NoCell as error:
        why = str(error)
    return version(), sys.version_info[:2], next((path for path in paths if not Path(path).exists()), ""), why
