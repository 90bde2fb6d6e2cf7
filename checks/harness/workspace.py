"""Whose files are judged: finds them, copies them, loads the learner's code late."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

from checks.harness.errors import CellEnded, Failure, LearnerError
from checks.harness.plain_words import describe, hint_for
from checks.harness.source_lines import GIVEN, LEARNERS, SourceLines

NOT_LEARNERS = ("conftest.py", "pyproject.toml", "uv.lock", "README.md", "LICENSE")
"""Files beside those that are the lab's; any other without a dot in front, a script say, belongs to the learner."""

MOST_FILES, MOST_BYTES = 2000, 20_000_000
"""Files and bytes beyond which a workspace is none that a learner wrote."""

HANDWRITTEN = 100_000
"""Bytes beyond which a file was not written by hand, and reading it may take very long."""


@dataclass(kw_only=True)
class Workspace(SourceLines):
    """The files under judgement: `source` is the learner's folder, `tree` is where the code runs from, complete."""

    source: Path
    copied: Path
    """The copy that is built and deployed: `tree` itself, unless code runs from the learner's own files."""
    name: str
    hung_imports: dict[str, Failure] = field(default_factory=dict)
    """Imports that hung before, and what was said then: they are not waited for again."""
    import_deadline: Callable[[str], AbstractContextManager[object]] = nullcontext
    """Guards an import of the module it is given the name of."""
    line_in_cell: Callable[[], str | None] = lambda: None
    """The learner's line that runs in a cell at this moment, where there is a cell."""
    computed_in_cell: Callable[[], float] = lambda: 0.0
    """Seconds of CPU time that the cell has taken so far, where there is a cell."""

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits that stand for everything judged, path by path."""
        digest = hashlib.sha256()
        for path in sorted(_files(self.tree)):
            digest.update(f"{path.relative_to(self.tree).as_posix()}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    def where_named(self, module: ModuleType, *names: str) -> str:
        """The line that defines the first of these names which a module of the learner's has, else its file.

        It only points somewhere: a name that is missing decides nothing.
        """
        things = (getattr(module, name, None) for name in names)
        found = (self.where_defined(thing) for thing in things if thing is not None)
        return next(filter(None, found), module.__name__.replace(".", "/") + ".py")

    def load(self, name: str) -> ModuleType:
        """Import the learner's `lab.<name>` in this process; raises what `loading` does."""
        with self.loading(name) as full:
            if sys.path[0] != str(self.tree):
                sys.path.insert(0, str(self.tree))
                for other in [module for module in sys.modules if module.partition(".")[0] == "lab"]:
                    del sys.modules[other]  # left from another workspace
                importlib.invalidate_caches()
            return importlib.import_module(full)

    @contextmanager
    def loading(self, name: str) -> Iterator[str]:
        """Around an import of `lab.<name>`, whose full name it gives.

        Raises `LearnerError` with file, line and one sentence for whatever can go wrong in it.
        """
        full = f"lab.{name}"
        if full in self.hung_imports:
            hung = self.hung_imports[full]
            raise LearnerError(hung.seen, hung.where, explains_itself=True)
        if not (self.tree / "lab" / f"{name}.py").exists() and not (self.tree / "lab" / name).is_dir():
            hint = f"`git checkout lab/{name}.py` brings it back as it was committed last."
            said = f"there is no lab/{name}.py in {self.name}"
            raise LearnerError(said, f"lab/{name}.py", hint=hint, explains_itself=True)
        try:
            with self.import_deadline(full):
                yield full
        except (NotImplementedError, CellEnded, LearnerError):
            raise
        except SyntaxError as error:
            raise self._syntax_error(error) from error
        except ModuleNotFoundError as error:
            sentence = f"importing lab/{name}.py failed: there is no module {error.name!r}"
            where, hint = self.where_raised(error.__traceback__), hint_for(error)
            raise LearnerError(sentence, where, hint=hint, explains_itself=True) from error
        except SystemExit as error:
            sentence = f"lab/{name}.py ended the program while it was imported (SystemExit: {error.code})"
            raise LearnerError(sentence, self.where_raised(error.__traceback__), explains_itself=True) from error
        except BaseException as error:
            sentence = f"importing lab/{name}.py failed: {describe(error)}"
            where, hint = self.where_raised(error.__traceback__), hint_for(error)
            raise LearnerError(sentence, where, hint=hint, explains_itself=True) from error

    def _syntax_error(self, error: SyntaxError) -> LearnerError:
        path = Path(error.filename or "?")
        shown = path.relative_to(self.tree).as_posix() if path.is_relative_to(self.tree) else path.name
        text = (error.text or "").strip()
        return LearnerError(
            f"Python cannot read {shown}, line {error.lineno}: {error.msg}",
            f"{shown}:{error.lineno}" + (f"\n    {text}" if text else ""),
            hint=hint_for(error),
            explains_itself=True,
        )


