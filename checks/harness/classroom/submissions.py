"""Finds the submissions of a class, and makes of each one a folder that may be judged, or one line that says why not.

A class is a folder with a folder or a zip for each learner, or a CSV with the columns `name` and `bundle`, and
optionally `commit`: a git bundle for each.
"""

from __future__ import annotations

import csv
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from checks.harness import ROOT
from checks.harness.classroom.unpack import BadArchive, unpack_bundle, unpack_zip
from checks.harness.errors import LearnerError, printable
from checks.harness.source_lines import LEARNERS
from checks.harness.workspace import MOST_BYTES, MOST_FILES, open_workspace

MOST_NAME = 100


class NoClass(Exception):
    """There is no class to grade: one sentence."""


class Refused(Exception):
    """A submission that cannot be judged: one line for the teacher and the learner."""


@dataclass(frozen=True)
class Submission:
    """One learner's work where it was found. `name` is printable, and that of one submission only."""

    name: str
    path: Path
    kind: Literal["folder", "zip", "bundle", "other"]
    commit: str = "HEAD"


def find(source: Path) -> list[Submission]:
    """Every submission in a folder or a CSV, by name; files that are hidden are left out. Raises `NoClass`."""
    if source.is_file():
        found = _listed(source)
    elif source.is_dir():
        found = [_found(Path(entry)) for entry in os.scandir(source) if not entry.name.startswith((".", "__"))]
    else:
        raise NoClass(f"{source} is neither a folder with submissions nor a CSV of git bundles")
    if not found:
        raise NoClass(f"{source} holds no submission")
    return _each_its_name(sorted(found, key=lambda one: (one.name, os.fsencode(one.path))))


def only(source: Path) -> list[Submission]:
    """The class that is one submission: that folder or zip itself. Raises `NoClass`."""
    if not source.exists():
        raise NoClass(f"{source} is neither a folder nor a zip")
    return [_found(source.resolve())]


def _found(path: Path) -> Submission:
    if path.is_dir():
        return Submission(_named(path.name), path, "folder")
    if path.suffix.lower() == ".zip":
        return Submission(_named(path.stem), path, "zip")
    return Submission(_named(path.name), path, "other")


def _listed(source: Path) -> list[Submission]:
    """The rows of a CSV; paths in it start from its own folder."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"name", "bundle"} <= set(reader.fieldnames or ()):
                raise NoClass(f"{source} needs the columns `name` and `bundle`")
            rows = [row for row in reader if row["bundle"]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise NoClass(f"{source} is no CSV: {error}") from error
    return [
        Submission(
            _named(row["name"] or Path(row["bundle"]).stem), source.parent / row["bundle"], "bundle",
            row.get("commit") or "HEAD",
        )
        for row in rows
    ]  # fmt: skip


def _named(name: str) -> str:
    """A name that a terminal, a CSV and a folder can have."""
    clean = printable(name.replace("/", "-").replace("\\", "-")).replace("\n", " ").replace("\t", " ").strip(". ")
    return clean.replace("/", "-").replace("\\", "-")[:MOST_NAME] or "unnamed"


def _each_its_name(found: list[Submission]) -> list[Submission]:
    """The same, with a number behind a name that another one has already; upper and lower case are the same name."""
    taken: set[str] = set()
    result = []
    for one in found:
        name, number = one.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{one.name} ({number})"
        taken.add(name.casefold())
        result.append(Submission(name, one.path, one.kind, one.commit))
    return result


def prepare(submission: Submission, into: Path) -> tuple[Path, str]:
    """Copy what is judged into the folder `into`: the copy, and its hash of twelve hex digits.

    The copy can be read by every user, and holds no link. Raises `Refused`.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        source = _unpacked(submission, into / "unpacked")
        _look(source)
        workspace = open_workspace(ROOT, source, into / "tree")
        _readable(workspace.tree)
        return workspace.tree, workspace.hash
    except LearnerError as error:
        raise Refused(printable(str(error).replace(f"{into / 'unpacked'} ", "it ")).replace("\n", " ")) from error
    except BadArchive as error:
        raise Refused(printable(str(error)).replace("\n", " ")) from error
    except Refused:
        raise
    except Exception as error:  # folders too deep to be walked, an encoding, whatever strangers come upon
        raise Refused(printable(f"it cannot be read: {getattr(error, 'strerror', None) or error}")) from error
    finally:
        shutil.rmtree(into / "unpacked", ignore_errors=True)


def _unpacked(submission: Submission, into: Path) -> Path:
    """The folder that holds `lab`: the submission itself, or what was unpacked."""
    if not submission.path.exists():
        raise Refused("there is no such file" if not submission.path.is_symlink() else "it is a link to nothing")
    match submission.kind:
        case "other":
            raise Refused("it is neither a folder nor a zip")
        case "zip":
            unpack_zip(submission.path, into)
            source = into
        case "bundle":
            unpack_bundle(submission.path, submission.commit, into)
            source = into
        case "folder":
            source = submission.path
    inside = [entry for entry in os.scandir(source) if not entry.name.startswith((".", "__MACOSX"))]
    if not inside:
        raise Refused("it is empty")
    if not (source / "lab").is_dir() and len(inside) == 1 and inside[0].is_dir() and Path(inside[0], "lab").is_dir():
        source = Path(inside[0])  # one folder around everything, as archives have it
    if not (source / "lab").is_dir():
        raise Refused("it holds no folder `lab`")
    return source


def _look(source: Path) -> None:
    """Raise `Refused` for names, links and sizes of what is judged that nobody can read or copy."""
    total = 0
    for number, path in enumerate(_below(source), 1):
        inside = path.relative_to(source).as_posix()
        shown = printable(inside)
        if shown != inside:
            raise Refused(f"{shown}: a name that is no text")
        if path.is_symlink() and not _leads_somewhere(path):
            raise Refused(f"{shown} is a link that leads nowhere, or to itself")
        total += path.stat().st_size
        if number > MOST_FILES:
            raise Refused(f"{shown} is one of more than {MOST_FILES} files")
        if total > MOST_BYTES:
            raise Refused(f"{shown} makes it larger than {MOST_BYTES // 10**6} MB")


def _below(source: Path) -> Iterator[Path]:
    """The files at the top, the folders that a learner may edit, and all that is in them."""
    for entry in os.scandir(source):
        if entry.name in LEARNERS or not (entry.name.startswith(".") or entry.is_dir()):
            yield Path(entry.path)
    for top in LEARNERS:
        for folder, folders, files in os.walk(source / top):
            folders[:] = [name for name in folders if name != "__pycache__"]
            yield from (Path(folder, name) for name in (*folders, *files))


def _leads_somewhere(link: Path) -> bool:
    """Whether a link leads to something, and to no folder that it is in itself."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return not link.parent.resolve().is_relative_to(target)


def _readable(tree: Path) -> None:
    """Let every user read a copy: the one that runs it in a cell is none that this machine knows."""
    tree.chmod(0o755)
    for folder, folders, files in os.walk(tree):
        for name in folders:
            Path(folder, name).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
