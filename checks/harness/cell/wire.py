"""Frames of JSON between the judge and a cell: four bytes of length, then one object. Both sides use this file.

It carries plain data and decides nothing. What goes over the wire is told by its exact type, so that no subclass of a
learner's, with an `==` of its own say, is ever taken for a number:

| Python | JSON |
|---|---|
| None, bool, str, int of 64 bits, finite float, list, dict with text keys | itself |
| NaN, infinity | `{"$": "f", "v": "nan"}` |
| larger int | `{"$": "i", "v": "0x..."}` |
| tuple, set | `{"$": "t", "v": [...]}`, `{"$": "s", "v": [...]}` |
| bytes | `{"$": "b", "v": "<base64>"}` |
| dict with other keys, or with a key `$` | `{"$": "d", "v": [[key, value], ...]}` |
| a given record (`lab.records`) | `{"$": "r", "v": ["Step", {...}]}` |
| anything else, which stays on its side | `{"$": "h", "v": {...}}`: a handle |

The two sides say themselves what their records and handles are.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import select
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

LIMIT = 8 << 20
"""Bytes of a frame at most, its length aside."""

DEEP = 40
"""Lists, tuples and dicts in one another at most."""

_CHUNK = 1 << 16
_AT_ONCE = 4096
"""Bytes that a pipe has room for, where `select` says that it can be written to (POSIX: PIPE_BUF)."""
_SMALL = 2**63
_HEX = re.compile(r"-?0x[0-9a-f]+")
_NUMBERS, _WORDS = frozenset({float, int}), frozenset({str, bool, type(None)})


class StandsFor(NamedTuple):
    """What goes over the wire in the place of a value: see `record` and `handle`. Its content is encoded in turn."""

    tag: str
    content: Any


Other = Callable[[object], object]
"""What goes in the place of a value that is no plain data: a `StandsFor`, or other data."""
Found = Callable[[str, Any], object]
"""The value that a tag, "r" or "h", and its decoded content stand for; raises `Broken` where there is none."""


class Broken(Exception):
    """What came is no frame, or what should go does not fit into one."""


class Wire:
    """Sends and receives objects through two file descriptors: of pipes, or twice that of a socket."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._whole = threading.Lock()
        self.received = 0
        """Bytes so far."""

    def send(self, message: dict[str, Any], meanwhile: Callable[[], object] | None = None) -> None:
        """Write a message; raises `Broken` where it is too large, and OSError where the other side has ended.

        Where both sides write and neither reads, both wait for ever. So one of them reads while it writes: each time
        that something has come, `meanwhile` is called, to receive it.
        """
        data = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
        if len(data) > LIMIT:
            raise Broken(f"a message of {len(data):,} bytes")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        with self._whole:
            while view:
                if meanwhile is None:
                    view = view[os.write(self._writer, view) :]
                    continue
                come, free, _ = select.select([self._reader], [self._writer], [])
                if come:
                    meanwhile()
                if free:
                    view = view[os.write(self._writer, view[:_AT_ONCE]) :]

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None where the other side has ended. Raises `Broken` for anything else."""
        if (length := self._read(4)) is None:
            return None
        size = int.from_bytes(length, "big")
        if size > LIMIT:
            raise Broken(f"a message of {size:,} bytes")
        if (data := self._read(size)) is None:
            return None
        try:
            message = json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Broken("a message that is no JSON") from error
        if type(message) is not dict:
            raise Broken("a message that is no object")
        return message

    def ready(self, seconds: float) -> bool:
        """Whether something comes within so many seconds: then `receive` waits for no more than its end."""
        return bool(select.select([self._reader], [], [], seconds)[0])

    def close(self) -> None:
        """Close both file descriptors."""
        for end in {self._reader, self._writer}:
            os.close(end)

    def _read(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = os.read(self._reader, min(size - len(data), _CHUNK))
            except OSError:
                return None
            if not chunk:
                return None
            data += chunk
            self.received += len(chunk)
        return bytes(data)


def record(name: str, fields: dict[str, Any]) -> StandsFor:
    """Stands for a given record: its class, and its fields as they are."""
    return StandsFor("r", [name, fields])


def handle(content: dict[str, Any]) -> StandsFor:
    """Stands for a thing that stays on its side."""
    return StandsFor("h", content)


def encode(value: object, other: Other, deep: int = 0) -> Any:
    """A value as JSON; `other` says what stands for whatever is no plain data. Raises `Broken` if it is too deep."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if isinstance(value, int) and kind is int:
        return value if -_SMALL <= value < _SMALL else _tagged("i", hex(value))
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else _tagged("f", repr(value))
    if deep >= DEEP:
        raise Broken(f"more than {DEEP} lists in one another")
    if isinstance(value, list) and kind is list:
        return value if _plain(value) else [encode(one, other, deep + 1) for one in value]
    if isinstance(value, tuple | set) and (kind is tuple or kind is set):
        return _tagged("t" if kind is tuple else "s", [encode(one, other, deep + 1) for one in value])
    if isinstance(value, bytes) and kind is bytes:
        return _tagged("b", base64.b64encode(value).decode())
    if isinstance(value, dict) and kind is dict:
        if "$" not in value and all(type(key) is str for key in value):
            return {key: encode(one, other, deep + 1) for key, one in value.items()}
        pairs = value.items()
        return _tagged("d", [[encode(key, other, deep + 1), encode(one, other, deep + 1)] for key, one in pairs])
    instead = other(value)
    if isinstance(instead, StandsFor):
        return _tagged(instead.tag, encode(instead.content, other, deep + 1))
    return encode(instead, other, deep + 1)


