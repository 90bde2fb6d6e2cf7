"""`lab status`: points and verdicts, of each checkpoint the newest."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lab_guide import ROOT

RESULTS = ROOT / ".lab" / "last-run.json"
"""Where a run of checkpoints leaves its results, unless it is told another place."""


def status(
    results: Annotated[Path, typer.Option(help="The results that pytest wrote.", show_default=False)] = RESULTS,
) -> None:
    """Points and verdicts, of each checkpoint the newest. Nothing is run. Exit code 1: there are no results."""
    from checks.harness.report.card import Card, console
    from lab_guide.history import names
    from lab_guide.standing import standing

    if not results.exists() and not names(results.parent):
        typer.echo("No results yet. `uv run pytest checks/test_ex1.py` judges exercise 1.", err=True)
        raise typer.Exit(1)
    try:
        run = standing(results)
    except ValueError as error:
        typer.echo(f"{results} cannot be read: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error
    to = console(sys.stdout)
    Card(to).lines(run)
    to.print(f"\n   {run.score}, {_ago(run.started)}", style="bold", highlight=False)
    if waiting := [c.id for c in run.checkpoints if c.verdict == "not_run"]:
        to.print(f"   not judged, or not yet: {', '.join(waiting)}", style="yellow", highlight=False)


def _ago(started: str) -> str:
    """How long ago that was, in the largest unit that fits."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if count := int(seconds // length):
            return f"last judged {count} {name}{'s' if count > 1 else ''} ago"
    return "last judged just now"
