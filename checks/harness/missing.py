"""A name, a module, an attribute or a key that is not there: what there is instead, and how it comes there."""

from __future__ import annotations

import inspect
import linecache
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable
from difflib import SequenceMatcher

IMPORTS = {
    "Annotated": "from typing import Annotated",
    "APIRouter": "from fastapi import APIRouter",
    "AsyncIterator": "from collections.abc import AsyncIterator",
    "BaseModel": "from pydantic import BaseModel",
    "Batcher": "from lab.batching import Batcher",
    "BatchModel": "from lab.batch_model import BatchModel",
    "Counter": "from collections import Counter",
    "Depends": "from fastapi import Depends",
    "FastAPI": "from fastapi import FastAPI",
    "Field": "from pydantic import Field",
    "HTTPException": "from fastapi import HTTPException",
    "JSONResponse": "from fastapi.responses import JSONResponse",
    "Request": "from fastapi import Request",
    "RequestValidationError": "from fastapi.exceptions import RequestValidationError",
    "Response": "from fastapi import Response",
    "Settings": "from lab.settings import Settings",
    "SimulatedDecoder": "from lab.decoder import SimulatedDecoder",
    "SimulatedModel": "from lab.model import SimulatedModel",
    "asynccontextmanager": "from contextlib import asynccontextmanager",
    "aclosing": "from contextlib import aclosing",
    "contextmanager": "from contextlib import contextmanager",
    "deque": "from collections import deque",
    "fmean": "from statistics import fmean",
    "invalid_request": "from lab.errors import invalid_request",
    "mean": "from statistics import mean",
    "run_in_threadpool": "from fastapi.concurrency import run_in_threadpool",
    "StreamingResponse": "from fastapi.responses import StreamingResponse",
    "stage": "from lab.timing import stage",
}
"""Names that this lab's files often need, and the line that brings each."""

LIBRARIES = ("anyio", "fastapi", "httpx", "pydantic", "starlette", "structlog", "uvicorn")

FILES = (
    "admission",
    "batch_model",
    "batching",
    "breaking_point",
    "decoder",
    "errors",
    "feature_store",
    "logs",
    "model",
    "predictions",
    "recommender",
    "records",
    "routes",
    "serve",
    "service",
    "settings",
    "streaming",
    "timing",
    "tokens",
    "tuning",
)
"""What `lab/` holds at the start: a module of these names that is not there was deleted, or moved."""

NAMED = 6
"""Names that are listed at most, where none is like the one that was missed."""


def hint_for(error: BaseException) -> str:
    """What there is in the place of what is missing, or where it comes from; empty where nothing is known of it."""
    match error:
        case UnboundLocalError():
            return (
                f"The function assigns `{error.name}` further down, so the name is local to the function, and has "
                "no value yet: give one of the two another name."
            )
        case NameError():
            return _missing_name(error.name or "")
        case ModuleNotFoundError():
            return _missing_module(error.name or "")
        case ImportError() if error.name and (found := re.search(r"cannot import name '(\w+)'", str(error))):
            near = most_like(found[1], dir(sys.modules.get(error.name)))
            return f"There is `{near}`: is that the one?" if near else f"Is `{found[1]}` spelled as it is in its file?"
        case KeyError(args=[str(key)]):
            return _missing_key(key, error)
        case AttributeError() if error.obj is not None:
            return _missing_attribute(error.name or "", error.obj)
        case _:
            return ""


def most_like(name: str, names: Iterable[str]) -> str:
    """The name that is most likely the same one, spelled or ordered differently; empty if none is near."""
    near = {other: SequenceMatcher(None, _words(name), _words(other)).ratio() for other in names if other != name}
    best = max(near, key=lambda other: near[other], default="")
    return best if best and near[best] >= 0.75 else ""


def _words(name: str) -> str:
    """The words of a name in their alphabetical order, in lower case."""
    return "_".join(sorted(filter(None, re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_"))))


def _missing_module(name: str) -> str:
    if name.partition(".")[0] in LIBRARIES:
        return "The lab needs it: `uv sync` installs it."
    if name.partition(".")[0] == "lab":
        files = [one.name for one in pkgutil.iter_modules(getattr(sys.modules.get("lab"), "__path__", []))]
        if name.partition(".")[2] in FILES:
            return f"`git checkout {name.replace('.', '/')}.py` brings it back as it was committed last."
        near = most_like(name.partition(".")[2], files)
        return f"There is `lab.{near}`: is that the one?" if near else "Is the name spelled as the file in `lab/` is?"
    return (
        f"Is it spelled right? The lab installs no `{name}`, and no exercise needs it: Python's own modules are enough "
        "(`statistics.fmean`, for one)."
    )


def _missing_name(name: str) -> str:
    if name == "sleep":
        return "`time.sleep` blocks its thread, `await asyncio.sleep` waits: write the one you mean, with its module."
    if name == "app":
        return "Outside of `create_app` there is no `app`: a route's `request: Request` has it, `request.app`."
    if name in sys.stdlib_module_names or name in LIBRARIES:
        return f"`import {name}` at the top of the file."
    if name in IMPORTS:
        return f"`{IMPORTS[name]}` at the top of the file."
    return f"Is `{name}` spelled right, and defined or imported above this line?"


def _missing_key(key: str, error: KeyError) -> str:
    """Of the dictionary in which the raising line looks: `found["pid"]`."""
    if key.lower() == "pid":
        return '`os.getpid()` is the id of this process: `{"status": "ok", "pid": os.getpid()}`.'
    if key == "more_body":
        return 'Not every message has it: `message.get("more_body", False)`.'
    for frame, line in [*traceback.walk_tb(error.__traceback__)][-1:]:
        if frame.f_globals.get("__name__") == "os":
            return f"The environment has no {key}: `os.environ.get({key!r}, ...)` takes a default."
        for name in re.findall(r"(\w+)\[", linecache.getline(frame.f_code.co_filename, line)):
            held = frame.f_locals.get(name, frame.f_globals.get(name))
            if type(held) is dict and key not in held:
                return f"`{name}` has no key {key!r}. {_instead(key, [one for one in held if isinstance(one, str)])}"
    return f"There is no key {key!r}: print the dictionary, and compare the spelling."


def _missing_attribute(name: str, thing: object) -> str:
    fields = getattr(type(thing), "model_fields", None)  # a pydantic model has many other names, and these are its own
    public = [one for one in dir(thing) if not one.startswith("_")]
    few = bool(fields) or (0 < len(public) <= NAMED and not inspect.ismodule(thing))
    return _instead(name, public) if most_like(name, public) else _instead(name, [*(fields or public)]) if few else ""


def _instead(name: str, names: list[str]) -> str:
    """Which name is like it, or else which there are."""
    if found := most_like(name, names):
        return f"There is `{found}`: is that the one?"
    return f"There is {', '.join(f'`{one}`' for one in names[:NAMED])}." if names else "It is empty."
