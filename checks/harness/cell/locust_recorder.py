"""A second locustfile, beside the learner's: records what Locust does, and stands in for parts that are still stubs.

Runs inside Locust (`locust -f theirs.py,recorder.py`) and is imported nowhere else. `LOAD_RECORDER` is a JSON object:
`path` (where the record goes), `users`, `steps`, `step_seconds` and `pace_seconds` (as planned), `grace` (seconds after
the last step until a shape that does not end is ended) and `pause_seconds` (between the import of the locustfile and
the start). The record is one JSON object, see `recording`. In a distributed run the master and each worker write one.

A part that raises `NotImplementedError` must not keep the others from being judged. The recorder's own shape or wait
then takes its place, and the record names the part.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import locust.stats
from locust import LoadTestShape, User, constant_pacing, events
from locust.env import Environment
from locust.runners import Runner

PLAN: dict[str, Any] = json.loads(os.environ["LOAD_RECORDER"])
LOOK_SECONDS = 0.05
FAULTS_KEPT = 5
WINDOW_SECONDS = 1
"""What Locust takes for the present, 10 s by default: a run of 3 s stands for a longer one."""
HOPELESS = 3
"""So many faults and not one request: the run is ended."""

locust.stats.CURRENT_RESPONSE_TIME_PERCENTILE_WINDOW = WINDOW_SECONDS
RECORD: dict[str, Any] = {"requests": [], "users": [], "ticks": [], "faults": [], "lags": [], "overdue": False}
FAULTS = 0
ENVIRONMENT: Environment | None = None
NO_ANSWER = -1


@events.init.add_listener
def begin(environment: Environment, **_: object) -> None:
    """Put the guards around the learner's parts, now that Locust has them."""
    global ENVIRONMENT
    ENVIRONMENT = environment
    logging.getLogger().addHandler(Uncaught())
    shape = environment.shape_class
    RECORD["shape"] = type(shape).__name__ if shape else None
    environment.shape_class = Guarded(shape)
    environment.shape_class.runner = environment.runner
    for user in environment.user_classes:
        guard_wait(user)
    refuse_coroutines(environment)
    gevent.sleep(PLAN["pause_seconds"])
    RECORD["began"], RECORD["cpu_before"] = time.perf_counter(), time.process_time()
    gevent.spawn(look, environment.runner)


@events.request.add_listener
def record(request_type: str, name: str, response_time: float, exception: object, response: Any, **_: object) -> None:
    """Keep one request: when it ended, how long it took, whether it failed and why, and its number at the target."""
    headers = getattr(response, "headers", None) or {}
    number = int(headers.get("x-request-number") or NO_ANSWER)
    reason = getattr(response, "error", None)  # why there was no answer at all, whatever the task made of it
    said = " ".join(dict.fromkeys(str(words) for words in (exception, reason) if words))[:200] if exception else ""
    RECORD["requests"].append([time.perf_counter(), response_time, bool(exception), said, request_type, name, number])


@events.user_error.add_listener
def fault(user_instance: Any, exception: BaseException, **_: object) -> None:
    """Keep what a task raised; end the run where no request can come of it."""
    note("task", exception)
    stub = isinstance(exception, NotImplementedError)
    if stub or (not RECORD["requests"] and FAULTS >= HOPELESS):
        user = getattr(user_instance, "user", user_instance)
        gevent.spawn(user.environment.runner.quit)


@events.quitting.add_listener  # before the learner's own gate, which may end the program,
@events.quit.add_listener  # and after it, with what it raised
def end(**_: object) -> None:
    """Write the record: at once or not at all."""
    path = Path(PLAN["path"])
    partial = path.with_suffix(".partial")
    now = {
        "ended": time.perf_counter(),
        "cpu_seconds": time.process_time() - RECORD["cpu_before"],
        "decided": ENVIRONMENT is not None and ENVIRONMENT.process_exit_code is not None,
    }
    partial.write_text(json.dumps(RECORD | now))
    partial.replace(path)


