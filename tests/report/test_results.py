"""The reports: one list of results, told in several ways."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
from rich.console import Console

from checks.harness.errors import Failure
from checks.harness.progress import say
from checks.harness.report import results
from checks.harness.report.__main__ import show
from checks.harness.report.card import WIDTH, console, shortened
from checks.harness.report.ctrf import ctrf
from checks.harness.report.evidence import (
    Bucket,
    Evidence,
    Histogram,
    HockeyStick,
    Number,
    Offered,
    Overload,
    Point,
    Served,
    Span,
    Table,
    Timeline,
)
from checks.harness.report.gradescope import gradescope
from checks.harness.report.junit import junit
from checks.harness.report.progress_line import ProgressLine
from checks.harness.report.results import Checkpoint, Exercise, Outcome, Run, Verdict
from tests.waiting import finished

EVIDENCE: list[Evidence] = [
    Number("7 of 7", 7),
    Timeline("two requests", [Span("", 0.0, 0.0, 10.0), Span("", 0.0, 10.0, 20.0)], left_out=3),
    Histogram("latencies", [Bucket(1.0, 2.0, 1), Bucket(2.0, 3.0, 9)], p50=2.5, p95=2.9, p99=2.9, count=10),
    HockeyStick(
        "4 slots of 50 ms",
        [Point(2, 38.9, 51.0), Point(4, 79.1, 52.0), Point(120, 79.6, 1501.0), Point(140, 79.9, 1749.0)],
        slo_ms=300.0,
        capacity=80.0,
        found=140,
        true=120,
    ),
    Table("numbers", ["name", "value"], [["a", "1"], ["bb", "22"]]),
    Overload("twice", [Offered(2, 60.0, 3.0, Served(29.5, 200.0), Served(9.0, None))], 30.0, 500.0, 1000.0),
]


@pytest.fixture
def run() -> Run:
    """A run with every verdict, every kind of evidence, and words that ASCII does not have."""
    checkpoints = []
    for number, verdict in enumerate(get_args(Verdict), start=1):
        checkpoint = Checkpoint(f"1.{number}", f"The {verdict} one", max_points=2, hints=["a hint", "another"])
        checkpoint.why = "It matters " * 20
        where = "lab/service.py:41 in predict\n    " + "return " * 30
        said = verdict not in ("passed", "not_run")
        failure = Failure("seen µ", "wanted →", "do this", where) if said else Failure("", where=where)
        checkpoint.settle(Outcome(verdict, failure, evidence=EVIDENCE))
        checkpoints.append(checkpoint)
    exercise = Exercise(1, "a title", "what it is about", checkpoints)
    return Run("your own files", "0123456789ab", 42, "2020-01-01T00:00:00+00:00", {"cores": 2}, [exercise])


def test_results_come_back_from_their_json(run: Run, tmp_path: Path) -> None:
    """What was written is read again, and names its schema."""
    path = tmp_path / "new" / "results.json"
    results.write(run, path)

    told = json.loads(path.read_text())
    assert results.read(path) == run
    assert told["schema"] == "lab-results/v1"
    assert (told["exercises"][0]["points"], told["exercises"][0]["max_points"]) == (2, 14)
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_other_json_is_refused(tmp_path: Path) -> None:
    """A file that holds something else is an error, not an empty card."""
    (tmp_path / "x.json").write_text('{"schema": "something/v2"}')

    with pytest.raises(ValueError, match="no results of the lab"):
        results.read(tmp_path / "x.json")


def test_the_hint_for_a_failure_is_not_one_of_the_general_ones() -> None:
    """A failure's own hint stands alone; one that explains itself has neither a why nor general hints."""
    checkpoint = Checkpoint("1.1", "x", 1, why="because", hints=["general", "own"])
    checkpoint.settle(Outcome("failed", Failure("one", wanted="two", hint="own")))
    hinted = (checkpoint.seen, checkpoint.wanted, checkpoint.hint, checkpoint.hints)
    checkpoint.settle(Outcome("failed", Failure("only this"), explains_itself=True))

    assert hinted == ("one", "two", "own", ["general"])
    assert (checkpoint.message, checkpoint.why, checkpoint.hints) == ("only this", "", [])


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_card_fits_its_columns_in_any_encoding(run: Run, encoding: str, width: int) -> None:
    """No line is wider than the card, what is cut ends in an ellipsis, and ASCII can hold it."""
    run.exercises[0].checkpoints = [c for c in run.checkpoints if c.verdict in ("failed", "passed")]
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    show(run, Console(file=written, width=width))
    written.seek(0)
    lines = written.read().splitlines()

    assert max(map(len, lines)) <= width
    assert any(line.endswith("..." if encoding == "ascii" else "…") for line in lines), "the long line of code"
    for part in ("Exercise 1 - a title", "2 of 4 points", "seen", "why", "where", "hint", "again", "p95", "numbers"):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("create_app() returned None", 26, "create_app() returned None"),
        ("ValidationError: 1 validation error for PredictResponse", 26, "ValidationError: 1…"),
        ("1 of 60 calls were in the model together: the others wait", 26, "1 of 60 calls were in the…"),
        ("one predict of SimulatedModel(0.031) waited 0.061 s on the event loop's clock", 26, "…waited 0.061 s…"),
        ("predict_blocking of SimulatedModel(0.113) computed for 0.055 s", 26, "…computed for 0.055 s"),
        ("burst_seconds('threaded', 41, 0.1, threads=40) is 0.1", 26, "…0.1, threads=40) is 0.1"),
        ("AVeryLongNameWithoutSpaces", 10, "AVeryLong…"),
    ],
)
def test_a_row_is_cut_between_words_and_keeps_its_number(text: str, width: int, shown: str) -> None:
    """Half a word or half a number says something else."""
    assert shortened(text, width) == shown


