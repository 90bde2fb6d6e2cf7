"""`lab reset`: a stub again, in the place of what a learner wrote, which is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab_guide import ROOT, lessons, stubs


def reset(what: Annotated[str, typer.Argument(metavar="CHECKPOINT|FILE", show_default=False)]) -> None:
    """Put back the stub of a checkpoint (1.4) or a whole file (lab/service.py); your version is kept in .lab/kept."""
    try:
        for line in put_back(ROOT, what):
            typer.echo(line)
    except stubs.CannotReset as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def put_back(root: Path, what: str) -> list[str]:
    """Put the stubs back that a checkpoint's number or a file's name stands for: a sentence for each file.

    Raises:
        CannotReset: there is no such checkpoint or file, or no stub of it. Then nothing is changed.
    """
    from checks.harness.grading.markers import EXERCISES  # late: it brings pytest, which no other command needs

    known = [step for exercise in EXERCISES for step in lessons.steps(lessons.path(root, exercise).read_text())]
    files = {file for step in known for file in step.files}
    if what in files:
        texts = {what: (stubs.whole(root, what), list[str]())}
    else:
        step = next((step for step in known if what in step.passes), None)
        if step is None:
            raise stubs.CannotReset(f"{what} is neither a checkpoint nor one of {', '.join(sorted(files))}")
        texts = {file: stubs.spliced(root, file, step.marked) for file in step.files}
        texts = {file: found for file, found in texts.items() if found[0]}
        if not texts:
            raise stubs.CannotReset(f"no commit has the stubs of {what} in {', '.join(step.files)}")
    said = []
    for file, (text, names) in texts.items():
        own = root / file
        before = f"; your version is {stubs.kept(root, file)}" if own.exists() else ""
        own.write_text(text, encoding="utf-8", errors="surrogateescape")
        said.append(f"{file}: {', '.join(names) or 'the whole file'} as it was at the start{before}")
    return said
