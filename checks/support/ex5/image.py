"""Checkpoint 5.1: what is in the image, and what a build after a change costs."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from checks.harness.containers.build_inputs import missing_input, unknown_user
from checks.harness.containers.dockerfile import Instruction, Recipe
from checks.harness.containers.dockerfile_rules import (
    installs_again,
    installs_program,
    installs_tests,
    leaves_cache,
    loose_base,
    script,
    unusable,
)
from checks.harness.containers.image_build import Builder
from checks.harness.containers.image_contents import Inspected, inspect
from checks.harness.containers.spec import Files
from checks.harness.errors import Failure, NotChecked, cut
from checks.harness.report.evidence import Show

NOT_FOR_AN_IMAGE = (".git", ".venv", "tests", "checks", "solutions")
"""Folders of a working copy that no image needs."""
CACHE = re.compile(r"__pycache__|\..*cache")
"""Folders in which a tool keeps what it can make again."""
HEALTH_CHECK = (
    'CMD ["python", "-c", "import os, urllib.request as r; '
    "r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/health', timeout=2)\"]"
)
"""A health check that works at any port: Python ends with 1 unless it gets a good answer."""


def look_into(image: Builder, show: Show) -> Inspected | None:
    """What the engine shows of the image; None where only the Dockerfile's text can tell."""
    if not image.possible:
        return None
    try:
        return inspect(image)
    except NotChecked as error:
        show.table("judged by its text", ("why",), [(error.reason[:70],)])
        return None


def assert_buildable(files: Files) -> None:
    """No engine refuses the Dockerfile."""
    found = unusable(files.dockerfile)
    assert not found, Failure(
        f"Docker cannot build it: {found[0]}",
        wanted="a Dockerfile that `docker build .` accepts",
        where=found[1],
    )


def assert_base_is_pinned_and_slim(recipe: Recipe) -> None:
    """The last stage stands on a small image that stays the same."""
    first, base = recipe.last.root.start, recipe.last.base
    variable = re.search(r"\$\{?(\w+)", first.text)
    argument = variable and _line_of_argument(recipe, variable[1])
    assert variable is None or not re.search(r"^$|[:/-]$", base), Failure(
        f"the base is `{base}`: the variable {variable and variable[1]} has no value",
        wanted="a name that is complete without `--build-arg`",
        hint=f"`ARG {variable and variable[1]}=...` above the first FROM gives it a value.",
        where=argument or first.where,
    )
    loose = loose_base(base)
    assert not loose, Failure(
        f"the base is {base}: {loose}",
        wanted="a slim base of a fixed minor version, such as python:3.12-slim, or a digest",
        hint="The last stage begins with `FROM python:3.12-slim`, or its variables give such a name; a stage that only "
        "builds may use any image.",
        where=(argument if loose and "version" in loose else None) or first.where,
    )


def _line_of_argument(recipe: Recipe, name: str) -> str | None:
    lines = enumerate(recipe.text.splitlines(), 1)
    return next((f"Dockerfile:{n}\n    {text}" for n, text in lines if re.match(rf"\s*ARG\s+{name}\b", text)), None)


def assert_context_is_small(files: Files) -> None:
    """Other files of a working copy are not sent to the engine."""
    found = [name for name in NOT_FOR_AN_IMAGE if any(path.startswith(f"{name}/") for path in files.included)]
    parents = {str(parent) for path in files.included for parent in PurePosixPath(path).parents}
    found += sorted(path for path in parents if CACHE.fullmatch(PurePosixPath(path).name))
    assert not found, Failure(
        f"a build sends {', '.join(found)} to the engine",
        wanted="no .git, .venv, tests, checks, solutions and caches: they slow down a build, and end up in images",
        hint="One line for each in .dockerignore. `**/__pycache__` matches at any depth.",
        where=".dockerignore",
    )


def assert_inputs_exist(files: Files) -> None:
    """Each COPY finds its files, and each RUN those that it reads."""
    missing = missing_input(files.recipe, files.context, files.included)
    assert not missing, Failure(
        missing.seen,
        wanted=missing.wanted,
        hint=missing.hint,
        where=missing.ignored_at or missing.instruction.where,
    )


def assert_change_installs_nothing(files: Files, seen: Inspected | None) -> None:
    """A change of code leaves the layers with the dependencies as they are."""
    found = installs_again(files.recipe, files.context, files.included)
    run = script(found[0]) if found else seen.installs_again if seen else ""
    assert not run, Failure(
        f"after a change in lab/service.py `{cut(run)}` runs again"
        + (f": line {found[1].line} has copied the file before" if found else ""),
        wanted="the dependencies are installed before lab/ is copied",
        hint=_order(run),
        where=found[1].where if found else files.recipe.last.start.where,
    )