def test_the_first_failure_is_told_in_full(run: Run) -> None:
    """A failure comes before what was not started, whichever stands first; one hint, and the command to repeat it."""
    written = io.StringIO()
    show(run, Console(file=written, width=WIDTH))
    card = written.getvalue()

    assert "1.3 The failed one - failed" in card
    assert card.count("seen µ") == 1 + 3  # in full once, and in the lines of the failed, locked and inconclusive ones
    assert "do this" in card
    assert "a hint" not in card, "general hints come with --hints"
    assert "uv run pytest checks/test_ex1.py -k 1.3" in card


def test_one_mistake_is_explained_once(run: Run) -> None:
    """The first checkpoint that it fails has it in full and names the others; random numbers make no difference."""
    failed = [Checkpoint(f"2.{number}", "A title", max_points=2) for number in range(4)]
    run.exercises = [Exercise(2, "More", "", failed)]
    seen = [("took 1.5 ms", 8), ("took 2 ms", 8), ("took 2 ms", 9), ("took 3 s", 8)]
    for checkpoint, (words, line) in zip(failed, seen, strict=True):
        checkpoint.settle(Outcome("failed", Failure(words, where=f"lab/timing.py:{line}")))
        run.compare(checkpoint)
    written = io.StringIO()
    show(run, Console(file=written, width=WIDTH))

    assert ["", "2.0", "", ""] == [checkpoint.same_as for checkpoint in failed]
    assert "as 2.0: took 2 ms" in written.getvalue()
    assert "also  2.1 fails by the same mistake" in written.getvalue()


def test_ctrf_has_a_test_for_every_checkpoint(run: Run) -> None:
    """Its own word for each verdict, counted, in ms; points and the lab's word beside it."""
    told = ctrf(run)["results"]
    tests = {test["rawStatus"]: test for test in told["tests"]}

    assert set(tests) == set(get_args(Verdict))
    counted = {name: told["summary"][name] for name in ("tests", "passed", "failed", "skipped", "pending", "other")}
    assert counted == {"tests": 7, "passed": 1, "failed": 2, "skipped": 1, "pending": 1, "other": 2}
    assert told["summary"]["start"] == 1577836800000
    assert tests["passed"]["extra"] == {"checkpoint": "1.2", "points": 2, "max_points": 2}
    assert tests["failed"]["message"].startswith("seen µ")
    assert all(isinstance(test["duration"], int) and len(test["suite"]) == 1 for test in told["tests"])


def test_junit_has_a_case_for_every_checkpoint(run: Run) -> None:
    """Only *passed* passes; what has no verdict is an error, and each case has its points."""
    run.exercises[0].checkpoints[2].seen = '<broken> & "quoted"'
    suite = ElementTree.fromstring(junit(run).encode()).find("testsuite")
    assert suite is not None
    found = {}
    for case in suite.findall("testcase"):
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        found[properties["verdict"]] = ([child.tag for child in case][1:], properties["points"])

    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["7", "2", "3", "1"]
    assert found["passed"] == ([], "2")
    assert found["failed"] == (["failure"], "0")
    assert found["lab_error"] == (["error"], "0")
    assert found["locked"] == (["skipped"], "0")
    assert found["inconclusive"] == found["not_run"] == (["error"], "0")


def test_junit_is_never_green_where_nothing_passed(run: Run) -> None:
    """What is skipped does not fail a pipeline: a run of nothing else has to."""
    (locked,) = (c for c in run.checkpoints if c.verdict == "locked")
    run.exercises = [replace(run.exercises[0], checkpoints=[locked])]
    suite = ElementTree.fromstring(junit(run).encode()).find("testsuite")

    assert suite is not None
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "0")


def test_gradescope_gets_points_and_words(run: Run) -> None:
    """One test per checkpoint with its points; what nobody can blame on the learner has no status."""
    told = gradescope(run)

    assert (told["score"], len(told["tests"])) == (2, 7)
    statuses = {test["name"].split()[2]: test.get("status") for test in told["tests"]}
    assert (statuses["passed"], statuses["failed"], statuses["inconclusive"]) == ("passed", "failed", None)


