"""Unpacks what strangers packed: a zip, or a git bundle. Only what a learner may have written comes out, and not much.

A path that leaves the folder, a link, or more than a workspace may hold: refused before the next byte is written.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from checks.harness.source_lines import LEARNERS
from checks.harness.workspace import MOST_BYTES, MOST_FILES

MOST_ENTRIES = 100_000
MOST_ARCHIVE = 500_000_000
"""Bytes of an archive: one with a venv and a history in it is smaller."""
GIT_SECONDS = 60

_CHUNK = 2**16


class BadArchive(Exception):
    """It cannot be unpacked, or may not be: one sentence."""


def unpack_zip(path: Path, into: Path) -> None:
    """Write what a learner may edit into the folder `into`. Raises `BadArchive`."""
    if path.stat().st_size > MOST_ARCHIVE:
        raise BadArchive(f"it is larger than {MOST_ARCHIVE // 10**6} MB")
    into.mkdir(parents=True)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES:
                raise BadArchive(f"it holds {len(entries):,} files")
            for entry in entries:
                _refuse_ways_out(entry.filename)
            _write(archive, [entry for entry in entries if _wanted(entry.filename, _top(entries))], into)
    except BadArchive:
        raise
    except Exception as error:  # zlib's, lzma's, zipfile's own, or whatever else bytes of a stranger lead to
        raise BadArchive(f"it is a zip that cannot be read: {error}") from error


def unpack_bundle(path: Path, commit: str, into: Path) -> None:
    """Write what a learner may edit, as of that commit, into the folder `into`. Raises `BadArchive`.

    Nothing is checked out: no hook, filter or link of a repository takes part.
    """
    if path.stat().st_size > MOST_ARCHIVE:
        raise BadArchive(f"it is larger than {MOST_ARCHIVE // 10**6} MB")
    if commit.startswith("-"):
        raise BadArchive(f"{commit} is no commit")
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        repository, packed = Path(scratch, "repository"), Path(scratch, "tree.zip")
        _git("clone", "--quiet", "--bare", str(path.resolve()), str(repository))
        sizes = _git("--git-dir", str(repository), "ls-tree", "-r", "-l", "--full-tree", commit)
        total = sum(int(size) for line in sizes.splitlines() if (size := line.split("\t")[0].split()[-1]).isdigit())
        if total > MOST_ARCHIVE:
            raise BadArchive(f"its files have {total:,} bytes")
        _git("--git-dir", str(repository), "archive", "--format=zip", f"--output={packed}", commit)
        unpack_zip(packed, into)


def _git(*arguments: str) -> str:
    """What a git command prints; it reads no configuration but a repository's own, and asks nobody."""
    none = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", *arguments],
            env={"PATH": os.environ.get("PATH", ""), **none},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise BadArchive("git is not installed, which reads bundles") from error
    except subprocess.TimeoutExpired as error:
        raise BadArchive(f"git took longer than {GIT_SECONDS} s for it") from error
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise BadArchive(f"git cannot read it: {last}")
    return done.stdout.decode(errors="replace")


def _refuse_ways_out(name: str) -> None:
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name.split("/")[0]:
        raise BadArchive(f"the path {name} leaves the zip")


def _top(entries: list[zipfile.ZipInfo]) -> str:
    """The folder around everything, as in `ada-main/lab/service.py`; empty where `lab` itself is at the top."""
    tops = Counter(PurePosixPath(entry.filename).parts[0] for entry in entries if PurePosixPath(entry.filename).parts)
    tops = Counter({name: many for name, many in tops.items() if not name.startswith((".", "__MACOSX"))})
    return next(iter(tops)) if len(tops) == 1 and "lab" not in tops else ""


def _wanted(name: str, top: str) -> bool:
    """Whether a path may be a learner's: in `lab` and the other folders, or a file at the top."""
    parts = PurePosixPath(name).parts[1 if top else 0 :]
    if not parts or "__pycache__" in parts or (top and PurePosixPath(name).parts[0] != top):
        return False
    return parts[0] in LEARNERS or (len(parts) == 1 and not parts[0].startswith("."))


def _write(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], into: Path) -> None:
    """Write entries, as many bytes as there really are: what the directory of a zip says of sizes may be a lie."""
    files = [entry for entry in entries if not entry.is_dir()]
    if len(files) > MOST_FILES:
        raise BadArchive(f"it holds more than {MOST_FILES} files")
    left = MOST_BYTES
    for entry in files:
        mode = entry.external_attr >> 16
        if stat.S_ISLNK(mode):
            raise BadArchive(f"{entry.filename} is a link: a zip may hold none")
        target = into / PurePosixPath(entry.filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, target.open("wb") as written:
            while chunk := packed.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise BadArchive(f"{entry.filename} makes it larger than {MOST_BYTES // 10**6} MB")
                written.write(chunk)
        if mode & stat.S_IXUSR:
            target.chmod(0o755)
