"""`lab report`: all that there is as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab_guide.commands.status import RESULTS


def report(
    html: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    results: Annotated[Path, typer.Option(help="The results that pytest wrote.", show_default=False)] = RESULTS,
) -> None:
    """Write verdicts, pictures and journal as one HTML file: for a teacher, or a portfolio."""
    from lab_guide.export import everything

    try:
        page = everything(results)
    except ValueError as error:
        typer.echo(f"{results} cannot be read: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error
    html.write_text(page, encoding="utf-8")
    typer.echo(f"{html} has {len(page) // 1024} KB.")
