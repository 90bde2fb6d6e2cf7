"""`lab`: the list of its commands. Without one it opens the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab_guide.commands.autograder_zip import autograder_zip
from lab_guide.commands.doctor import doctor
from lab_guide.commands.grade import grade
from lab_guide.commands.report import report
from lab_guide.commands.reset import reset
from lab_guide.commands.status import status
from lab_guide.commands.watch import watch

app = typer.Typer(
    name="lab",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (watch, status, report, doctor, reset, grade, autograder_zip):
    app.command()(command)


@app.callback(invoke_without_command=True)
def page(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(help="A port of your own; else the first free one from 8460 on.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    workspace: Annotated[Path | None, typer.Option(help="Another folder with your work, as for pytest.")] = None,
) -> None:
    """Open the page of the inference latency lab: it runs your checkpoints at every save, and shows what happened."""
    if context.invoked_subcommand:
        return
    from lab_guide.place import find_place
    from lab_guide.serving import PortTaken, serve

    if workspace and not (workspace / "lab").is_dir():
        typer.echo(f"{workspace} is not a workspace: it has no folder `lab`", err=True)
        raise typer.Exit(2)
    try:
        serve(find_place(workspace), port, browser=not no_browser, say=typer.echo)
    except PortTaken as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
