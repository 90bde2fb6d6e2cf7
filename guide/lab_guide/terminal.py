"""The page's twin for a terminal: the card of the last run, again at every save, and a few keys."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from checks.harness.report.card import Card, console
from checks.harness.report.results import read
from lab_guide.state import Guide, Selection

KEYS = "h hints   a all open ones   n next checkpoint   c run this one   r run the exercise   q quit"


class Screen:
    """One screen: the card, what goes on, and the keys."""

    def __init__(self, guide: Guide, to: Console) -> None:
        self._guide, self._to = guide, to
        self._all_hints = self._all_details = False
        self.over = asyncio.Event()

    def draw(self) -> Text:
        """The whole screen."""
        running = self._guide.running
        what = (
            f"running {', '.join(running.only) or f'exercise {running.exercise}'}" if running else "watching your files"
        )
        lines = Text(f"{self._guide.chosen}   {what}\n", style="bold cyan")
        lines.append(KEYS, style="dim")
        if ended := self._guide.ended and self._guide.ended["output"]:
            return lines.append(f"\n\n{ended}")
        return lines.append_text(self._card())

    def _card(self) -> Text:
        """What pytest prints of the last run, as the card has it."""
        try:
            run = read(self._guide.place.results)
        except (OSError, ValueError):
            return Text("\n\nNothing is judged yet: save a file, or press r.")
        drawn = Console(
            file=io.StringIO(), width=self._to.width, force_terminal=True, color_system="standard", legacy_windows=False
        )
        Card(drawn, all_hints=self._all_hints, all_details=self._all_details).whole(run)
        assert isinstance(drawn.file, io.StringIO)
        return Text.from_ansi("\n" + drawn.file.getvalue())

    async def press(self, key: str) -> None:
        """Do what a key stands for."""
        number = int(self._guide.chosen.partition(".")[0])
        if key == "q":
            self.over.set()
        elif key == "h":
            self._all_hints = not self._all_hints
        elif key == "a":
            self._all_details = not self._all_details
        elif key == "n":
            self._guide.choose(self._guide.next_open())
        elif key == "c":
            await self._guide.run(Selection(number, (self._guide.chosen,)))
        elif key == "r":
            await self._guide.run(Selection(number))


async def show(guide: Guide) -> None:
    """Show it until `q` or Ctrl-C."""
    to = console(sys.stdout)
    screen = Screen(guide, to)
    pressed: asyncio.Queue[str] = asyncio.Queue()
    with Live(screen.draw(), console=to, screen=to.is_terminal, auto_refresh=False) as live, keys(pressed.put_nowait):

        async def follow() -> None:
            async for _ in guide.events():
                live.update(screen.draw(), refresh=True)

        async def obey() -> None:
            while True:
                await screen.press(await pressed.get())
                live.update(screen.draw(), refresh=True)

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
    tty.setcbreak(handle)
    loop.add_reader(handle, lambda: press(sys.stdin.read(1)))
    try:
        yield
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
