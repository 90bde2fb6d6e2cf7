"""Where everything is: the lab, the learner's files, and the folder for what the guide keeps."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab_guide import ROOT


@dataclass(frozen=True, slots=True)
class Place:
    """`root` is the lab. `files` is what is judged: the root itself, or a workspace. `folder` is for results.

    `note` says why `folder` is not the usual one; empty where it is.
    """

    root: Path
    files: Path
    folder: Path
    note: str = ""

    @property
    def results(self) -> Path:
        """What pytest writes, and rewrites after each checkpoint."""
        return self.folder / "last-run.json"

    def command(self, exercise: int, only: tuple[str, ...] = ()) -> list[str]:
        """What comes behind `pytest` to judge an exercise, or some checkpoints of it."""
        arguments = [f"checks/test_ex{exercise}.py"]
        if only:
            arguments += ["-k", " or ".join(only)]
        if self.files != self.root:
            arguments += ["--workspace", str(self.files)]
        if self.results != self.root / ".lab" / "last-run.json":
            arguments += ["--results", str(self.results)]
        if self.note:
            arguments += ["-p", "no:cacheprovider"]
        return arguments


def find_place(workspace: Path | None = None, root: Path = ROOT) -> Place:
    """The place of a checkout, or of a workspace. What cannot be written into gets a temporary folder."""
    files = (workspace or root).resolve()
    folder = files / ".lab"
    try:
        folder.mkdir(exist_ok=True)
        handle, tried = tempfile.mkstemp(dir=folder)
        os.close(handle)
        Path(tried).unlink()
    except OSError as error:
        instead = Path(tempfile.mkdtemp(prefix="lab-"))
        return Place(
            root, files, instead, f"Nothing can be written to {folder} ({error.strerror}). It goes to {instead}."
        )
    return Place(root, files, folder)