def _order(run: str) -> str:
    """In which order to write what installs, and the copy of lab/."""
    if re.search(r"\buv\b", run) and "install uv" not in run:
        return "`COPY pyproject.toml uv.lock ./`, `RUN uv sync --locked --no-dev --no-cache`, then `COPY lab lab`."
    if re.search(r"\bpip\b", run):
        return "`COPY pyproject.toml ./`, `RUN mkdir lab && pip install --no-cache-dir .`, then `COPY lab lab`."
    return "Move this RUN above the COPY of lab/."


def assert_no_cache(files: Files, seen: Inspected | None) -> None:
    """No layer holds what pip or uv keeps for the next time."""
    found = leaves_cache(files.recipe, files.context)
    place = (
        f"line {found[0].line} leaves downloaded files in its layer"
        if found
        else f"a layer holds downloaded files, in {', '.join(seen.caches if seen else ())}"
    )
    assert not (seen.caches if seen else found), Failure(
        f"{place}. Only an `rm` in the same RUN, after the install, removes them",
        wanted="no cache of pip or uv in any layer",
        hint=f"Add `{found[1]}` to the install command of line {found[0].line}."
        if found
        else "Add `--no-cache` to the install command.",
        where=(found[0] if found else files.recipe.last.start).where,
    )


def assert_nothing_for_tests(files: Files, seen: Inspected | None) -> None:
    """The image holds what the service needs, and no Locust."""
    found = installs_tests(files.recipe, files.context)
    place = f"line {found[0].line} installs" if found else f"{seen.locust if seen else None} in the image holds"
    assert not (seen.locust if seen else found), Failure(
        f"{place} Locust: only tests need it",
        wanted=found[1] if found else "only the dependencies of the service",
        hint="`uv sync --locked --no-dev --no-cache`: without the group `dev`."
        if found and "uv sync" in found[1]
        else f"{found[1].partition(':')[0]}."
        if found and found[1].startswith("`")
        else "`[project] dependencies` in pyproject.toml lists what the service needs. Locust is not among it.",
        where=(found[0] if found else files.recipe.last.start).where,
    )


def assert_not_root(files: Files) -> None:
    """At the end the service has a user of its own, and the image knows it."""
    container, stage = files.container, files.recipe.last
    by_compose = container.user_at.startswith("compose.yaml")
    assert container.user, Failure(
        "the service runs as root",
        wanted="a non-root user, so that an attacker who gets in has no root rights",
        hint="`user:` in compose.yaml wins over USER in the Dockerfile. Delete it, or name the user there."
        if by_compose
        else "`RUN useradd --uid 10001 app` and `USER app` in the last stage: a USER of the build stage ends there.",
        where=container.user_at or stage.start.where,
    )
    assert not unknown_user(files.recipe, container.user), Failure(
        f"the service runs as `{container.user}`, and the image has no user of that name",
        wanted="a user that the image has: without it no container starts",
        hint=f"`RUN useradd --uid 10001 {container.user.partition(':')[0]}` in the last stage, or a number: "
        "`USER 10001`.",
        where=container.user_at or stage.start.where,
    )


def assert_health_check(files: Files) -> None:
    """A health check exists, and uses only what the image has anyway."""
    container, recipe = files.container, files.recipe
    switched_off = bool(container.health_at)
    assert container.health, Failure(
        "the health check is switched off" if switched_off else "there is no health check",
        wanted="HEALTHCHECK, or a `healthcheck` in compose.yaml: without one Docker does not notice a process that "
        "runs but does not answer",
        hint=f"`HEALTHCHECK {HEALTH_CHECK}`.",
        where=container.health_at or recipe.last.start.where,
    )
    words = " ".join(container.health.test)
    called = [text for name, text in container.files_named_in(words).items() if not name.endswith(".py")]
    program = re.search(r"(?<![\w.-])(curl|wget|nc)(?![\w.-])", "\n".join([words, *called]))
    if not program or (program[1] != "curl" and "alpine" in recipe.last.base):
        return
    installed = installs_program(recipe, "netcat" if program[1] == "nc" else program[1])
    raise AssertionError(
        Failure(
            f"the health check calls {program[1]}, {_how_it_comes(installed)}",
            wanted="a health check that needs no further program: Python is in the image",
            hint=f"`{HEALTH_CHECK}`" + (f". Do not install {program[1]} any more." if installed else "."),
            where=container.health.where,
        )
    )


def _how_it_comes(installed: Instruction | None) -> str:
    if installed:
        return f"which line {installed.line} installs only for it: a larger image, and one more program to attack"
    return "which a slim image does not have"
