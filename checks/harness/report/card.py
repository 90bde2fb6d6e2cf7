"""The card: what a learner sees after a run. As wide as the terminal, readable without colour and in ASCII.

Here are its layout, its labels and the words for verdicts. What a checkpoint says is in `checks/test_exN.py` and
`checks/support/`. The page has a card of its own: `guide/lab_guide/page/card.js`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from checks.harness.machine import BUSY
from checks.harness.report.evidence import Evidence, Number
from checks.harness.report.pictures import draw
from checks.harness.report.results import Checkpoint, Exercise, Run

WIDTH, NARROWEST, WIDEST = 80, 60, 200
"""Columns of a card: where there is no terminal, and the limits where there is one."""
INDENT = 10
LAB_ERROR_LINES = 12
RAISED = "your code raised "
"""What a row leaves out of a failure: the exception's name stands for itself."""
EXCEPTION = re.compile(r"\w+(Error|Exception|Exit|Interrupt|Warning)\b")
MEASURED = re.compile(
    r"(?<!\S)\d[\d.]* (?:ms|s|times|of \d+|requests(?:/s)?|calls(?:/s)?|callers|threads|users|series)(?!\w)"
    r"|(?<!\S)\d+\.\d+(?![\w.,)])|(?<=gave )\d{3}\b"
)
"""A number that was measured, with its unit; not that of a line, or a kind of Python."""

# verdict: mark, the same in ASCII, style, word
MARKS = {
    "passed": ("✓", "+", "green", "passed"),
    "failed": ("✗", "x", "red", "failed"),
    "not_started": ("·", ".", "blue", "not started"),
    "locked": ("-", "-", "dim", "locked"),
    "inconclusive": ("?", "?", "yellow", "inconclusive"),
    "lab_error": ("!", "!", "magenta", "lab error"),
    "not_run": (" ", " ", "dim", "not run"),
}


def console(file: TextIO, color: str = "auto") -> Console:
    """A console as wide as a card may be on this terminal; `color` is pytest's `--color`: auto, yes or no."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns if file.isatty() else WIDTH
    return Console(
        file=file,
        width=min(max(width, NARROWEST), WIDEST),
        color_system={"yes": "standard", "no": None}.get(color, "auto"),
        force_terminal=True if color == "yes" else None,
    )


def ellipsis_of(console: Console) -> str:
    """What stands for what is left out, in characters that the console can show."""
    return "..." if console.options.ascii_only else "…"


def shortened(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most so many columns: whole words, and an ellipsis for what is left out.

    Where the first number that was measured would be left out, that is kept with the words before it instead: it is
    what decided. Of an exception it is the name.
    """
    if len(text) <= width:
        return text
    room = width - len(ellipsis)
    start = text[: room + 1].rpartition(" ")[0].rstrip(" ,;:") or text[:room]
    number = MEASURED.search(text)
    if number is None or EXCEPTION.match(text) or number.end() <= len(start):
        return start + ellipsis
    after = "" if number.end() == len(text) else ellipsis
    ending = text[max(0, number.end() - (room - len(after))) : number.end()]
    whole = ending.partition(" ")[2] if " " in ending[: -len(number[0])] else number[0]
    return f"{ellipsis}{whole}{after}" if len(whole) + len(ellipsis) + len(after) <= width else start + ellipsis


