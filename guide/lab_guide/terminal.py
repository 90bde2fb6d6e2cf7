"""The page's twin for a terminal: the card of the last run, again at every save, and a few keys."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from checks.harness.report.card import NARROWEST, WIDEST, Card, console
from checks.harness.report.results import Run, parse
from lab_guide.standing import newest
from lab_guide.state import Guide, Selection

KEYS = "h hints   a all open ones   n next checkpoint   1-7 exercise   c run this one   r run the exercise   q quit"
SCROLL = {"\x1b[A": -1, "k": -1, "\x1b[B": 1, "j": 1, "\x1b[5~": -10, "b": -10, "\x1b[6~": 10, " ": 10}
"""By how many lines a key goes on or back."""
CHANGE = {"h", "a", "n", *"1234567"}
"""Keys after which something else is shown."""

_KEY = re.compile(r"\x1b\[[\d;]*[A-Za-z~]|.", re.DOTALL)


class Screen:
    """One screen: the card, what goes on, and the keys."""

    def __init__(self, guide: Guide, to: Console) -> None:
        self._guide, self._to = guide, to
        self.redrawn = to.is_terminal and not to.is_dumb_terminal
        """Whether it is drawn again in the same place. Else it is printed whole, one below the other."""
        self._all_hints = self._all_details = False
        self._top = 0  # the first line of the card that is shown
        self._to_details = False  # a key has changed what is below the list of checkpoints
        self.over = asyncio.Event()

    def draw(self) -> Text:
        """What fits the terminal: what goes on, the step in hand, and as much of the card as there is room for."""
        size = shutil.get_terminal_size()
        self._to.width = min(max(size.columns, NARROWEST), WIDEST)
        head = self.doing()
        head.append(f"\n{self._step()}", style="default not bold").append(f"\n{KEYS}", style="dim not bold")
        output = self._guide.ended and self._guide.ended["output"]
        body = (Text(f"\n{output}") if output else self._card()).wrap(self._to, self._to.width)
        above = len(head.wrap(self._to, self._to.width))
        room = max(3, size.lines - above - 1) if self.redrawn else len(body)
        if self._to_details:
            begins = re.compile(rf"\S {re.escape(self._guide.chosen)} .* - ")
            self._top = next((n for n, line in enumerate(body) if begins.match(line.plain)), self._top)
            self._to_details = False
        self._top = max(0, min(self._top, len(body) - room))
        shown = Text("\n").join([head, *body[self._top : self._top + room]])
        if len(body) > room:
            last = min(len(body), self._top + room)
            shown.append(f"\nlines {self._top + 1} to {last} of {len(body)}: arrow keys, or j and k", style="dim")
        return shown

    def doing(self) -> Text:
        """The checkpoint in hand, and what goes on."""
        running = self._guide.running
        what = (
            f"running {', '.join(running.only) or f'exercise {running.exercise}'}" if running else "watching your files"
        )
        return Text(f"{self._guide.chosen}   {what}", style="bold cyan")

    def _step(self) -> str:
        """What is to be written where, as the lesson has it."""
        exercise = next(e for e in self._guide.exercises if self._guide.chosen in e.ids)
        for step in exercise.steps:
            if self._guide.chosen in step.passes:
                return f"lessons/ex{exercise.number}.md, step {step.number}: {', '.join(step.files)}: {step.write}"
        return f"lessons/ex{exercise.number}.md"

    def _card(self) -> Text:
        """What pytest prints of the last run, as the card has it; of another exercise its newest results."""
        run = self._run()
        if run is None:
            about = f" of exercise {self._guide.chosen.partition('.')[0]}" if self._guide.last else ""
            return Text(f"\nNothing{about} is judged yet: save a file, or press r.")
        drawn = Console(
            file=io.StringIO(), width=self._to.width, force_terminal=True, color_system="standard", legacy_windows=False
        )
        in_hand = self._guide.chosen
        Card(drawn, all_hints=self._all_hints, all_details=self._all_details, in_hand=in_hand).whole(run)
        assert isinstance(drawn.file, io.StringIO)
        return Text.from_ansi(drawn.file.getvalue())

    def _run(self) -> Run | None:
        """The last run, if it is about the checkpoint in hand; else the newest results of its exercise."""
        last, number = self._guide.last, int(self._guide.chosen.partition(".")[0])
        if last is None:
            return None
        run = parse(dict(last), "the last run")
        if any(c.id == self._guide.chosen for c in run.checkpoints):
            return run
        known = newest(self._guide.place.folder, last, self._guide.place.files)
        known.exercises = [e for e in known.exercises if e.number == number]
        return known if known.exercises else None

    def begin(self) -> None:
        """A run begins: its card is shown from the first line."""
        self._top = 0

    async def press(self, key: str) -> None:
        """Do what a key stands for."""
        number = int(self._guide.chosen.partition(".")[0])
        self._to_details = key in CHANGE
        if key == "q":
            self.over.set()
        elif key in SCROLL:
            self._top += SCROLL[key]
        elif key == "h":
            self._all_hints = not self._all_hints
        elif key == "a":
            self._all_details = not self._all_details
        elif key == "n":
            self._guide.choose(self._guide.next_open())
        elif key in CHANGE:
            self._guide.go_to(int(key))
        elif key == "c":
            await self._guide.run(Selection(number, (self._guide.chosen,)))
        elif key == "r":
            await self._guide.run(Selection(number))


async def show(guide: Guide) -> None:
    """Show it until `q` or Ctrl-C."""
    to = console(sys.stdout)
    screen = Screen(guide, to)
    pressed: asyncio.Queue[str] = asyncio.Queue()
    with contextlib.ExitStack() as stack:
        live = Live(screen.draw(), console=to, screen=True, auto_refresh=False) if screen.redrawn else None
        stack.enter_context(keys(pressed.put_nowait))  # before the first screen: from there on keys are pressed
        if live:
            stack.enter_context(live)

        def redraw(*, anew: bool = True) -> None:
            """Draw it in its place; where that cannot be, print what is to be shown `anew`."""
            if live:
                live.update(screen.draw(), refresh=True)
            elif anew:
                to.print(screen.draw())

        async def follow() -> None:
            async for name, _ in guide.events():
                if name == "running":
                    screen.begin()
                    if not live:
                        to.print(screen.doing())
                redraw(anew=name in ("state", "ended", "note"))

        async def obey() -> None:
            while True:
                key = await pressed.get()
                await screen.press(key)
                redraw(anew=key in CHANGE)

        if sys.platform != "win32" and live:
            asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, redraw)
        tasks = [asyncio.create_task(one) for one in (guide.live(), follow(), obey(), screen.over.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def keys(press: Callable[[str], None]) -> Iterator[None]:
    """Give each key as it is pressed. Without a terminal, and on Windows, there are none: Ctrl-C ends it."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    loop = asyncio.get_running_loop()
    tty.setcbreak(handle, termios.TCSADRAIN)  # what is typed already is kept

    def read() -> None:
        typed = os.read(handle, 1024).decode(errors="replace")
        for key in _KEY.findall(typed) or ["q"]:  # nothing: the terminal has gone
            press(key)

    loop.add_reader(handle, read)
    try:
        yield
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
