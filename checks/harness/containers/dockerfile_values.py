"""Values in a Dockerfile: with variables, in quotes; durations, and paths in an image."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_VARIABLE = re.compile(r"\\\$|\$(?:(?P<bare>\w+)|\{(?P<name>\w+)(?::?(?P<kind>[-+])(?P<word>[^}]*))?\})")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def filled(text: str, known: Mapping[str, str]) -> str:
    """`text` with its variables resolved, as a builder does it; an unknown variable is empty."""

    def value(match: re.Match[str]) -> str:
        name = match["bare"] or match["name"]
        if not name:
            return "$"
        if match["kind"] == "+":
            return match["word"] if known.get(name) else ""
        return known.get(name) or match["word"] or ""

    return _VARIABLE.sub(value, text)


def seconds(duration: str) -> float:
    """Seconds of a duration in Go's form ("1m30s", "500ms"); 0 for other text."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


def inside(folder: str, path: str) -> str:
    """The absolute path in an image of `path` as seen from `folder`, without `.` and `..`."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{folder}/{path}").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def unquoted(value: str) -> str:
    """The value without the quotes around it."""
    try:
        return " ".join(shlex.split(value)) if value[:1] in "\"'" and value else value
    except ValueError:
        return value
