"""Whose files are judged: finds them, loads the learner's code late, and names its lines."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import linecache
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType, ModuleType, TracebackType

GIVEN = tuple(f"lab/{name}.py" for name in ("__init__", "settings", "errors", "routes", "recommender", "records"))
"""Files that a learner does not edit: they come from the lab, whatever the workspace holds in their place."""

FRAMEWORK = (
    "starlette.routing",
    "starlette.applications",
    "starlette.middleware",
    "starlette._exception",
    "fastapi.routing",
)
"""Modules that carry a request from the server through the middleware to its handler."""

LEARNERS = ("lab", "loadtests", "docker", "Dockerfile", "compose.yaml", ".dockerignore", ".env")
"""Where a learner may write: files, and folders with all below them."""

NOT_LEARNERS = ("conftest.py", "pyproject.toml", "uv.lock", "README.md", "LICENSE")
"""Files beside those that are the lab's; any other without a dot in front, a script say, belongs to the learner."""

HANDWRITTEN = 100_000
"""Bytes beyond which nobody has written a file by hand, and what reads it may take for ever."""


class LearnerError(Exception):
    """The learner's code cannot be used as it is: one sentence for the card, and where.

    `explains_itself` says that neither a reason why nor a hint can add to it: it is about Python, not about latency.
    """

    def __init__(self, sentence: str, where: str | None = None, *, explains_itself: bool = False) -> None:
        super().__init__(sentence)
        self.where = where
        self.explains_itself = explains_itself


class StubError(LearnerError):
    """A stub that another process came upon: what it says it waits for, and where."""


@dataclass
class Workspace:
    """The files under judgement: `source` is the learner's folder, `tree` is where they run from, complete."""

    source: Path
    tree: Path
    name: str
    hung_imports: dict[str, str] = field(default_factory=dict)
    """Imports that hung before, and what was said then: they are not waited for again."""
    import_deadline: Callable[[str], AbstractContextManager[object]] = nullcontext
    """Guards an import of the module it is given the name of."""

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits that stand for everything judged, path by path."""
        digest = hashlib.sha256()
        for path in sorted(_files(self.tree)):
            digest.update(f"{path.relative_to(self.tree).as_posix()}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    def where(self, code: CodeType, line: int) -> str | None:
        """`lab/service.py:41 in predict` when the line is the learner's, else `None`."""
        function = "" if code.co_name == "<module>" else f" in {code.co_name}"
        return self._line(Path(code.co_filename), line, function)

    def where_line(self, path: Path, line: int, function: str = "<module>") -> str | None:
        """The same for a line that another process told of."""
        return self._line(path, line, "" if function == "<module>" else f" in {function}")

    def _line(self, path: Path, line: int, function: str) -> str | None:
        if not path.is_relative_to(self.tree):
            return None
        relative = path.relative_to(self.tree)
        if relative.as_posix() in GIVEN or relative.parts[0] not in LEARNERS:
            return None
        text = linecache.getline(str(path), line).strip()
        return f"{relative.as_posix()}:{line}{function}" + (f"\n    {text}" if text else "")

    def where_frames(self, frames: Iterable[tuple[FrameType, int]]) -> str | None:
        """The learner's line deepest in a stack given from the outside in, unless the framework took over below it.

        A middleware of theirs is in every stack of a request: where FastAPI fails below it, its line says nothing.
        """
        for frame, line in reversed([*frames]):
            if frame.f_globals.get("__name__", "").startswith(FRAMEWORK):
                break
            if found := self.where(frame.f_code, line):
                return found
        return None

    def where_raised(self, trace: TracebackType | None) -> str | None:
        """The learner's line nearest to where an exception was raised."""
        return self.where_frames(traceback.walk_tb(trace))

    def where_first(self, stacks: Iterable[Sequence[tuple[FrameType, int]]]) -> str | None:
        """The learner's line in the first stack that has one."""
        return next(filter(None, map(self.where_frames, stacks)), None)

    def where_defined(self, thing: object) -> str | None:
        """The `def` or `class` line of something of the learner's, below its decorators."""
        try:
            lines, first = inspect.getsourcelines(thing)  # type: ignore[arg-type]  # what has no source raises
            path = Path(inspect.getsourcefile(inspect.unwrap(thing)) or "")  # type: ignore[arg-type]
        except (OSError, TypeError):
            return None
        starts = ("def ", "async def ", "class ")
        line = next((n for n, text in enumerate(lines) if text.lstrip().startswith(starts)), 0)
        return self._line(path, first + line, "")

    def load(self, name: str) -> ModuleType:
        """Import the learner's `lab.<name>`.

        Raises `LearnerError` with file, line and one sentence for whatever can go wrong in it.
        """
        full = f"lab.{name}"
        if full in self.hung_imports:
            raise LearnerError(self.hung_imports[full], explains_itself=True)
        if not (self.tree / "lab" / f"{name}.py").exists() and not (self.tree / "lab" / name).is_dir():
            raise LearnerError(f"there is no lab/{name}.py in {self.name}", f"lab/{name}.py", explains_itself=True)
        if sys.path[0] != str(self.tree):
            sys.path.insert(0, str(self.tree))
            for other in [module for module in sys.modules if module.partition(".")[0] == "lab"]:
                del sys.modules[other]  # somebody imported another one's
            importlib.invalidate_caches()
        try:
            with self.import_deadline(full):
                return importlib.import_module(full)
        except NotImplementedError:
            raise
        except SyntaxError as error:
            raise self._syntax_error(error) from error
        except ModuleNotFoundError as error:
            hint = "is it spelled right?" if (error.name or "").startswith("lab") else "is it installed?"
            sentence = f"importing lab/{name}.py failed: there is no module {error.name!r} ({hint})"
            raise LearnerError(sentence, self.where_raised(error.__traceback__), explains_itself=True) from error
        except SystemExit as error:
            sentence = f"lab/{name}.py ended the program while it was imported (SystemExit: {error.code})"
            raise LearnerError(sentence, self.where_raised(error.__traceback__), explains_itself=True) from error
        except BaseException as error:
            sentence = f"importing lab/{name}.py failed: {describe(error)}"
            raise LearnerError(sentence, self.where_raised(error.__traceback__), explains_itself=True) from error

    def _syntax_error(self, error: SyntaxError) -> LearnerError:
        path = Path(error.filename or "?")
        shown = path.relative_to(self.tree).as_posix() if path.is_relative_to(self.tree) else path.name
        text = (error.text or "").strip()
        return LearnerError(
            f"Python cannot read {shown}, line {error.lineno}: {error.msg}",
            f"{shown}:{error.lineno}" + (f"\n    {text}" if text else ""),
            explains_itself=True,
        )


