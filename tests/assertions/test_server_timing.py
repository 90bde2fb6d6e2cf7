"""The sandwich: model <= recorded <= client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from checks.harness.assertions.server_timing import Sandwich, durations, judge, no_longer_than_the_client, server_timing
from checks.harness.report.evidence import Show, Table


def row(took: float, recorded: float, client: float) -> Sandwich:
    """One request of which only the times matter."""
    nothing: Any = SimpleNamespace()
    return Sandwich(nothing, nothing, took, recorded, client)


def said(header: str | None) -> float:
    """What is read in this Server-Timing."""
    return server_timing({} if header is None else {"server-timing": header}, "an answer")


def table(show: Show) -> Table:
    """The one table that was shown."""
    (shown,) = show.evidence
    assert isinstance(shown, Table)
    return shown


def test_what_lies_in_between_passes() -> None:
    """The bounds themselves and what rounding does to them are fine."""
    show = Show()
    judge(show, "three requests", [row(10, 10, 10), row(10.04, 10.0, 12), row(8, 10.04, 10)])

    assert [line[-1] for line in table(show).rows] == ["", "", ""]


@pytest.mark.parametrize(
    ("broken", "others", "hint"),
    [
        (row(100, 0.105, 110), 3, "right in seconds"),
        (row(100, 1, 110), 3, "counts computing only"),
        (row(100, 60, 110), 49, "in a local variable"),
        (row(100, 300, 110), 3, "first line of `__call__`"),
    ],
)
def test_a_broken_one_is_shown_first_with_a_hint_that_fits(broken: Sandwich, others: int, hint: str) -> None:
    """What was recorded tells which mistake it was."""
    show = Show()
    with pytest.raises(AssertionError, match=rf"wanted: model <= recorded <= client\ntry: .*{hint}"):
        judge(show, "some requests", [row(10, 10, 10)] * others + [broken])

    assert table(show).rows[0][-1] == "<- broken"
    assert len(table(show).rows) == 4


@pytest.mark.parametrize(
    "header",
    [
        "app;dur=12.3",
        "app;dur=12.3, model;dur=10.1",
        "model;dur=1.0,app;dur=12.30",
        'model;desc="of, all"; dur=1.0, app; desc="the app; all of it" ; dur=12.3',
        "app;dur=12.3;desc=whole",
    ],
)
def test_server_timing_is_read(header: str) -> None:
    """The app's part, wherever it stands, and with whatever words."""
    assert said(header) == pytest.approx(12.3)
    assert {*durations(header)} <= {"app", "model"}


@pytest.mark.parametrize("header", [None, "", "app;dur=12", "total;dur=12.3", "app;dur=1.2e-05", "myapp;dur=1.5e1"])
def test_a_header_that_is_none_says_what_was_wanted(header: str | None) -> None:
    """No header, whole milliseconds, another name, a float's own notation."""
    with pytest.raises(AssertionError, match=r"Server-Timing.*\nwanted: .*app;dur=12.3"):
        said(header)


def test_times_below_zero_are_read() -> None:
    """A clock that went back is for the judge to see."""
    assert said("app;dur=-3.5") == pytest.approx(-3.5)


def test_a_client_never_waits_less_than_what_is_recorded() -> None:
    """Asked of every request, whether or not it reaches the model."""
    request: Any = SimpleNamespace(sent=10.0, finished=10.05)
    no_longer_than_the_client(50.0, request, "an answer")

    for recorded in (60.0, -1.0):
        with pytest.raises(AssertionError, match=r"its client waited 50.0 ms\nwanted: .*\ntry: Take the start in the"):
            no_longer_than_the_client(recorded, request, "an answer")
