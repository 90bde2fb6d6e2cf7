"""What a checkpoint does right now: its process leaves word of it, and the card shows it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

STALE_SECONDS = 60.0
"""How long word is believed after what it tells of should have ended: its checkpoint may have been killed."""


def say(folder: Path, what: str, seconds: float, *, known: bool = True) -> None:
    """Leave word in the folder that all checkpoints share: it takes so many seconds, or at most so many."""
    partial = folder / f"doing.{os.getpid()}"
    partial.write_text(json.dumps({"what": what, "until": time.time() + seconds, "known": known}))
    partial.replace(folder / "doing")


def doing(folder: Path) -> tuple[str, float | None]:
    """What is going on, and for how many more seconds where that is known; no words when nobody says."""
    try:
        told = json.loads((folder / "doing").read_text())
    except (OSError, ValueError):
        return "", None
    left = told["until"] - time.time()
    return (told["what"], left if told["known"] else None) if left > -STALE_SECONDS else ("", None)
