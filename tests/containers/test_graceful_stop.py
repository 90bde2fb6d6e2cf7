"""Services that are asked to end while they are at work: one that drains, one that does not, one that never hears."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.containers.graceful_stop import AT_WORK, Farewell, TooLate, farewell
from checks.harness.containers.local_service import Process, process
from checks.harness.containers.startup import until_it_answers
from checks.harness.errors import LearnerError
from checks.harness.processes.servers import free_port
from tests.containers.examples import image
from tests.waiting import SLOWER, upper_bound

SERVER = "uvicorn checks.harness.apps.reference:create_app --factory --host 0.0.0.0 --port $PORT"


@contextmanager
def serving(tmp_path: Path, lines: str, seconds: float) -> Iterator[Process]:
    """The image's command at work, its requests taking so long."""
    told = {"PORT": str(free_port()), "LAB_INFERENCE_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
    with process(image(tmp_path, lines), told) as running:
        until_it_answers(running)
        yield running


def asked_to_end(
    tmp_path: Path, lines: str, workers: int = 1, grace: float | None = None, init: bool = False
) -> tuple[Farewell, float]:
    """What happens when it is asked to end in the middle of a second's work, or of more; and how many seconds.

    `grace` is in such seconds, too.
    """
    for seconds in SLOWER:
        with serving(tmp_path / str(seconds), lines, seconds) as running, suppress(TooLate):
            running.container = replace(running.container, init=init)
            running.grace = running.grace if grace is None else grace * seconds
            seen = farewell(running, seconds, workers)
            too_slow = seen.busy and seen.lost_after is not None and seen.lost_after >= seen.left
            if seen.left > seconds / 2 and not too_slow:
                return seen, seconds
    with upper_bound():
        raise AssertionError("the requests were answered before it was asked to end, or the service was too slow")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_that_drains(tmp_path: Path, workers: int) -> None:
    """All in flight get their 200, a new connection gets no answer, and every worker ends its lifespan."""
    seen, seconds = asked_to_end(tmp_path, f"CMD exec {SERVER} --workers {workers}", workers)

    assert (AT_WORK, None) == (seen.answered, seen.lost_after)
    assert seen.exit_code in (0, -15)
    assert workers == seen.servers == seen.started == seen.finished
    assert seen.turned_away or workers > 1  # two of them notice half a second later
    assert 0 < seen.left <= seconds
    assert seen.seconds >= seen.left


def test_a_service_that_does_not_drain(tmp_path: Path) -> None:
    """It cuts them off at once, with a 500."""
    seen, seconds = asked_to_end(tmp_path, f"CMD exec {SERVER} --timeout-graceful-shutdown 0")

    assert [500] * AT_WORK == seen.answers
    assert 0 <= (seen.lost_after or -1) < seconds


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows which signals a process handles")
def test_a_shell_as_process_1_has_no_handler_for_the_signal(tmp_path: Path) -> None:
    """The kernel would drop it, so it is not sent: an ordinary process, which this one is here, would end by it."""
    seen, _ = asked_to_end(tmp_path, f"CMD {SERVER}; true")

    assert (AT_WORK, False, None) == (seen.answered, seen.heeded, seen.exit_code)
    assert seen.first.startswith("/bin/sh -c")


def test_a_shell_behind_an_init_ends_by_the_signal(tmp_path: Path) -> None:
    """All requests in flight lose their connection."""
    seen, _ = asked_to_end(tmp_path, f"CMD {SERVER}; true", init=True)

    assert seen.answered == 0
    assert seen.answers[0] in ("RemoteDisconnected", "ConnectionResetError")
    assert seen.finished == 0


def test_a_shell_that_handles_the_signal_and_passes_nothing_on(tmp_path: Path) -> None:
    """All get their answers, new requests too, until it is killed."""
    seen, seconds = asked_to_end(tmp_path, f"CMD trap : TERM; {SERVER}; true", grace=4)

    assert (AT_WORK, False) == (seen.answered, seen.turned_away)
    assert -9 == seen.exit_code
    assert seen.seconds >= 4 * seconds


def test_answers_that_come_too_soon(tmp_path: Path) -> None:
    """With nothing in flight there is nothing to be lost; an answer that is no 200 is told."""
    with serving(tmp_path / "a", f"CMD exec {SERVER}", 0) as running, pytest.raises(TooLate):
        farewell(running, 0, 1)
    with (
        serving(tmp_path / "b", "COPY tiny_server.py ./\nCMD exec python tiny_server.py 0.0.0.0 $PORT", 0) as running,
        pytest.raises(LearnerError, match=r"^POST /predict gave 501\n(?s:.*)\nwanted: 200"),
    ):
        farewell(running, 0, 1)
