"""From an exception to a verdict: whose fault it is, in words for a learner, with the learner's own line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from _pytest.outcomes import Failed

from checks.harness.errors import (
    Inconclusive,
    LearnerError,
    NoAnswer,
    NotChecked,
    ServerDied,
    ServerNotReady,
    StubError,
    describe,
)
from checks.harness.report.results import Verdict
from checks.harness.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, what is said with it, and the learner's line where one matters."""

    verdict: Verdict
    message: str
    where: str | None = None
    explains_itself: bool = False
    """No reason why and no hint can add to it."""


def judge(error: BaseException, workspace: Workspace) -> Judged:
    """What an exception that ended a checkpoint says about the learner's code.

    Only what is surely the learner's counts as *failed*; what is left is *lab error*, with its traceback.
    """
    for cause in _causes(error):
        where = workspace.where_raised(cause.__traceback__)
        match cause:
            case NotImplementedError() if where:
                return Judged("not_started", str(cause) or "a stub that is still to be filled in", where)
            case StubError():
                return Judged("not_started", str(cause), cause.where)
            case Inconclusive():
                return Judged("inconclusive", str(cause))
            case NotChecked():
                return Judged("locked", str(cause), explains_itself=True)
            case LearnerError():
                return Judged("failed", str(cause), cause.where or where, cause.explains_itself)
            case NoAnswer():
                return Judged("failed", str(cause), cause.where or where)
            case ServerDied() | ServerNotReady():
                return Judged("failed", str(cause), where)
            case Failed():
                return Judged("failed", str(cause.msg))
            case AssertionError() if not where:
                # pytest's rewriting appends the compared values: the message already says them in words.
                return Judged("failed", str(cause).partition("\nassert ")[0])
    where = workspace.where_raised(error.__traceback__)
    if where:
        return Judged("failed", f"your code raised {describe(error)}", where)
    if mismatch := _mismatch(error):
        return Judged("failed", mismatch, explains_itself=True)
    return Judged("lab_error", "".join(traceback.format_exception(error)).strip())


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, those in its groups, and what it was raised from."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _mismatch(error: BaseException) -> str | None:
    """A name that the learner's code should have, or a signature that it should keep to."""
    if isinstance(error, AttributeError):
        owner = error.obj
        module = owner.__name__ if isinstance(owner, ModuleType) else str(getattr(owner, "__module__", ""))
        if module.startswith("lab."):
            kind = owner if isinstance(owner, type) else type(owner)
            inside = "" if isinstance(owner, ModuleType) else f" in {kind.__name__}"
            path = module.replace(".", "/") + ".py"
            return f"{path} has no `{error.name}`{inside}\nwanted: the name as the stub had it"
    if isinstance(error, TypeError) and re.match(r"[\w.<>]+\(\) (got|missing|takes)", str(error)):
        return f"calling your code does not work: {error}\nwanted: the parameters as the stub had them"
    return None
