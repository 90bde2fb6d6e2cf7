"""`lab`: the list of its commands."""

from __future__ import annotations

import typer

from lab_guide.commands.doctor import doctor
from lab_guide.commands.reset import reset
from lab_guide.commands.status import status

app = typer.Typer(
    name="lab",
    help="The inference latency lab. pytest judges (uv run pytest checks/test_ex1.py); this is all around it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (status, doctor, reset):
    app.command()(command)