class LearnerModules:
    """`lab.timing` is the learner's module of that name, which `load` imports on first use."""

    def __init__(self, load: Callable[[str], ModuleType]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> ModuleType:
        module = self._load(name)
        setattr(self, name, module)
        return module


def open_workspace(root: Path, chosen: Path | None, scratch: Path, *, in_place: bool = False) -> Workspace:
    """The workspace `chosen`, or the lab's own root: a copy under `scratch`, of what is there at this moment.

    What a learner may edit comes from the workspace, everything given from the root. A copy, so that nothing else is
    judged than what the hash stands for: no edit in the middle of a run, no byte code of an older file. With `in_place`
    the code of the lab's own root runs from its own files, where an editor's breakpoints are.
    Raises `LearnerError` where there is nothing to judge, or what is there may not be judged: see `_refusal`.
    """
    source = (chosen or root).resolve()
    if not (source / "lab").is_dir():
        raise LearnerError(f"{source} is no workspace: it holds no folder `lab`")
    total = 0
    for number, path in enumerate(_files(source), 1):
        total += path.stat().st_size
        if refusal := _refusal(path, source, number, total):
            raise LearnerError(f"{path.relative_to(source)} {refusal}")
        _copy(path, scratch / path.relative_to(source))
    for given in GIVEN:
        _copy(root / given, scratch / given)
    name = "your own files" if source == root.resolve() else f"workspace {chosen}"
    here = in_place and source == root.resolve()
    return Workspace(source=source, tree=source if here else scratch.resolve(), copied=scratch.resolve(), name=name)


def _files(folder: Path) -> list[Path]:
    """Every file below `folder` that a learner may have written, in their order; no byte code, nothing given."""
    beside = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in NOT_LEARNERS]
    found = [*(folder / name for name in LEARNERS), *(path for path in beside if path.is_file())]
    below = [path for top in found if top.is_dir() for path in sorted(top.rglob("*"))]
    return [path for path in dict.fromkeys([*found, *below]) if path.is_file() and not _ignored(path, folder)]


def _ignored(path: Path, folder: Path) -> bool:
    """Whether Python made this file, or it stands for a given module in another form, which Python would prefer."""
    inside = path.relative_to(folder)
    given = {name.removesuffix(".py") for name in GIVEN}
    instead = f"{inside.parts[0]}/{inside.parts[1].partition('.')[0]}" if len(inside.parts) > 1 else ""
    return "__pycache__" in inside.parts or (instead in given and inside.as_posix() not in GIVEN)


def _refusal(path: Path, source: Path, number: int, total: int) -> str:
    """Why a file may not be judged; empty for one that may.

    No link leads out of a workspace, its size is bounded, and no file takes the place of a module of Python, of the lab
    or of a library: wherever Python looks first for modules, the workspace comes first.
    """
    if not path.resolve().is_relative_to(source):
        return "is a link that leads out of the workspace"
    if number > MOST_FILES:
        return f"is one of more than {MOST_FILES} files"
    if total > MOST_BYTES:
        return f"makes the workspace larger than {MOST_BYTES // 10**6} MB"
    inside = path.relative_to(source)
    name = inside.parts[-2] if path.stem == "__init__" and len(inside.parts) > 1 else path.name.partition(".")[0]
    depth = len(inside.parts) - (path.stem == "__init__")
    searched = depth == 1 or (depth == 2 and inside.parts[0] == "loadtests")  # Locust looks for modules in there
    if path.suffix in (".py", ".so", ".pyd", ".pyc") and searched and name not in ("lab", "loadtests") and _taken(name):
        return f"takes the place of the module `{name}`, which the lab or a library needs: give it another name"
    return ""


def _taken(name: str) -> bool:
    """Whether Python, the lab or a library has a module of this name."""
    if name in sys.stdlib_module_names or name in ("checks", "tests", "conftest", "sitecustomize", "usercustomize"):
        return True
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return importlib.machinery.PathFinder.find_spec(name, libraries) is not None


def handwritten(path: Path) -> str:
    """The text of a file that a learner wrote, whatever its bytes.

    Raises:
        LearnerError: it is not there, no file, or far too large for one.
    """
    if not path.is_file():
        if path.is_dir():
            raise LearnerError(f"{path.name} is a folder", path.name, wanted="a file", explains_itself=True)
        hint = f"`git checkout {path.name}` brings it back as it was committed last."
        raise LearnerError(f"there is no {path.name}", path.name, hint=hint, explains_itself=True)
    if (size := path.stat().st_size) > HANDWRITTEN:
        raise LearnerError(
            f"{path.name} has {size:,} bytes", path.name, wanted="a file that a person can read", explains_itself=True
        )
    return path.read_text(errors="replace")


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)  # keeps a script executable
