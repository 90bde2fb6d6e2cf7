"""`lab report`: the last run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab_guide.commands.status import RESULTS


def report(
    html: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    results: Annotated[Path, typer.Option(help="What --results of pytest wrote.", show_default=False)] = RESULTS,
) -> None:
    """Write the last run as one HTML file, every open checkpoint in full: for a teacher, or a portfolio."""
    from checks.harness.report.results import read
    from lab_guide.export import html as rendered

    try:
        run = read(results)
    except (OSError, ValueError) as error:
        typer.echo(f"{results} cannot be read: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error
    html.write_text(rendered(run), encoding="utf-8")
    typer.echo(f"{html} holds {sum(1 for _ in run.checkpoints)} checkpoints.")
