"""Files and folders that are closed to other users while somebody grades in the uid cell."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from checks.harness import ROOT

_RECORDS = ROOT / ".lab" / "closed"
"""A file for each path that was ever closed. It holds the mode of before while the path is closed, and else nothing."""
_OTHERS = 0o077


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Within this, nobody but its owner and root can open the file or enter the folder.

    Several processes may close it at once: the last of them opens it again, as the first one found it. If it was
    killed, the next grading opens it.
    """
    if not path.exists():
        yield
        return
    import fcntl  # late: Windows has none

    _RECORDS.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    record = os.open(_RECORDS / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            with suppress(BlockingIOError):  # somebody has closed it, or is about to open it
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = stat.S_IMODE(path.stat().st_mode)
                if _mode(record) is None or found & _OTHERS:
                    os.ftruncate(record, 0)
                    os.pwrite(record, b"%o" % found, 0)
            fcntl.flock(record, fcntl.LOCK_SH)
            if (before := _mode(record)) is not None:  # nobody opens it from here on
                break
        path.chmod(before & ~_OTHERS)
        try:
            yield
        finally:
            with suppress(BlockingIOError):  # not the last one
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    path.chmod(before)
                os.ftruncate(record, 0)
    finally:
        os.close(record)


def _mode(record: int) -> int | None:
    """What a record says; None for an empty one."""
    text = os.pread(record, 8, 0)
    return int(text, 8) if text else None
