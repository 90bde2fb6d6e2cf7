"""From an exception to an outcome: is it the learner's fault, what was seen, and at which line of theirs."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

from _pytest.outcomes import Failed

from checks.harness.errors import CellEnded, Failure, Inconclusive, LearnerError, NotChecked, StubError
from checks.harness.grading.stubs import stub_reached
from checks.harness.judge.raised import FromCell
from checks.harness.missing import most_like
from checks.harness.missing_await import where_not_awaited
from checks.harness.plain_words import describe, hint_for
from checks.harness.report.results import Outcome
from checks.harness.source_lines import SourceLines


def outcome_of(error: BaseException, lines: SourceLines, checkpoint: str = "") -> Outcome:
    """What an exception that ended a checkpoint says about the learner's code. `checkpoint` is its id.

    Only what is surely the learner's counts as *failed*; what is left is *lab error*, with its traceback.
    """
    for cause in _causes(error):
        where = lines.where_raised(cause.__traceback__)
        match cause:
            case NotImplementedError() if where:
                return Outcome("not_started", stub_reached(str(cause), where, lines, checkpoint))
            case StubError():
                return Outcome("not_started", cause.failure)
            case CellEnded():
                return _failed(Failure(str(cause)))
            case Inconclusive():
                return Outcome("inconclusive", cause.failure)
            case NotChecked():
                return Outcome("locked", cause.failure, explains_itself=True)
            case LearnerError():
                where = where_not_awaited(cause, lines) or where
                return _failed(cause.failure, where, explains_itself=cause.explains_itself)
            case Failed():
                return _failed(Failure(str(cause.msg)))
            case AssertionError(args=[Failure() as failure]):
                return _failed(failure)
            case AssertionError() if not where:
                # pytest's rewriting appends the compared values: the message already says them in words.
                return _failed(Failure(str(cause).partition("\nassert ")[0]))
    if where := where_not_awaited(error, lines) or lines.where_raised(error.__traceback__):
        about_python = isinstance(error, NameError | AttributeError | TypeError | ImportError | SyntaxError)
        raised = Failure(f"your code raised {describe(error)}", hint=hint_for(error))
        return _failed(raised, where, explains_itself=about_python)
    if mismatch := _mismatch(error, lines):
        return _failed(mismatch, explains_itself=True)
    if isinstance(error, FromCell) and not error.has_frames:  # what is written in C, such as a cache, was called
        return _failed(Failure(f"calling your code raised {describe(error)}", hint=hint_for(error)))
    return Outcome("lab_error", Failure("".join(traceback.format_exception(error)).strip()))


def _failed(failure: Failure, where: str | None = None, *, explains_itself: bool = False) -> Outcome:
    """A failure, at `where` when it names no line of its own."""
    return Outcome("failed", replace(failure, where=failure.where or where), explains_itself=explains_itself)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, those in its groups, and what it was raised from."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _mismatch(error: BaseException, lines: SourceLines) -> Failure | None:
    """A name that the learner's code should have, or a signature that it should keep to."""
    if isinstance(error, AttributeError):
        return _missing_name(error, lines)
    if isinstance(error, TypeError) and (called := re.match(r"([\w.<>]+)\(\) (got|missing|takes)", str(error))):
        return Failure(
            f"calling your code does not work: {error}",
            wanted="the parameters as the stub had them",
            hint=f"{hint_for(error)} The checks call it as the stub has it.".strip(),
            where=_where_called(error, called[1], lines),
        )
    return None


def _missing_name(error: AttributeError, lines: SourceLines) -> Failure | None:
    owner, name = error.obj, error.name or ""
    module = owner.__name__ if isinstance(owner, ModuleType) else str(getattr(owner, "__module__", ""))
    if not module.startswith("lab."):
        return None
    holder = owner if isinstance(owner, ModuleType | type) else type(owner)
    inside = "" if isinstance(owner, ModuleType) else f" in {holder.__name__}"
    defined = [key for key, value in vars(holder).items() if getattr(value, "__module__", None) == module]
    renamed = most_like(name, defined)
    return Failure(
        f"{module.replace('.', '/')}.py has no `{name}`{inside}",
        wanted="the name as the stub had it",
        hint=f"There is `{renamed}`: renamed? The checks use `{name}`." if renamed else "",
        where=lines.where_defined(getattr(holder, renamed) if renamed else holder),
    )


def _where_called(error: TypeError, qualified: str, lines: SourceLines) -> str | None:
    """The `def` line of `create_app` or `SimulatedModel.predict`, if only one of the learner's modules has that."""
    if isinstance(error, FromCell):  # where those modules are
        return lines.where_defined(error.called)
    found = []
    for module in [module for name, module in sys.modules.items() if name.startswith("lab.")]:
        thing: object = module
        for part in qualified.split("."):
            thing = getattr(thing, part, None)
        if thing is not None and getattr(thing, "__module__", None) == module.__name__:
            found.append(lines.where_defined(thing))
    return found[0] if len(found) == 1 else None
