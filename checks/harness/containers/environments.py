"""Virtual environments in an image: whether the command that starts the service uses the one with its packages."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from checks.harness.containers.dockerfile import Recipe, Stage
from checks.harness.containers.dockerfile_rules import script
from checks.harness.containers.dockerfile_values import filled, inside
from checks.harness.containers.spec import Container

_MADE = re.compile(r"(?:-m\s+venv|\buv\s+venv|\bvirtualenv)((?:\s+-\S+)*)(?:\s+([^-\s;&|][^\s;&|]*))?")
_SYNCS = re.compile(r"\buv\s+(-\S+\s+)*sync\b")
_PIP = re.compile(r"(\S*)\bpip3?\s+(?:-\S+\s+)*install\b([^;&|\n]*)")
_UV_PIP = re.compile(r"\buv\s+pip\s+(install|sync)\b[^;&|\n]*--(system|prefix|target)\b|UV_SYSTEM_PYTHON")
_TOOLS = re.compile(r"^(pip|uv|poetry|pdm|setuptools|wheel|build)([=<>~\[].*)?$")

_NO_PATHS = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
"""Variables that name an environment, and by which Python does not find it."""


def unused_environment(recipe: Recipe, container: Container) -> str:
    """The virtual environment that holds the packages and that nothing in the container uses; "" where there is none.

    Only where the image has no packages elsewhere.
    """
    last = recipe.last
    if any(_installs_elsewhere(script(one)) for one in last.layers if one.name == "RUN"):
        return ""
    copied = [one for one in last.copied if one.stage]
    if any(not recipe.stage(one.stage or "") for one in copied if "uv" not in (one.stage or "")):
        return ""
    found = set().union(*(_environments(stage) for stage in last.lineage()))
    for one in copied:
        other = recipe.stage(one.stage or "")
        if other is None:
            continue
        if any(_installs_elsewhere(script(run)) for run in other.layers if run.name == "RUN"):
            return ""  # the packages may be what is copied
        for made in set().union(*(_environments(stage) for stage in other.lineage())):
            for source in one.sources:
                top = "/" + source.strip("/")
                if made == top:
                    found.add(one.target.rstrip("/"))
                elif made.startswith(f"{top.rstrip('/')}/"):
                    found.add(inside(one.target, made.removeprefix(top).lstrip("/")))
    values = [value for name, value in container.environment.items() if name not in _NO_PATHS]
    used = "\n".join([*values, *container.argv, *container.scripts.values()])
    if "activate" in used or any(f"{made}/" in used or f"{PurePosixPath(made).name}/" in used for made in found):
        return ""
    return min(found, default="")


def _environments(stage: Stage) -> set[str]:
    """The virtual environments that the commands of a stage make."""
    found, known = set[str](), {**stage.args, **stage.env}
    for instruction in stage.instructions:
        text = filled(script(instruction), known) if instruction.name == "RUN" else ""
        found |= {inside(stage.workdir, made[2] or ".venv") for made in _MADE.finditer(text)}
        if _SYNCS.search(text):
            found.add(inside(stage.workdir, stage.env.get("UV_PROJECT_ENVIRONMENT") or ".venv"))
    return found


def _installs_elsewhere(text: str) -> bool:
    """Whether a RUN installs packages outside of a virtual environment."""
    if _UV_PIP.search(text) or re.search(r"\b(poetry|pdm|pipenv|conda|apk|apt(-get)?)\b", text):
        return True
    for found in _PIP.finditer(text):
        words = [word for word in found[2].split() if not word.startswith("-")]
        own = found[1].startswith("/") or "activate" in text or re.search(r"\buv\s+$", text[: found.start()] + " ")
        if not own and not (words and all(_TOOLS.match(word.strip("\"'")) for word in words)):
            return True
    return False
