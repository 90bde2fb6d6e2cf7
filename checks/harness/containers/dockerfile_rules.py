"""What an image will hold, and what a build after a change costs, as far as a Dockerfile's text shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from checks.harness.containers.dockerfile import Copied, Instruction, Recipe, Stage
from checks.harness.containers.spec import copied_files
from checks.harness.workspace import handwritten

CHANGED = "lab/service.py"
"""A file that a learner changes often."""
LINT_SECONDS = 30.0
UNUSABLE = {"DL1000", "DL3011", "DL3021", "DL3023", "DL3024", "DL3043", "DL3061"}
"""Rules of hadolint for what no engine can build. Its other rules are advice, and not all of it fits this image."""

_PROGRAM = r"\bpip(3(\.\d+)?)?\s+(-\S+\s+)*"
_INSTALLS = re.compile(
    rf"{_PROGRAM}install\b|\buv\s+(-\S+\s+)*(sync|add|pip\s+(install|sync))\b|\b(poetry|pdm|pipenv|conda|mamba)\s+(install|sync)\b"
    r"|\bapt(-get)?\s+(-\S+\s+)*install\b|\bapk\s+(-\S+\s+)*add\b"
)
_PIP = re.compile(rf"(?<!uv ){_PROGRAM}(install|wheel|download)\b")
_UV = re.compile(r"\buv\s+(-\S+\s+)*(sync|add|pip\s+(install|sync)|tool\s+install)\b")
_STEPS = re.compile(r"&&|;|\n|\|\|")
_NO_CACHE = {"pip": "--no-cache-dir", "uv": "--no-cache"}
_PURGES = {"pip": re.compile(r"\bpip3?\s+cache\s+purge"), "uv": re.compile(r"\buv\s+cache\s+(clean|prune)")}
_WITHOUT_DEV = {"poetry": "`poetry install --only main`", "pdm": "`pdm sync --prod`"}
_SLIM = re.compile(r"(?<![a-z])(slim|alpine|distroless)")
_PYTHON_TAG = re.compile(r"(\S*python-?)?\d+\.\d+")
_CODENAMES = "bullseye|bookworm|trixie|forky|focal|jammy|noble"
"""Names of releases: each stands for one version of Debian or Ubuntu."""


def unusable(dockerfile: Path) -> tuple[str, str] | None:
    """What no engine can build, in hadolint's words, and its line; None for a usable file, or without hadolint."""
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if program is None:
        return None
    call = [program, "--no-fail", "--config", "/dev/null", "-f", "json", str(dockerfile)]
    try:
        findings = json.loads(subprocess.run(call, capture_output=True, timeout=LINT_SECONDS).stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    text = dockerfile.read_text(errors="replace")
    lines = text.splitlines()
    for found in findings:
        if found["code"] in UNUSABLE and not (
            found["code"] == "DL1000" and "<<" in text
        ):  # hadolint cannot read heredocs
            number = min(max(found["line"], 1), len(lines) or 1)
            said = " ".join(found["message"].split())
            return said[:200], f"Dockerfile:{number}\n    {lines[number - 1].strip()[:120] if lines else ''}"
    return None


def loose_base(base: str) -> str | None:
    """Why that base is not slim, or has no fixed version; None for a slim one of a fixed version, or a digest."""
    name, _, digest = base.partition("@")
    image, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    if digest or base == "scratch":
        return None
    release = re.search(r"debian\d+", image)  # distroless images name their release so, and have no tag of a version
    if tag in ("", "latest") and not release:
        return "that is the latest version on the day of a build"
    if not _SLIM.search(f"{image}:{tag}"):
        return "its name has no slim, alpine or distroless: a full image is hundreds of MB larger"
    if image.rpartition("/")[2] == "python" or re.search(r"python-?\d", tag):
        fixed = bool(_PYTHON_TAG.match(tag))
    else:
        named = re.search(rf"\d+\.\d+|{_CODENAMES}", tag)
        fixed = bool(named or release or ("debian" in image and re.match(r"\d+", tag)))
    return None if fixed else f"`{tag}` will be another minor version later"


def installs_again(recipe: Recipe, context: Path, files: set[str]) -> tuple[Instruction, Instruction] | None:
    """The installing RUN that runs again after a change in `CHANGED`, and the COPY that causes it, or None."""
    for stage in needed(recipe):
        copied = {id(one.instruction): one for one in stage.copied}
        brings: Instruction | None = None
        before = ""
        for instruction in stage.layers:
            if one := copied.get(id(instruction)):
                other = recipe.stage(one.stage) if one.stage else None
                brought = _brings(other, context, files) if other else _takes(one.sources, context, files, instruction)
                brings = brings or (instruction if brought else None)
            elif instruction.name == "RUN":
                text = executed(instruction, context)
                mounted = _binds_the_code(instruction.text)
                if installs(text) and (brings or mounted) and not only_the_project(text, before):
                    return instruction, brings or instruction
                before += f"\n{text}"
    return None


def _binds_the_code(text: str) -> bool:
    """Whether a RUN mounts a part of the context that holds `CHANGED`."""
    for mount in re.findall(r"--mount=(\S+)", text):
        source = re.search(r"(?:source|src)=([^,]+)", mount)
        held = not source or _holds(source[1].removeprefix("./").rstrip("/"), CHANGED) or source[1] in (".", "./", "/")
        if "type=bind" in mount and "from=" not in mount and held:
            return True
    return False


def installs(text: str) -> bool:
    """Whether a RUN installs packages."""
    return bool(_INSTALLS.search(text))


def only_the_project(text: str, before: str) -> bool:
    """Whether a RUN installs only the project itself: an earlier one has installed everything else."""
    prepared = re.search(r"\buv\s+sync\b.*--no-install-(project|workspace)", before)
    return "--no-deps" in text or bool(prepared and re.search(r"\buv\s+sync\b", text))


def _takes(sources: tuple[str, ...], context: Path, files: set[str], instruction: Instruction) -> bool:
    taken = copied_files(Copied(sources, "/", None, instruction), context, files)
    return any(file == CHANGED for file, _ in taken)


def _brings(stage: Stage, context: Path, files: set[str]) -> bool:
    return any(one.stage is None and _takes(one.sources, context, files, one.instruction) for one in stage.copied)


def leaves_cache(recipe: Recipe, context: Path) -> tuple[Instruction, str] | None:
    """The RUN that leaves a cache of pip or uv in a layer of the image, and the option that prevents it."""
    for stage in recipe.last.lineage():
        known = {**stage.args, **stage.env}
        for instruction in stage.instructions:
            if instruction.name == "RUN" and (
                tool := _left_in_layer(instruction, executed(instruction, context), known)
            ):
                return instruction, _NO_CACHE[tool]
    return None


def _left_in_layer(run: Instruction, text: str, known: Mapping[str, str]) -> str:
    """The tool whose cache this RUN, which executes `text`, leaves in its layer, or ""."""
    left = dict[str, str]()
    for step in _STEPS.split(text):
        for tool in _NO_CACHE:
            if tool in left and _clears(step, tool, left[tool]):
                del left[tool]
        if _PIP.search(step) and "--no-cache" not in step and not _value("PIP_NO_CACHE_DIR", text, known):
            left["pip"] = _cache_folder("pip", step, text, known)  # pip takes any value of that variable for a yes
        if _UV.search(step) and not (re.search(r"--no-cache|\s-n\b", step) or _on("UV_NO_CACHE", text, known)):
            left["uv"] = _cache_folder("uv", step, text, known)
    mounts = [one for one in re.findall(r"--mount=(\S+)", run.text) if re.search(r"type=(cache|tmpfs)", one)]
    outside = [_path(found[1]) for one in mounts if (found := re.search(r"(?:target|dst|destination)=([^,]+)", one))]
    return next((tool for tool, folder in left.items() if not any(_holds(one, folder) for one in outside)), "")


def _cache_folder(tool: str, step: str, text: str, known: Mapping[str, str]) -> str:
    """Where the tool keeps what it downloads."""
    option = re.search(r"--cache-dir[= ](\S+)", step)
    folder = option[1] if option else _value(f"{tool.upper()}_CACHE_DIR", text, known)
    parent = _value("XDG_CACHE_HOME", text, known) or "~/.cache"
    return _path(folder or f"{parent}/{tool}")


def _clears(step: str, tool: str, folder: str) -> bool:
    """Whether a command of a RUN removes that cache."""
    if _PURGES[tool].search(step):
        return True
    removes = re.search(r"\brm\s(.*)", step) or re.search(r"\bfind\s(.*)-delete", step)
    words = removes[1].split() if removes else []
    return bool(words) and (f"{tool} cache dir" in step or any(_holds(_path(word), folder) for word in words))


def _path(word: str) -> str:
    """A folder as a shell names it, with one name for every user's home."""
    plain = word.strip("\"'").removesuffix("*").rstrip("/")
    return re.sub(r"^(\$\{?HOME\}?|/root|/home/[^/]+)(?=/|$)", "~", plain)


def _holds(folder: str, other: str) -> bool:
    return bool(folder) and (other == folder or other.startswith(f"{folder}/"))


def installs_tests(recipe: Recipe, context: Path) -> tuple[Instruction, str] | None:
    """The RUN that installs what only tests need, and what would prevent it."""
    for stage in needed(recipe):
        known = {**stage.args, **stage.env}
        for instruction in stage.instructions:
            if instruction.name != "RUN":
                continue
            text = executed(instruction, context)
            for step in _STEPS.split(text):
                syncs = re.search(r"\buv\s+(-\S+\s+)*(sync|export)\b", step)
                without = re.search(r"--no-dev|--no-default-groups|--no-group[= ]dev|--only-group[= ](?!dev)", step)
                if syncs and not without and not _on("UV_NO_DEV", text, known):
                    return instruction, "`uv sync --no-dev`: a plain `uv sync` installs the group `dev`, too"
                other = re.search(r"\b(poetry|pdm)\s+(-\S+\s+)*(install|sync)\b", step)
                if other and not re.search(r"--(only|without|no-dev|prod|production)\b", step):
                    return instruction, f"{_WITHOUT_DEV[other[1]]}: without it the group `dev` is installed, too"
                if re.search(r"--(only-)?group[= ]\S*dev|--all-groups|\b(install|add)\b.*\blocust\b", step):
                    return instruction, "only the service's own dependencies"
                for name in _requirements_of(step):
                    if _lists_locust(context, name):
                        return instruction, f"a {name} that names only the service's own dependencies"
    return None


def _requirements_of(step: str) -> list[str]:
    """The requirements files that a command reads."""
    named: list[str] = re.findall(r"(?:-r|--requirements?)[= ]?(\S+)", step)
    synced = re.search(r"\buv\s+(-\S+\s+)*pip\s+sync\s(.*)", step)
    return named + ([word for word in synced[2].split() if word.endswith((".txt", ".in"))] if synced else [])


def _lists_locust(context: Path, name: str, seen: tuple[Path, ...] = ()) -> bool:
    """Whether a requirements file names Locust, or includes one that does."""
    beside = [seen[-1].parent / name] if seen else []
    found = [path for path in (*beside, context / name.lstrip("/"), context / Path(name).name) if path.is_file()]
    if not found or found[0] in seen:
        return False
    text = handwritten(found[0])
    included = re.findall(r"^\s*(?:-r|--requirement)[= ]?(\S+)", text, re.MULTILINE)
    return bool(re.search(r"^\s*locust\b", text, re.MULTILINE | re.IGNORECASE)) or any(
        _lists_locust(context, other, (*seen, found[0])) for other in included
    )


def installs_program(recipe: Recipe, name: str) -> Instruction | None:
    """The RUN of the image's own layers that installs a program of the system by its name."""
    adds = re.compile(rf"\b(apt(-get)?\s+(-\S+\s+)*install|apk\s+(-\S+\s+)*add)\b[^;&|]*\s{re.escape(name)}\b")
    return next((one for one in recipe.last.layers if one.name == "RUN" and adds.search(script(one))), None)


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


def script(instruction: Instruction) -> str:
    """What a RUN executes, as text."""
    return " ".join(instruction.words)


def executed(instruction: Instruction, context: Path) -> str:
    """What a RUN executes, with the text of the scripts in the context that it calls, and of a Makefile's target."""
    text = script(instruction)
    found = [_target_of_make(context, named[1] or "") for named in re.finditer(r"\bmake\b(?:\s+([\w-]+))?", text)]
    for word in {word.strip("\"'") for word in re.split(r"[\s;&|]+", text)}:
        parts = PurePosixPath(word).parts
        paths = (context.joinpath(*parts[number:]) for number in range(parts[:1] == ("/",), len(parts)))
        if path := next((path for path in paths if path.is_file()), None):
            content = handwritten(path)
            found += [content] if path.suffix in (".sh", ".bash") or content.startswith("#!") else []
    return "\n".join([text, *found])


def _target_of_make(context: Path, target: str) -> str:
    """The commands of a target of the Makefile in the context; of the first one for ""."""
    path = context / "Makefile"
    name = re.escape(target) if target else r"[\w-]+"
    found = path.is_file() and re.search(rf"^{name}\s*:.*\n((?:\t.*\n?)*)", handwritten(path), re.MULTILINE)
    return found[1] if found else ""


def _value(name: str, text: str, known: Mapping[str, str]) -> str:
    """What a variable is while a RUN runs: set in its text, or before."""
    inline = re.search(rf"\b{name}=(\S+)", text)
    return (inline[1] if inline else known.get(name, "")).strip("\"'")


def _on(name: str, text: str, known: Mapping[str, str]) -> bool:
    return _value(name, text, known).lower() not in ("", "0", "false", "off", "no")
