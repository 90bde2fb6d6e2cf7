"""What a build needs and does not get: the sources of a COPY, a stage, a file that a RUN reads, a user by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from checks.harness.containers.dockerfile import Copied, Instruction, Recipe, Stage
from checks.harness.containers.dockerfile_rules import needed, script
from checks.harness.containers.spec import copied_files
from checks.harness.errors import cut

_STAGES = ("base", "build", "builder", "compile", "dependencies", "deps", "development", "final", "install", "venv")
"""Names of stages. The public registry has no image of such a name."""
_SYNC = re.compile(r"\buv\s+(-\S+\s+)*(sync|export)\b([^;&|\n]*)")
_REQUIREMENTS = re.compile(r"\bpip3?\b[^;&|\n]*\s(?:-r|--requirements?)[= ]?([\w./-]+)")
_PROJECT = re.compile(r"\bpip3?\b[^;&|\n]*\s\.(\[\S*\])?(?=\s|$)")
_FETCHES = re.compile(r"\b(git\s+clone|curl|wget|unzip|tar|uv\s+(init|lock)|poetry\s+(new|init))\b")
"""Commands that may bring any file."""
_OFFICIAL = re.compile(r"(^|/)(python|debian|alpine|uv)(:|@|$)")
"""Bases whose users are `_SYSTEM_USERS`."""
_SYSTEM_USERS = {
    *("nobody", "nonroot", "www-data", "daemon", "bin", "sys", "games", "man", "lp", "mail", "news", "proxy"),
    *("backup", "list", "irc", "operator", "guest", "ftp", "_apt"),
}
_MAKES_USERS = re.compile(r"\b(useradd|adduser|usermod|newusers|getent)\b|/etc/passwd")


@dataclass(frozen=True, slots=True)
class Missing:
    """What a build does not find, in words, what would be right, what mends it, and the instruction."""

    seen: str
    wanted: str
    hint: str
    instruction: Instruction
    ignored_at: str = ""
    """The line of .dockerignore that keeps it out, where one does."""


def missing_input(recipe: Recipe, context: Path, files: set[str]) -> Missing | None:
    """The first thing that a build of the last stage needs and does not get."""
    for stage in needed(recipe):
        for copied in stage.copied:
            found = _unknown_stage(recipe, stage, copied) if copied.stage else _no_source(copied, context, files)
            if found:
                return found
        if found := _unread(recipe, stage, context, files):
            return found
    return None


def _no_source(copied: Copied, context: Path, files: set[str]) -> Missing | None:
    """A source that is not in the context. A pattern may match nothing, as long as another source is found."""
    if any("://" in source for source in copied.sources):
        return None
    found = {
        source: [*copied_files(Copied((source,), copied.target, None, copied.instruction), context, files)]
        for source in copied.sources
    }
    if all(taken or "*" in source for source, taken in found.items()) and (any(found.values()) or not found):
        return None
    left_out = next((one for one, taken in found.items() if not taken and _is_there(one, context)), None)
    if left_out:
        return Missing(
            f"`{cut(copied.instruction.text, 70)}` finds nothing in the context: .dockerignore excludes {left_out}",
            "files that exist, and that .dockerignore does not exclude",
            f"Delete the line of .dockerignore that excludes {left_out}.",
            copied.instruction,
            _ignored_at(left_out, context),
        )
    return Missing(
        f"`{cut(copied.instruction.text, 70)}` finds nothing in the context",
        "files that exist, and that .dockerignore does not exclude",
        "",
        copied.instruction,
    )


def _is_there(source: str, context: Path) -> bool:
    """Whether the folder of the build has that file, or a folder with a file in it."""
    path = context / source.strip("/")
    if ".." in path.parts:
        return False
    return path.is_file() or any(one.is_file() for one in path.rglob("*"))


def _ignored_at(source: str, context: Path) -> str:
    """The line of .dockerignore that names a source or a folder above it; the file alone where none does."""
    path = PurePosixPath(source.strip("/"))
    named = {str(path), *map(str, path.parents)} - {"."}
    file = context / ".dockerignore"
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    found = [(number, line) for number, line in enumerate(lines, 1) if line.strip().strip("/").rstrip("/*") in named]
    return f".dockerignore:{found[0][0]}\n    {found[0][1].strip()}" if found else ".dockerignore"


def _unknown_stage(recipe: Recipe, stage: Stage, copied: Copied) -> Missing | None:
    """A stage that `--from` names and the Dockerfile does not have. An image of that name is fine."""
    name = (copied.stage or "").lower()
    number = recipe.stages.index(stage)
    if name.isdecimal():
        known = int(name) < number
    else:
        names = [other.name for other in recipe.stages if other.name]
        alike = get_close_matches(name, names, cutoff=0.7)
        known = name in names or bool(re.search(r"[/:@.]", name)) or (name not in _STAGES and not alike)
    if known:
        return None
    earlier = recipe.stages[:number]
    stages = [f"`{other.name}`" if other.name else str(place) for place, other in enumerate(earlier)]
    unnamed = [other.start for other in earlier if not other.name]
    meant = get_close_matches(name, [other.name for other in earlier if other.name], n=1, cutoff=0.7)
    return Missing(
        f"`{cut(copied.instruction.text, 70)}` copies from the stage `{copied.stage}`, "
        "which the Dockerfile does not have",
        f"an earlier stage: {', '.join(stages)}" if stages else "an earlier stage",
        "The first stage has the number 0."
        if name.isdecimal()
        else f"Write `--from={meant[0]}`."
        if meant
        else f"`FROM ... AS {copied.stage}` gives a stage its name.",
        copied.instruction if name.isdecimal() or meant or not unnamed else unnamed[0],
    )


def _unread(recipe: Recipe, stage: Stage, context: Path, files: set[str]) -> Missing | None:
    """A RUN that reads a file which nothing has brought into its stage."""
    copied = {id(one.instruction): one for one in stage.copied}
    there, before = set[str](), ""
    for instruction in stage.layers:
        if one := copied.get(id(instruction)):
            names = _brought(one, recipe, context, files)
            if names is None:
                return None
            there |= names
        elif instruction.name == "RUN":
            text = script(instruction)
            mounted = _mounted(instruction.text)
            if _FETCHES.search(text) or mounted is None:
                return None
            for names in _needs(text):
                here = there | mounted
                if not names & here and not any(_is_made(name, text, before) for name in names):
                    name = next(iter(names))
                    return Missing(
                        f"line {instruction.line} reads {name}, and no line before it has copied that file",
                        "a file is copied before the command that reads it",
                        f"`COPY {name} ./` above line {instruction.line}.",
                        instruction,
                    )
            before += f"\n{text}"
    return None


def _needs(text: str) -> Iterator[set[str]]:
    """The files that the commands of a RUN read, by their names; one of each set is enough."""
    for found in _SYNC.finditer(text):
        yield {"pyproject.toml"}
        if re.search(r"--(locked|frozen)\b", found[0]):
            yield {"uv.lock"}
    for name in _REQUIREMENTS.findall(text):
        yield {PurePosixPath(name).name}
    if _PROJECT.search(text):
        yield {"pyproject.toml", "setup.py"} if "pyproject.toml" in text else {"pyproject.toml"}


def _is_made(name: str, text: str, before: str) -> bool:
    """Whether a command makes a file of that name."""
    return name in before or bool(re.search(rf"(>|-o|--output\S*)[= ]*\S*{re.escape(name)}", text))


def _brought(one: Copied, recipe: Recipe, context: Path, files: set[str]) -> set[str] | None:
    """The names of the files that a COPY brings; None where it may bring any."""
    if one.stage is None:
        if any("://" in source for source in one.sources):
            return None
        names = {PurePosixPath(target).name for _, target in copied_files(one, context, files)}
        return names | {PurePosixPath(one.target).name}  # a heredoc has no other name
    if recipe.stage(one.stage) is None:  # an image of tools
        return set()
    named = {PurePosixPath(path).name for path in (*one.sources, one.target)}
    return named if all(PurePosixPath(source).suffix for source in one.sources) else None


def _mounted(text: str) -> set[str] | None:
    """The names of the files that the mounts of a RUN bring; None where they may bring any."""
    names = set[str]()
    for mount in re.findall(r"--mount=(\S+)", text):
        if re.search(r"type=(cache|tmpfs|secret|ssh)", mount):
            continue
        source = re.search(r"(?:source|src)=([^,]+)", mount)
        if not source or not PurePosixPath(source[1]).suffix:
            return None
        target = re.search(r"(?:target|dst|destination)=([^,]+)", mount)
        names |= {PurePosixPath(source[1]).name, PurePosixPath((target or source)[1]).name}
    return names


def unknown_user(recipe: Recipe, user: str) -> bool:
    """Whether the image has no user of that name, as far as its base and the instructions tell."""
    name, last = user.partition(":")[0], recipe.last
    if name.isdecimal() or name in _SYSTEM_USERS or not _OFFICIAL.search(last.root.base) or "@" in last.root.base:
        return False
    if any(one.target.startswith("/etc") for one in last.copied):
        return False
    making = [text for one in last.layers if one.name == "RUN" and _MAKES_USERS.search(text := script(one))]
    return not any("$" in text or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for text in making)