class LearnerModules:
    """`lab.timing` is the learner's module of that name, imported on first use."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def __getattr__(self, name: str) -> ModuleType:
        module = self._workspace.load(name)
        setattr(self, name, module)
        return module


PLAIN_WORDS = {
    "object is not an iterator": "a function under `@contextmanager` needs one `yield`",
    "generator didn't yield": "a function under `@contextmanager` needs one `yield`, on every way through it",
    "does not support the context manager protocol": "is `@contextmanager` above it, and is it called?",
    "does not support the asynchronous context manager protocol": "a plain `with` does, in a coroutine, too",
}
"""What Python says of a mistake that everybody makes, and what it means."""


def describe(error: BaseException) -> str:
    """An exception in one line, in plain words for the mistakes that everybody makes.

    Else its name, and the first line of what it says; of pydantic, also which field and why.
    """
    name, words = type(error).__name__, str(error)
    if "<coroutine object" in words:
        return f"{name}: a coroutine was given where a value is wanted: an `await` is missing"
    for said, plain in PLAIN_WORDS.items():
        if said in words:
            return f"{name}: {words.splitlines()[0]} ({plain})"
    if "__call__() missing 2 required positional arguments" in words:
        return f"{name}: add_middleware wants the class, not an object: `app.add_middleware(TheMiddleware, ...)`"
    if name == "ResponseValidationError" and "'input': None" in words:
        return "an answer of None: a `return` is missing"
    if "Invalid args for response field" in words:
        return f"{name}: FastAPI takes a parameter for a part of the body: its `Depends(...)` is missing"
    lines = words.strip().splitlines()
    said = " ".join(line.strip() for line in lines[: 3 if "ValidationError" in name else 1])
    return f"{name}: {said}" if said else name


def open_workspace(root: Path, chosen: Path | None, scratch: Path) -> Workspace:
    """The workspace `chosen`, or the lab's own root: a copy under `scratch`, of what is there at this moment.

    What a learner may edit comes from the workspace, everything given from the root. A copy, so that nothing else is
    judged than what the hash stands for: no edit in the middle of a run, no byte code of an older file.
    Raises `LearnerError` where there is nothing to judge.
    """
    source = (chosen or root).resolve()
    if not (source / "lab").is_dir():
        raise LearnerError(f"{source} is no workspace: it holds no folder `lab`")
    for path in _files(source):
        _copy(path, scratch / path.relative_to(source))
    for given in GIVEN:
        _copy(root / given, scratch / given)
    name = "your own files" if source == root.resolve() else f"workspace {chosen}"
    return Workspace(source, scratch.resolve(), name)


def _files(folder: Path) -> list[Path]:
    """Every file below `folder` that a learner may have written, and the given ones among them."""
    beside = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in NOT_LEARNERS]
    found = [*(folder / name for name in LEARNERS), *(path for path in beside if path.is_file())]
    below = [path for top in found if top.is_dir() for path in top.rglob("*") if "__pycache__" not in path.parts]
    return [*dict.fromkeys(path for path in [*found, *below] if path.is_file())]


def handwritten(path: Path) -> str:
    """The text of a file that a learner wrote, whatever its bytes.

    Raises:
        LearnerError: it is not there, no file, or far too large for one.
    """
    if not path.is_file():
        said = f"{path.name} is a folder\nwanted: a file" if path.is_dir() else f"there is no {path.name}"
        raise LearnerError(said, path.name, explains_itself=True)
    if (size := path.stat().st_size) > HANDWRITTEN:
        raise LearnerError(
            f"{path.name} has {size:,} bytes\nwanted: something that a person can read", path.name, explains_itself=True
        )
    return path.read_text(errors="replace")


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)  # a script stays one that can be executed
