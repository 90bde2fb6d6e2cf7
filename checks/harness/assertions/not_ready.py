"""Why `python -m lab.serve` did not get ready: the learner's mistake with its hint, or a machine that is too busy."""

from __future__ import annotations

import re

from checks.harness.errors import Inconclusive, LearnerError, ServerDied, ServerError, ServerNotReady, StubError
from checks.harness.machine import FairClock, load_in_words
from checks.harness.plain_words import hint_for_printed
from checks.harness.source_lines import SourceLines

PING = (
    "uvicorn ends a worker that does not answer within 5 s (timeout_worker_healthcheck), also one that only waits for "
    "a free core"
)
_RUNS_ON = "a server that runs until it is asked to stop"
_HINTS = {
    r"import string": "With more than one worker uvicorn needs the app's name: each worker imports the app. "
    '`uvicorn.run("lab.service:create_app", factory=True, ...)`.',
    r"Error loading ASGI app|Could not import module": "The factory's name is `lab.service:create_app`, and "
    "`factory=True` makes uvicorn call it.",
    r"TypeError: .*'str'|invalid literal for int": "The environment holds text. PORT and WEB_CONCURRENCY both need "
    '`int(...)`: `int(os.environ.get("PORT", "8000"))`.',
    r"KeyError: '(HOST|PORT|WEB_CONCURRENCY)'": 'A variable may be missing: `os.environ.get("HOST", "127.0.0.1")`, '
    '`int(os.environ.get("PORT", "8000"))`, `int(os.environ.get("WEB_CONCURRENCY", "1"))`.',
    r"got an unexpected keyword argument": "`uvicorn.run` takes host, port, workers, factory and "
    "timeout_graceful_shutdown.",
}
"""What uvicorn or Python says last, and what mends it."""


def worker_was_killed(output: str) -> bool:
    """Whether uvicorn's supervisor replaced a worker that had not ended by its own mistake."""
    return "Child process [" in output and not re.search(r"Traceback|^ERROR|Maximum request", output, re.MULTILINE)


def blame_the_ping(output: str, clock: FairClock) -> None:
    """Raise where workers were killed because they did not answer uvicorn in time.

    Raises:
        Inconclusive: on a busy machine, where that says nothing about the learner's code.
        LearnerError: on an idle one, where it happened more than once.
    """
    if not worker_was_killed(output):
        return
    deaths = len(re.findall(r"Child process \[\d+\] died", output))
    if clock.busy or deaths < 2:
        raise Inconclusive(
            f"{PING}: it replaced {deaths} here, on a busy machine ({load_in_words()}). "
            "`timeout_worker_healthcheck=60` in `uvicorn.run` gives them more time."
        )
    raise LearnerError(
        f"uvicorn replaced {deaths} workers that had ended, or had not answered it within 5 s",
        wanted="workers that keep running",
        hint="Does something in your code end the process, or keep the interpreter busy for seconds?",
    )


def why_it_is_not_ready(error: ServerError, lines: SourceLines, clock: FairClock) -> Exception:
    """What the failed start of `python -m lab.serve` says: a `LearnerError`, or `Inconclusive`."""
    output = error.output
    where = lines.where_printed(output)
    if stub := re.search(r"NotImplementedError: (\d+\.\d+: .*)", output):
        return StubError(stub[1], where)
    if isinstance(error, ServerNotReady) and error.busy:
        return Inconclusive(
            f"this machine is too busy ({load_in_words()}): `python -m lab.serve` was not ready in time"
        )
    if isinstance(error, ServerDied) and error.exit_code is None:
        try:
            blame_the_ping(output, clock)
        except (Inconclusive, LearnerError) as blamed:
            return blamed
    if not isinstance(error, ServerDied):
        return LearnerError(
            str(error), where, wanted=_RUNS_ON, hint="Try it by hand: `PORT=8080 uv run python -m lab.serve`."
        )
    said = _last_words(output)
    hint = next((hint for words, hint in _HINTS.items() if re.search(words, output)), "") or hint_for_printed(said)
    return LearnerError(f"`python -m lab.serve` ended before it was ready: {said}", where, wanted=_RUNS_ON, hint=hint)


def _last_words(output: str) -> str:
    """The exception's line, or else the last line, without uvicorn's level in front."""
    said = [line.strip() for line in output.splitlines() if line.strip()]
    raised = [line for line in said if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)]
    return re.sub(r"^[A-Z]+:\s+", "", [*said, *raised][-1]) if said else "it printed nothing"