class Guarded(LoadTestShape):
    """The learner's shape, with its answers written down; where it raises, one that climbs as planned."""

    abstract = True  # Locust must not take it for a second shape of its own
    resetting = 0.0
    """Seconds that it took to start both clocks: so far may theirs be behind."""

    def __init__(self, theirs: LoadTestShape | None) -> None:
        super().__init__()
        self.theirs = theirs

    def reset_time(self) -> None:
        """Start both clocks."""
        super().reset_time()
        if self.theirs:
            self.theirs.reset_time()
        self.resetting = self.get_run_time()

    def tick(self) -> Any:
        """What the learner's shape answers now."""
        began = self.get_run_time()
        step = int(began // PLAN["step_seconds"]) + 1
        answer: Any = None if step > PLAN["steps"] else (step * PLAN["users"], step * PLAN["users"])
        if self.theirs:
            self.theirs.runner = self.runner
            try:
                answer = numbers(self.theirs.tick())
            except Exception as error:
                note("tick", error)
        ended = self.get_run_time()
        kept = None if answer is None else list(answer[:2])
        RECORD["ticks"].append([max(began - self.resetting, 0), ended, kept, self.get_current_user_count()])
        if began > PLAN["steps"] * PLAN["step_seconds"] + PLAN["grace"]:
            RECORD["overdue"] = answer is not None
            return None
        return answer


def numbers(answer: Any) -> Any:
    """What a tick returned, with numbers in the place of what can be made one."""
    if answer is None:
        return None
    try:
        users, rate, *others = answer if isinstance(answer, tuple | list) else ()
        return (int(users), float(rate), *others)
    except (TypeError, ValueError):
        raise TypeError(f"tick returned {answer!r}, not (users, users per second) or None") from None


def refuse_coroutines(environment: Environment) -> None:
    """Note each task and each listener that is an `async def`: Locust calls it, and nothing of it runs."""
    for user in environment.user_classes:
        for task in user.tasks:
            note_coroutine("task", task)
    for listener in (*environment.events.quitting._handlers, *environment.events.test_stop._handlers):
        note_coroutine("listener", listener)


def note_coroutine(part: str, function: Any) -> None:
    """Keep that a function is an `async def`, if it is one."""
    if inspect.iscoroutinefunction(function):
        code = function.__code__
        words = f"{function.__name__} is an `async def`: Locust calls it, and nothing of it runs"
        keep(part, TypeError(words), [[code.co_filename, code.co_firstlineno, function.__name__]])


def guard_wait(user: type[User]) -> None:
    """Wait as planned where the learner's wait is still a stub."""
    theirs = user.wait_time

    def wait_time(self: User) -> float:
        try:
            seconds: float = theirs(self)
            if not isinstance(seconds, int | float):
                kind = "a function" if callable(seconds) else repr(seconds)
                raise TypeError(f"wait_time returned {kind}, not a number of seconds")
        except (NotImplementedError, TypeError) as error:
            note("wait_time", error)
            seconds = constant_pacing(PLAN["pace_seconds"])(self)
        return seconds

    user.wait_time = wait_time


class Uncaught(logging.Handler):
    """Keeps what a listener raised, such as the gate: Locust logs that, and goes on."""

    def emit(self, record: logging.LogRecord) -> None:
        """See whether this line was logged for an exception."""
        if "event handler" in str(record.msg) and (error := sys.exc_info()[1]):
            note("listener", error)


def look(runner: Runner) -> None:
    """Write down how many users there are, and how late this program gets to run."""
    while True:
        due = time.perf_counter() + LOOK_SECONDS
        gevent.sleep(LOOK_SECONDS)
        now = time.perf_counter()
        RECORD["lags"].append([due, now - due])
        RECORD["users"].append([now, runner.user_count])


def note(part: str, error: BaseException) -> None:
    """Keep an exception: in which part, what, and where."""
    global FAULTS
    FAULTS += 1
    frames = [[frame.filename, frame.lineno, frame.name] for frame in traceback.extract_tb(error.__traceback__)]
    keep(part, error, frames)


def keep(part: str, error: BaseException, frames: list[list[Any]]) -> None:
    """Write down a fault, once, and only the first few; `frames` are [file, line, function]."""
    noted = {
        "part": part,
        "type": type(error).__name__,
        "words": str(error)[:300],
        "frames": frames,
        "stub": isinstance(error, NotImplementedError),
    }
    if len(RECORD["faults"]) < FAULTS_KEPT and noted not in RECORD["faults"]:
        RECORD["faults"].append(noted)
