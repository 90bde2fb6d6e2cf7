"""What a checkpoint does right now: its process writes it to a file, and the card shows it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

STALE_SECONDS = 60.0
"""Seconds after the planned end from which the entry is ignored: its checkpoint may have been killed."""


def say(folder: Path, what: str, seconds: float, *, known: bool = True) -> None:
    """Write the current activity for the card. `seconds` is its duration, or an upper limit if `known` is False."""
    partial = folder / f"doing.{os.getpid()}"
    partial.write_text(json.dumps({"what": what, "until": time.time() + seconds, "known": known}))
    partial.replace(folder / "doing")


def forget(folder: Path) -> None:
    """Remove the entry: another checkpoint begins."""
    (folder / "doing").unlink(missing_ok=True)


def doing(folder: Path) -> tuple[str, float | None]:
    """The current activity and the seconds that it still takes, where they are known; ("", None) without an entry."""
    try:
        entry = json.loads((folder / "doing").read_text())
    except (OSError, ValueError):
        return "", None
    left = entry["until"] - time.time()
    return (entry["what"], left if entry["known"] else None) if left > -STALE_SECONDS else ("", None)
