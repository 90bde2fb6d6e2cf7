"""What a failed start says: the learner's mistake with its hint, or a machine that is too busy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from checks.harness.assertions.not_ready import blame_the_ping, why_it_is_not_ready
from checks.harness.errors import Inconclusive, LearnerError, ServerDied, ServerNotReady, StubError
from checks.harness.source_lines import SourceLines
from tests.clocks import Clock

PINGED = "\n".join(["INFO:     Started parent process [1]", *["INFO:     Child process [2] died"] * 3])


def why(error: ServerDied | ServerNotReady, *, busy: bool = False) -> Exception:
    """What the start says."""
    return why_it_is_not_ready(error, SourceLines(Path("/nowhere")), Clock(busy=busy))


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("WARNING: You must pass the application as an import string to enable 'reload' or 'workers'.", "app's name"),
        ('ERROR:    Error loading ASGI app. Attribute "app" not found in module "lab.service".', "create_app"),
        ("TypeError: '<' not supported between instances of 'str' and 'int'", "holds text"),
        ("KeyError: 'PORT'", "may be missing"),
        ("ZeroDivisionError: division by zero", ""),
    ],
)
def test_a_process_that_ends_brings_the_hint_for_its_last_words(output: str, hint: str) -> None:
    """Or none."""
    error = why(ServerDied("The server ended.", output, 1))

    assert isinstance(error, LearnerError)
    assert output.split(": ", 1)[-1].split("ERROR:")[-1].strip() in str(error) or output in str(error)
    assert hint in error.failure.hint
    assert bool(hint) == bool(error.failure.hint)


def test_a_stub_is_not_started() -> None:
    """With the checkpoint that waits for it."""
    error = why(ServerDied("The server ended.", "NotImplementedError: 4.2: main", 1))

    assert isinstance(error, StubError)
    assert str(error) == "4.2: main"


def test_workers_that_missed_their_ping() -> None:
    """Inconclusive on a busy machine, a failure on an idle one, and neither where they ended by themselves."""
    with pytest.raises(Inconclusive, match="timeout_worker_healthcheck=60"):
        blame_the_ping(PINGED, Clock(busy=True))
    with pytest.raises(LearnerError, match="uvicorn replaced 3 workers"):
        blame_the_ping(PINGED, Clock(busy=False))
    blame_the_ping("Traceback (most recent call last):\n" + PINGED, Clock(busy=True))
    assert isinstance(why(ServerDied("Its workers end.", PINGED, None), busy=True), Inconclusive)


def test_not_ready_in_time_is_inconclusive_on_a_busy_machine() -> None:
    """And the learner's mistake on an idle one, with the sentence first."""
    assert isinstance(why(ServerNotReady("It was not ready.", "", busy=True)), Inconclusive)
    error = why(ServerNotReady("It was not ready.", "\n".join(map(str, range(100)))))

    assert isinstance(error, LearnerError)
    assert error.failure.seen.splitlines()[0] == "It was not ready."
    assert len(error.failure.seen.splitlines()) <= 12


def test_a_fair_clock_is_asked_by_a_thread() -> None:
    """So that whoever measures need not."""
    from checks.harness.machine import fair_clock

    with fair_clock() as clock:
        time.sleep(0.05)

    assert 0 < clock.seconds() <= clock.real_seconds
