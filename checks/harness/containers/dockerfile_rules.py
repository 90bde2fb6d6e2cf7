"""What an image will hold, and what it takes to build it again, as far as a Dockerfile's text tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from checks.harness.containers.dockerfile import Copied, Instruction, Recipe, Stage
from checks.harness.containers.spec import copied_files
from checks.harness.workspace import handwritten

CHANGED = "lab/service.py"
"""The file that a learner changes again and again."""
LINT_SECONDS = 30.0
UNUSABLE = {"DL1000", "DL3011", "DL3021", "DL3023", "DL3024", "DL3043", "DL3061"}
"""Rules of hadolint for what no engine can build; its others are advice, and not all of that is for this image."""

_PROGRAM = r"\bpip(3(\.\d+)?)?\s+(-\S+\s+)*"
_INSTALLS = re.compile(
    rf"{_PROGRAM}install\b|\buv\s+(-\S+\s+)*(sync|add|pip\s+(install|sync))\b|\b(poetry|pdm|pipenv|conda|mamba)\s+(install|sync)\b"
    r"|\bapt(-get)?\s+(-\S+\s+)*install\b|\bapk\s+(-\S+\s+)*add\b"
)
_PIP = re.compile(rf"(?<!uv ){_PROGRAM}(install|wheel|download)\b")
_UV = re.compile(r"\buv\s+(-\S+\s+)*(sync|add|pip\s+(install|sync)|tool\s+install)\b")
_CLEARS = re.compile(r"\brm\s[^&|;]*cache|\bpip3?\s+cache\s+purge|\buv\s+cache\s+(clean|prune)")
_PYTHON_TAG = re.compile(r"3\.\d+(\.\d+\w*)?-(slim|alpine)\S*")


def unusable(dockerfile: Path) -> tuple[str, str] | None:
    """What no engine can build of it, in hadolint's words, and where; None for a usable file, or without hadolint."""
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if program is None:
        return None
    call = [program, "--no-fail", "--config", "/dev/null", "-f", "json", str(dockerfile)]
    try:
        told = json.loads(subprocess.run(call, capture_output=True, timeout=LINT_SECONDS).stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    text = dockerfile.read_text(errors="replace")
    lines = text.splitlines()
    for found in told:
        if found["code"] in UNUSABLE and not (found["code"] == "DL1000" and "<<" in text):  # it knows no heredocs
            number = min(max(found["line"], 1), len(lines) or 1)
            said = " ".join(found["message"].split())
            return said[:200], f"Dockerfile:{number}\n    {lines[number - 1].strip()[:120] if lines else ''}"
    return None


def loose_base(base: str) -> str | None:
    """Why that base is not the same slim one tomorrow; None for one that is."""
    name, _, digest = base.partition("@")
    image, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    if digest or base == "scratch":
        return None
    if not tag or tag == "latest":
        return "whatever is the latest on the day of a build"
    if image.rpartition("/")[2] != "python":
        return None if re.search(r"\d", tag) else f"{tag!r} names no version"
    if "slim" not in tag and "alpine" not in tag:
        return "a full image: compilers and more, some 900 MB that your service never uses"
    return None if _PYTHON_TAG.fullmatch(tag) else f"{tag!r} moves on to another minor version of Python some day"


def missing_source(recipe: Recipe, context: Path, files: set[str]) -> Instruction | None:
    """The first COPY that finds nothing in the context."""
    for stage in needed(recipe):
        for copied in stage.copied:
            if copied.stage is None and not any("://" in source for source in copied.sources):
                for source in copied.sources:
                    one = Copied((source,), copied.target, None, copied.instruction)
                    if not [*copied_files(one, context, files)]:
                        return copied.instruction
    return None


def installs_again(recipe: Recipe, context: Path, files: set[str]) -> tuple[Instruction, Instruction] | None:
    """The installing RUN that a change in `CHANGED` makes run again, and the COPY before it; None if there is none."""
    for stage in needed(recipe):
        copied = {id(one.instruction): one for one in stage.copied}
        brings: Instruction | None = None
        before = ""
        for told in stage.layers:
            if one := copied.get(id(told)):
                other = recipe.stage(one.stage) if one.stage else None
                brought = _brings(other, context, files) if other else _takes(one.sources, context, files, told)
                brings = brings or (told if brought else None)
            elif told.name == "RUN":
                text = script(told)
                mounted = re.search(r"--mount=type=bind(?!\S*(source|src|from)=)", told.text)
                if installs(text) and (brings or mounted) and not only_the_project(text, before):
                    return told, brings or told
                before += f"\n{text}"
    return None


def installs(text: str) -> bool:
    """Whether a RUN installs packages."""
    return bool(_INSTALLS.search(text))


def only_the_project(text: str, before: str) -> bool:
    """Whether a RUN that installs has nothing left to download: only the project itself is missing by then."""
    prepared = re.search(r"\buv\s+sync\b.*--no-install-(project|workspace)", before)
    return "--no-deps" in text or bool(prepared and re.search(r"\buv\s+sync\b", text))


def _takes(sources: tuple[str, ...], context: Path, files: set[str], told: Instruction) -> bool:
    taken = copied_files(Copied(sources, "/", None, told), context, files)
    return any(file == CHANGED for file, _ in taken)


def _brings(stage: Stage, context: Path, files: set[str]) -> bool:
    return any(one.stage is None and _takes(one.sources, context, files, one.instruction) for one in stage.copied)


def leaves_cache(recipe: Recipe) -> tuple[Instruction, str] | None:
    """The RUN of the image's own layers that leaves a cache in one of them, and what would prevent it."""
    for stage in recipe.last.lineage():
        known = {**stage.args, **stage.env}
        for told in stage.instructions:
            text = script(told) if told.name == "RUN" else ""
            if "--mount=type=cache" in told.text or _CLEARS.search(text):
                continue
            for step in re.split(r"&&|;|\n|\|\|", text):
                if _PIP.search(step) and "--no-cache" not in step and not _value("PIP_NO_CACHE_DIR", text, known):
                    return told, "--no-cache-dir"  # pip takes any value of that variable for a yes, also "off"
                spared = re.search(r"--no-cache|\s-n\b", step) or _on("UV_NO_CACHE", text, known)
                if _UV.search(step) and not spared:
                    return told, "--no-cache"
    return None


def installs_tests(recipe: Recipe, context: Path) -> tuple[Instruction, str] | None:
    """The RUN that brings what only tests need into the image, and what would prevent it."""
    for stage in needed(recipe):
        known = {**stage.args, **stage.env}
        for told in stage.instructions:
            if told.name != "RUN":
                continue
            for step in re.split(r"&&|;|\n|\|\|", script(told)):
                syncs = re.search(r"\buv\s+(-\S+\s+)*(sync|export)\b", step)
                without = re.search(r"--no-dev|--no-default-groups|--no-group[= ]dev", step)
                spared = without or _on("UV_NO_DEV", script(told), known)
                if syncs and not spared:
                    return told, "`uv sync --no-dev`: a plain `uv sync` installs the group `dev`, too"
                if re.search(r"--group[= ]dev|--all-groups|\binstall\b.*\blocust\b", step):
                    return told, "nothing but the service's own dependencies"
                for name in re.findall(r"(?:-r|--requirement)[= ]?(\S+)", step):
                    listed = [path for path in (context / name, context / Path(name).name) if path.is_file()]
                    if listed and re.search(r"^locust\b", handwritten(listed[0]), re.MULTILINE):
                        return told, f"a {name} with nothing but the service's own dependencies"
    return None


def needed(recipe: Recipe) -> list[Stage]:
    """The stages that the last one is made of, itself included."""
    found: list[Stage] = []

    def look(stage: Stage) -> None:
        if stage not in found:
            found.append(stage)
            for name in [one.stage for one in stage.copied if one.stage]:
                if (other := recipe.stage(name)) and other is not stage:
                    look(other)
            if stage.parent:
                look(stage.parent)

    look(recipe.last)
    return sorted(found, key=recipe.stages.index)


def script(told: Instruction) -> str:
    """What a RUN executes, as text."""
    return " ".join(told.words)


def _value(name: str, text: str, known: Mapping[str, str]) -> str:
    """What a variable is while a RUN runs: set in its text, or before."""
    inline = re.search(rf"\b{name}=(\S+)", text)
    return (inline[1] if inline else known.get(name, "")).strip("\"'")


def _on(name: str, text: str, known: Mapping[str, str]) -> bool:
    return _value(name, text, known).lower() not in ("", "0", "false", "off", "no")