def decode(data: object, found: Found, deep: int = 0) -> Any:
    """The value that some JSON stands for. Raises `Broken` for whatever `encode` does not give."""
    if isinstance(data, float) and not math.isfinite(data):
        raise Broken("a number that no float can hold")
    if not isinstance(data, list | dict):
        return data
    if deep >= DEEP:
        raise Broken(f"more than {DEEP} lists in one another")
    if isinstance(data, list):
        return data[:] if _plain(data) else [decode(one, found, deep + 1) for one in data]
    if "$" not in data:
        return {key: decode(one, found, deep + 1) for key, one in data.items()}
    if data.keys() != {"$", "v"}:
        raise Broken("a tag without its value")
    return _untagged(data["$"], data["v"], found, deep + 1)


def no_things(*_: object) -> NoReturn:
    """An `Other`, or a `Found`, where nothing but plain data is expected."""
    raise Broken("no plain data")


def _untagged(tag: object, value: Any, found: Found, deep: int) -> object:
    try:
        match tag, value:
            case "f", "nan" | "inf" | "-inf":
                return float(value)
            case "i", str() if _HEX.fullmatch(value):
                return int(value, 16)
            case "b", str():
                return base64.b64decode(value, validate=True)
            case "t", list():
                return tuple(decode(one, found, deep) for one in value)
            case "s", list():
                return {decode(one, found, deep) for one in value}
            case "d", list():
                return {decode(key, found, deep): decode(one, found, deep) for key, one in value}
            case ("r" | "h") as stands, _:
                return found(stands, decode(value, found, deep))
    except (TypeError, ValueError) as error:  # what has no hash, no pair, no base64
        raise Broken(f"a tag {tag!r} with another value") from error
    raise Broken("a tag that there is not, or with another value")


def _plain(values: list[Any]) -> bool:
    """Whether a list is surely its own JSON: numbers, none too large or infinite, or words. Long lists mostly are."""
    kinds = set(map(type, values))
    if not kinds <= _NUMBERS:
        return kinds <= _WORDS
    try:
        finite = all(map(math.isfinite, values))
    except OverflowError:  # an int that no float can hold
        return False
    return finite and (int not in kinds or (min(values) >= -_SMALL and max(values) < _SMALL))


def _tagged(tag: str, value: object) -> dict[str, object]:
    return {"$": tag, "v": value}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