class Card:
    """Writes a card to a console, line by line as the checkpoints end."""

    def __init__(
        self, console: Console, *, all_hints: bool = False, all_details: bool = False, in_hand: str | None = None
    ) -> None:
        """`in_hand` is the checkpoint that is shown in full, where it was judged; else the first open one is."""
        self._console = console
        self._ascii = console.options.ascii_only
        self._ellipsis = ellipsis_of(console)
        self._width = console.width
        self._title = (self._width - 3) // 2 + 2
        self._all_hints = all_hints
        self._all_details = all_details
        self._in_hand = in_hand

    def whole(self, run: Run) -> None:
        """The card of a run that is over."""
        self.lines(run)
        self.ending(run)

    def lines(self, run: Run) -> None:
        """Each exercise with its checkpoints, a line each."""
        for exercise in run.exercises:
            if exercise.untold:
                continue
            self.heading(exercise, run)
            for checkpoint in exercise.checkpoints:
                self.line(checkpoint)

    def heading(self, exercise: Exercise, run: Run) -> None:
        """What the exercise is called, and whose files are judged."""
        self._console.print()
        self._print(Text(f"Exercise {exercise.number} - {exercise.title}", style="bold"))
        self._print(Text(f"judging {run.workspace} ({run.hash}), seed {run.seed}", style="dim"))

    def line(self, checkpoint: Checkpoint) -> None:
        """One checkpoint: mark, id, title, points, and the number that decided it."""
        mark, plain, style, _ = MARKS[checkpoint.verdict]
        line = Text(f" {plain if self._ascii else mark} ", style=style)
        title = shortened(self._plain(checkpoint.title), self._title, self._ellipsis)
        line.append(f"{checkpoint.id:<5}{title:<{self._title + 1}}")
        line.append(f"{checkpoint.points}/{checkpoint.max_points}  ", style="bold" if checkpoint.points else "dim")
        decided = shortened(self._plain(self._decided(checkpoint)), self._width - len(line), self._ellipsis)
        line.append(decided, style=style if checkpoint.verdict != "passed" else "dim")
        self._print(line)

    def ending(self, run: Run) -> None:
        """The points, and what to do next: the checkpoint in hand or the first that did not pass, in full."""
        told = [exercise for exercise in run.exercises if not exercise.untold]
        for exercise in told:
            if len(told) > 1 or len(exercise.checkpoints) > 1:
                name = f"Exercise {exercise.number} - {exercise.title}: " if len(told) > 1 else ""
                what = "bonus points" if exercise.bonus else "points"
                self._print(Text(f"   {name}{exercise.points} of {exercise.max_points} {what}", style="bold"))
        if len(told) > 1:
            self._print(Text(f"   {run.score}", style="bold"))
        load, cores = run.machine.get("load"), run.machine.get("cores")
        if load and cores and load >= BUSY * cores:
            self._print(Text(f"   this machine is busy: load {load:.0f} on {cores} cores", style="yellow"))
        open_ones = [c for c in run.checkpoints if c.verdict not in ("passed", "not_run")]
        urgent = [c for c in open_ones if c.verdict in ("failed", "lab_error") and not c.same_as] or open_ones
        if run.all_passed:
            self._celebrate(run)
        chosen = [c for c in open_ones if c.id == self._in_hand]
        for checkpoint in urgent if self._all_details else chosen or urgent[:1]:
            self.details(checkpoint, run)

    def details(self, checkpoint: Checkpoint, run: Run) -> None:
        """Seen, wanted, the picture, why it matters, where, one hint, and the command that runs it again."""
        mark, plain, style, word = MARKS[checkpoint.verdict]
        title = f"{plain if self._ascii else mark} {checkpoint.id} {checkpoint.title}"
        self._console.print()
        self._print(Text(f"{title} - {word}", style=f"bold {style}"))
        exercise = checkpoint.id.partition(".")[0]
        if checkpoint.verdict == "not_started":
            about = next((e.about for e in run.exercises if str(e.number) == exercise), "")
            others = [c for c in run.checkpoints if c is not checkpoint]
            if about and others and all(c.verdict in ("not_started", "locked", "not_run") for c in others):
                self._field("about", about)
        if checkpoint.verdict == "lab_error":
            self._field("", "This is the lab's own fault, not yours. Please report it with these lines:")
        self._field(
            "to do" if checkpoint.verdict == "not_started" else "seen",
            "\n".join(checkpoint.seen.splitlines()[-LAB_ERROR_LINES:]),
        )
        self._field("wanted", checkpoint.wanted)
        same = [c.id for c in run.checkpoints if c.same_as == checkpoint.id]
        self._field(
            "also", f"{', '.join(same)} fail{'s' if len(same) == 1 else ''} by the same mistake" if same else ""
        )
        for evidence in checkpoint.evidence:
            self._draw(evidence)
        self._field("why", checkpoint.why)
        self._field("where", checkpoint.where or "")
        self._hints(checkpoint)
        if checkpoint.output and checkpoint.verdict in ("failed", "lab_error"):
            self._field("printed", "\n".join(checkpoint.output.strip().splitlines()[-6:]))
        if checkpoint.verdict == "not_started":
            self._field("lesson", f"lessons/ex{exercise}.md")
        self._field("again", f"uv run pytest checks/test_ex{exercise}.py -k {checkpoint.id}{run.options}")

    def _hints(self, checkpoint: Checkpoint) -> None:
        """The hint for this failure, or for a stub the first general one; with `--hints` all of them, none twice.

        Where a busy machine left no verdict only the hint for what was probably seen.
        """
        own, general = [checkpoint.hint] if checkpoint.hint else [], checkpoint.hints
        if checkpoint.verdict == "inconclusive":
            general = []
        elif checkpoint.verdict not in ("failed", "not_started"):
            return
        shown = [*own, *general] if self._all_hints else own or (general[:1] if checkpoint.verdict != "failed" else [])
        for hint in shown:
            self._field("hint", hint)
        if more := len(own) + len(general) - len(shown):
            self._field(
                "", f"({more}{' more' if shown else ' general hint' if more == 1 else ' general hints'}: --hints)"
            )

    def _celebrate(self, run: Run) -> None:
        """All green: what the last checkpoint with a picture measured, which is what the exercise was for."""
        last = [c for c in run.checkpoints if any(not isinstance(e, Number) for e in c.evidence)][-1:]
        for checkpoint in last:
            for evidence in checkpoint.evidence:
                self._draw(evidence)

    def _draw(self, evidence: Evidence) -> None:
        for line in draw(evidence, width=self._width, ascii_only=self._ascii):
            self._print(self._cut(line, self._width))

    def _cut(self, text: Text, width: int) -> Text:
        """The text in at most so many columns; what is left out shows as an ellipsis."""
        if self._ascii:
            text.plain = self._plain(text.plain)
        if len(text) > width:
            text = text[: width - len(self._ellipsis)].append(self._ellipsis)
        return text

    def _decided(self, checkpoint: Checkpoint) -> str:
        if checkpoint.verdict in ("failed", "inconclusive", "locked") and checkpoint.seen:
            same = f"as {checkpoint.same_as}: " if checkpoint.same_as else ""
            return f"{same}{checkpoint.seen.splitlines()[0].removeprefix(RAISED)}"
        if checkpoint.verdict == "passed":
            numbers = [e.text for e in checkpoint.evidence if isinstance(e, Number)]
            return numbers[0] if numbers else ""
        return MARKS[checkpoint.verdict][3]

    def _field(self, name: str, text: str) -> None:
        if not text:
            return
        body = Text(self._plain(text))
        body.highlight_regex(r"`[^`]+`", "bold")
        for number, line in enumerate(self._wrapped(body)):
            name_column = (f"{name if number == 0 else '':>{INDENT - 2}}  ", "bold cyan")
            self._print(Text.assemble(name_column, line))

    def _wrapped(self, body: Text) -> Iterator[Text]:
        """Prose is wrapped; a line of code, which is indented, is cut."""
        for line in body.split("\n", allow_blank=True):
            if line.plain.startswith("    "):
                yield self._cut(line, self._width - INDENT)
            else:
                yield from line.wrap(self._console, self._width - INDENT, overflow="fold")

    def _plain(self, text: str) -> str:
        return text.encode("ascii", "replace").decode() if self._ascii else text

    def _print(self, text: Text) -> None:
        if self._ascii:
            text.plain = self._plain(text.plain)
        self._console.print(Padding(text, 0, expand=False), no_wrap=True, crop=True, highlight=False)