def test_a_run_can_be_told_again_as_a_picture(run: Run, tmp_path: Path) -> None:
    """The results file is enough for the card, for an SVG of it and for Gradescope."""
    path = tmp_path / "results.json"
    results.write(run, path)
    formats = {"--svg": "card.svg", "--gradescope": "gradescope.json", "--ctrf": "ctrf.json", "--junit": "junit.xml"}
    for option, name in formats.items():
        command = [sys.executable, "-m", "checks.harness.report", str(path), option, str(tmp_path / name)]
        assert finished(command).returncode == 0

    assert "<svg" in (tmp_path / "card.svg").read_text()
    assert json.loads((tmp_path / "gradescope.json").read_text())["score"] == 2
    assert json.loads((tmp_path / "ctrf.json").read_text()) == ctrf(run)
    assert (tmp_path / "junit.xml").read_text() == junit(run)


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """Whatever it is."""
        return True


def progress(run: Run, folder: Path, color: str = "auto") -> str:
    """What a whole run writes to a terminal: the line of progress and the card."""
    file = Terminal()
    to = console(file, color)
    line = ProgressLine(to, folder, enabled=True)
    line.start(next(iter(run.checkpoints)))
    line.clear()
    show(run, to)
    return file.getvalue()


def test_a_dumb_terminal_gets_no_control_codes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb: no colour, no escape sequence, no line that moves back."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COLORTERM", raising=False)

    assert not set("\x1b\r") & set(progress(run, tmp_path))


def test_color_no_holds(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--color=no` leaves no escape sequence on a terminal that could show colours; `yes` brings them anywhere."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    assert "\x1b" not in progress(run, tmp_path, "no")
    assert "\x1b" in progress(run, tmp_path, "yes")


def test_the_line_of_progress_says_what_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the checkpoint and its seconds, and not what the one before did; it is wiped before the card goes on."""
    monkeypatch.setenv("TERM", "xterm-256color")
    say(tmp_path, "build 12/12", 300, known=False)
    line, wiped = progress(run, tmp_path).split("\r")[1:4:2]

    assert line.startswith("   1.1  The not_run one, 0 s")
    assert wiped.strip() == ""


def test_the_line_of_progress_is_cut_with_an_ellipsis(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a narrow terminal the seconds stay, and what is left out shows."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    file = Terminal()
    line = ProgressLine(console(file), tmp_path, enabled=True)
    line.start(next(iter(run.checkpoints)))
    say(tmp_path, "counts how many of the requests of forty callers are in the model at once", 300, known=False)
    line.tick()
    written = file.getvalue().rstrip("\r").rpartition("\r")[2]

    assert len(written) == 59
    assert written.rstrip().endswith("…, 0 s")


@pytest.mark.parametrize(("columns", "width"), [(40, 60), (60, 60), (100, 100), (200, 200), (300, 200)])
def test_the_card_is_as_wide_as_the_terminal(columns: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 60 to 200 columns."""
    monkeypatch.setenv("COLUMNS", str(columns))

    assert console(Terminal()).width == width


def test_a_busy_machine_is_named(run: Run) -> None:
    """The card says how busy the machine was, where that may have decided something."""
    written = io.StringIO()
    run.machine |= {"load": 44.2}
    show(run, Console(file=written, width=WIDTH))

    assert "this machine is busy: load 44 on 2 cores" in written.getvalue()


def test_points_stand_beside_their_exercise(run: Run) -> None:
    """With several exercises each line of points says which one it is about, also after a run that was cut short."""
    written = io.StringIO()
    run.exercises.append(Exercise(2, "another title", "", [Checkpoint("2.1", "x", 3)]))
    show(run, Console(file=written, width=WIDTH))

    assert "Exercise 2 - another title: 0 of 3 points" in written.getvalue()


def graded(number: int, *verdicts: Verdict) -> Exercise:
    """An exercise whose checkpoints have 5 points each."""
    found = [Checkpoint(f"{number}.{n}", "it", 5) for n in range(1, len(verdicts) + 1)]
    for checkpoint, verdict in zip(found, verdicts, strict=True):
        checkpoint.settle(Outcome(verdict))
    return Exercise(number, "it", "", found)


@pytest.mark.parametrize(
    ("exercises", "score"),
    [
        ([graded(4, "passed", "failed")], "5 of 10 points"),
        ([graded(4, "passed", "failed"), graded(6, "locked", "locked")], "5 of 10 points"),
        ([graded(4, "passed"), graded(6, "passed", "failed"), graded(7, "passed")], "5 of 5, bonus 10 of 15"),
        ([graded(6, "passed")], "bonus 5 of 5"),
    ],
)
def test_bonus_points_are_beside_the_others(run: Run, exercises: list[Exercise], score: str) -> None:
    """They are in no sum of the 100; a bonus that is locked as a whole is not told, on the card neither."""
    run = replace(run, exercises=exercises)
    card = io.StringIO()
    show(run, Console(file=card, width=WIDTH))

    assert score == run.score
    assert ("Exercise 6" in card.getvalue()) == ("bonus" in score)
    assert sum(e.points for e in exercises if e.number < 6) == run.points == gradescope(run)["score"]
