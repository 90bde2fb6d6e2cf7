"""The lines of the learner's admission control: where it lets in, lets wait, refuses, and hands a slot on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from checks.harness.assertions.admission_walk import (
    CLAIMED,
    FINALLY,
    FULL,
    HANDED,
    LEAVES,
    NO_REFUSAL,
    TOGETHER,
    UNTOUCHED,
)
from checks.harness.cell import turns
from checks.harness.judge.handles import attribute, beside
from checks.harness.judge.made import named
from checks.harness.workspace import LearnerModules, Workspace


class Lines:
    """The lines of the learner's admission control; None for what is not to be found. Looked for when one is needed."""

    def __init__(self, lab: LearnerModules, workspace: Workspace) -> None:
        self.control: Callable[..., Any] = lab.admission.AdmissionControl
        self._lab, self._workspace = lab, workspace

    @cached_property
    def create_app(self) -> str | None:
        """The function that adds it."""
        return self._workspace.where_named(self._lab.service, "create_app")

    @cached_property
    def call(self) -> str | None:
        """Its `__call__`, or the class that has none of its own."""
        where = self._workspace.where_defined
        return where(attribute(self.control, "__call__")) or where(self.control)

    @cached_property
    def refusal(self) -> str | None:
        """What sends a refusal."""
        return next(iter(self._refusal.values()), None)

    @property
    def retry_after(self) -> str | None:
        """The header of a refusal, or else what sends it."""
        file = self.call and self._workspace.tree / self.call.partition(":")[0]
        return (file and self._workspace.where_written(file, "retry-after")) or self.refusal

    @property
    def passes(self) -> str | None:
        """What calls the app below, in the request's own slot."""
        return self._last("passes") or self.call

    @property
    def decides(self) -> str | None:
        """What looks for a slot, or for a place to wait: the line that waits, or its function."""
        if waits := self._last("waits"):
            return waits
        passing = {*self._refusal, "__call__"}
        begun = [line for name, line in self._seen.get("decides", {}).items() if name not in passing]
        return next(iter(begun), None) or self.call

    @property
    def lets_in(self) -> str | None:
        """What lets too many in: `create_app`, where the class alone is right."""
        return self.create_app if self.is_right_alone else self.decides

    @property
    def is_right_alone(self) -> bool:
        """Whether the class alone, with one slot and one place to wait, lets one request in and a second one wait."""
        return bool(self._last("passes") and self._last("waits"))

    @property
    def hands(self) -> str | None:
        """What runs when a request has left the app, and gives its slot to another one."""
        return next(iter(self._seen.get("hands", {}).values()), None) or self.passes

    @property
    def leaves(self) -> str | None:
        """What runs when a request has waited too long."""
        return next(iter(self._seen.get("leaves", {}).values()), None) or self.decides

    @property
    def claims(self) -> str | None:
        """Where a slot is taken that is none: at once, where two come together; else where one is given back."""
        return self.decides if self._last("together") else self.passes

    def _last(self, kind: str) -> str | None:
        return next(reversed(self._seen.get(kind, {}).values()), None)

    @cached_property
    def _seen(self) -> dict[str, dict[str, str]]:
        """What `cell/turns.py` sees, by kind, and by the names of the functions."""
        return {kind: self._named(lines) for kind, lines in beside(self.control, turns).turns(self.control).items()}

    @cached_property
    def _refusal(self) -> dict[str, str]:
        return self._named(beside(self.control, turns).stack_of_a_refusal(self.control))

    def _named(self, lines: Any) -> dict[str, str]:
        """The learner's own lines, by the names of their functions."""
        return {line[2]: found for line in lines if (found := named(self._workspace, line))}


WALK: dict[str, Callable[[Lines], str | None]] = {
    CLAIMED: lambda lines: lines.claims,
    FINALLY: lambda lines: lines.passes,
    NO_REFUSAL: lambda lines: lines.passes,
    UNTOUCHED: lambda lines: lines.passes,
    HANDED: lambda lines: lines.hands,
    LEAVES: lambda lines: lines.decides,
    FULL: lambda lines: lines.decides,
    TOGETHER: lambda lines: lines.decides,
}
"""Where to look for the mistakes of the random walk, by what mends them."""
