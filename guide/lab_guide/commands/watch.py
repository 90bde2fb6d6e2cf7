"""`lab watch`: the page's twin for a terminal, for work over ssh."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer


def watch(
    workspace: Annotated[Path | None, typer.Option(help="Another folder with your work, as for pytest.")] = None,
) -> None:
    """Run what you save and show the card, in this terminal."""
    import asyncio

    from lab_guide.place import find_place
    from lab_guide.state import Guide
    from lab_guide.terminal import show

    async def run() -> None:
        await show(Guide(find_place(workspace)))

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
