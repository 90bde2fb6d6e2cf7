"""The card: what a learner sees after a run. 80 columns, readable without colour and in ASCII."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from checks.harness.report.evidence import Number
from checks.harness.report.pictures import draw
from checks.harness.report.results import Checkpoint, Exercise, Run

WIDTH = 80
INDENT = 10
LAB_ERROR_LINES = 12

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


class Card:
    """Writes a card to a console, line by line as the checkpoints end."""

    def __init__(self, console: Console, *, all_hints: bool = False, all_details: bool = False) -> None:
        self._console = console
        self._ascii = console.options.ascii_only
        self._all_hints = all_hints
        self._all_details = all_details

    def heading(self, exercise: Exercise, run: Run) -> None:
        """What the exercise is called, and whose files are judged."""
        self._console.print()
        self._print(Text(f"Exercise {exercise.number} - {exercise.title}", style="bold"))
        self._print(Text(f"judging {run.workspace} ({run.hash}), seed {run.seed}", style="dim"))

    def line(self, checkpoint: Checkpoint) -> None:
        """One checkpoint: mark, id, title, points, and the number that decided it."""
        mark, plain, style, _ = MARKS[checkpoint.verdict]
        line = Text(f" {plain if self._ascii else mark} ", style=style)
        line.append(f"{checkpoint.id:<5}{checkpoint.title[:40]:<41}")
        line.append(f"{checkpoint.points}/{checkpoint.max_points}  ", style="bold" if checkpoint.points else "dim")
        line.append(self._decided(checkpoint), style=style if checkpoint.verdict != "passed" else "dim")
        line.truncate(WIDTH, overflow="ellipsis" if not self._ascii else "crop")
        self._print(line)

    def ending(self, run: Run) -> None:
        """The points, and what to do next: the first checkpoint that did not pass, in full."""
        for exercise in run.exercises:
            if len(run.exercises) > 1 or len(exercise.checkpoints) > 1:
                self._print(Text(f"   {exercise.points} of {exercise.max_points} points", style="bold"))
        open_ones = [c for c in run.checkpoints if c.verdict not in ("passed", "not_run")]
        urgent = [c for c in open_ones if c.verdict in ("failed", "lab_error")] or open_ones
        if run.all_passed:
            self._celebrate(run)
        for checkpoint in urgent if self._all_details else urgent[:1]:
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
        for evidence in checkpoint.evidence:
            for drawn in draw(evidence, ascii_only=self._ascii):
                self._print(drawn)
        self._field("why", checkpoint.why)
        self._field("where", checkpoint.where or "")
        hints = checkpoint.hints if self._all_hints else checkpoint.hints[:1]
        if checkpoint.verdict in ("failed", "not_started"):
            for hint in hints:
                self._field("hint", hint)
            if more := len(checkpoint.hints) - len(hints):
                self._field("", f"({more} more: --hints)")
        if checkpoint.output and checkpoint.verdict in ("failed", "lab_error"):
            self._field("printed", "\n".join(checkpoint.output.strip().splitlines()[-6:]))
        if checkpoint.verdict == "not_started":
            self._field("lesson", f"lessons/ex{exercise}.md")
        self._field("again", f"uv run pytest checks/test_ex{exercise}.py -k {checkpoint.id}{run.options}")

    def _celebrate(self, run: Run) -> None:
        """All green: what the last checkpoint with a picture measured, which is what the exercise was for."""
        last = [c for c in run.checkpoints if any(not isinstance(e, Number) for e in c.evidence)][-1:]
        for checkpoint in last:
            for evidence in checkpoint.evidence:
                for drawn in draw(evidence, ascii_only=self._ascii):
                    self._print(drawn)

    def _decided(self, checkpoint: Checkpoint) -> str:
        if checkpoint.verdict in ("failed", "inconclusive", "locked") and checkpoint.seen:
            return checkpoint.seen.splitlines()[0]
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
                line.truncate(WIDTH - INDENT, overflow="crop" if self._ascii else "ellipsis")
                yield line
            else:
                yield from line.wrap(self._console, WIDTH - INDENT, overflow="fold")

    def _plain(self, text: str) -> str:
        return text.encode("ascii", "replace").decode() if self._ascii else text

    def _print(self, text: Text) -> None:
        if self._ascii:
            text.plain = self._plain(text.plain)
        self._console.print(Padding(text, 0, expand=False), no_wrap=True, crop=True, highlight=False)
