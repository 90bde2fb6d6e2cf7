"""What compose would start as `api`: what the Dockerfile says, and what compose.yaml makes of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from checks.harness.containers.build_context import included, make_context
from checks.harness.containers.compose import Stack, read_compose
from checks.harness.containers.dockerfile import Copied, Health, Recipe, Stage, read_recipe
from checks.harness.containers.dockerfile_values import seconds
from checks.harness.errors import LearnerError, NotChecked

API = "api"
PORT = 8000
"""Where `python -m lab.serve` listens if nobody says anything."""


@dataclass(frozen=True, slots=True)
class Container:
    """The container of the service.

    Attributes:
        argv: its first process: ENTRYPOINT and CMD as they are executed; shell form is ["/bin/sh", "-c", "..."].
        environment: ENV, and compose's over it.
        user: "" for root.
        stop_signal, stop_grace_seconds: how it is asked to end, and for how long.
        health: the health check that counts, or None.
        port: where it listens.
        copies: which file of the context becomes which file of the image, as far as COPY says.
        changes_modes: whether the Dockerfile says who may execute some of them.
        where, user_at: the lines that say how it starts, and as whom.
    """

    argv: list[str]
    environment: dict[str, str]
    workdir: str
    user: str
    stop_signal: str
    stop_grace_seconds: float
    health: Health | None
    port: int
    copies: list[tuple[str, str]]
    changes_modes: bool
    where: str
    user_at: str


@dataclass(frozen=True, slots=True)
class Build:
    """How compose builds the image: which Dockerfile, with which arguments, up to which stage ("" for the last)."""

    dockerfile: str
    args: dict[str, str]
    target: str


class Files:
    """The learner's Dockerfile, .dockerignore and compose.yaml, and what they mean together; read when asked for."""

    def __init__(self, tree: Path, root: Path, scratch: Path) -> None:
        self.tree, self._root, self._scratch = tree, root, scratch

    @cached_property
    def _told(self) -> Stack | Exception:
        """What compose.yaml starts, or why that cannot be known: compose is asked once."""
        try:
            return read_compose(self.tree)
        except (LearnerError, NotChecked) as error:  # a stub is one, too
            return error

    @property
    def stack(self) -> Stack:
        """What compose.yaml starts; raises what `read_compose` does."""
        if isinstance(self._told, Exception):
            raise self._told
        return self._told

    @property
    def _usable(self) -> Stack | None:
        """Compose's own checkpoint judges the file; the others go on without one that cannot be used."""
        return None if isinstance(self._told, Exception) else self._told

    @cached_property
    def build(self) -> Build:
        """The build of `api`; the Dockerfile's own where compose.yaml says nothing that can be used."""
        told = (_api(self._usable) or {}).get("build") or {}
        args = {name: str(value) for name, value in (told.get("args") or {}).items() if value is not None}
        return Build(told.get("dockerfile") or "Dockerfile", args, told.get("target") or "")

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile that compose builds, or the one that everybody expects."""
        return self.tree / self.build.dockerfile

    @cached_property
    def recipe(self) -> Recipe:
        """The Dockerfile as compose would build it; raises what `read_recipe` does."""
        return read_recipe(self.dockerfile, self.build.args, self.build.target)

    @cached_property
    def context(self) -> Path:
        """A folder with all that `docker build .` looks at."""
        return make_context(self.tree, self._root, Path(tempfile.mkdtemp(dir=self._scratch)))

    @cached_property
    def included(self) -> set[str]:
        """The files of it that reach the engine."""
        return included(self.context)

    @cached_property
    def container(self) -> Container:
        """What compose would start as `api`; the Dockerfile alone where compose.yaml says nothing that can be used."""
        recipe, stack = self.recipe, self._usable
        stage = recipe.last
        api = _api(stack) or {}
        told = {name: str(value) for name, value in (api.get("environment") or {}).items() if value is not None}
        environment = {**stage.env, **told}
        argv, where = _argv(stage, api, stack)
        return Container(
            argv=argv,
            environment=environment,
            workdir=api.get("working_dir") or stage.workdir,
            user=_root_is_nobody(str(api.get("user") or stage.user)),
            stop_signal=api.get("stop_signal") or stage.stop_signal,
            stop_grace_seconds=seconds(api["stop_grace_period"]) if api.get("stop_grace_period") else 10.0,
            health=_health(stage, api, stack),
            port=_port(stage, api, environment, argv),
            copies=[*_copies(recipe, stage, self.context, self.included)],
            changes_modes="chmod" in recipe.text,
            where=where,
            user_at=stack.line(API, "user")
            if stack and api.get("user")
            else stage.user_at.where
            if stage.user_at
            else "",
        )


def _api(stack: Stack | None) -> dict[str, Any] | None:
    return stack.services.get(API) if stack else None


def _argv(stage: Stage, api: dict[str, Any], stack: Stack | None) -> tuple[list[str], str]:
    entrypoint, command = stage.entrypoint, stage.command
    where = stage.command_at.where if stage.command_at else "Dockerfile"
    if api.get("entrypoint") is not None:
        entrypoint, command = [*api["entrypoint"]], []
    if api.get("command") is not None:
        command = [*api["command"]]
    if stack and (api.get("entrypoint") is not None or api.get("command") is not None):
        where = stack.line(API, "command", "entrypoint")
    if entrypoint == stage.entrypoint and stage.entrypoint_in_shell:
        command = []  # it takes no arguments
    return [*entrypoint, *command], where


def _root_is_nobody(user: str) -> str:
    return "" if user.partition(":")[0] in ("", "0", "root") else user


def _health(stage: Stage, api: dict[str, Any], stack: Stack | None) -> Health | None:
    told = api.get("healthcheck")
    if not told or not stack:
        return stage.health
    test = tuple(told.get("test") or (stage.health.test if stage.health else ()))
    if told.get("disable") or not test or test[0] == "NONE":
        return None
    found = replace(stage.health or Health(test, ""), test=test)
    if told.get("test"):
        found = replace(found, where=stack.line(API, "test", "healthcheck"))
    times: dict[str, Any] = {
        name: seconds(told[name]) for name in ("interval", "timeout", "start_period") if told.get(name)
    }
    return replace(found, retries=int(told.get("retries") or found.retries), **times)


def _port(stage: Stage, api: dict[str, Any], environment: dict[str, str], argv: list[str]) -> int:
    """The first that says it: the environment, the command, compose's ports, EXPOSE."""
    told = [environment.get("PORT", "")]
    told += re.findall(r"--port[= ](\d+)", " ".join(argv))
    told += [str(port.get("target")) for port in api.get("ports") or ()]
    told += [port.partition("/")[0] for port in stage.exposed]
    return next((int(port) for port in told if port.isdecimal() and port != "0"), PORT)


def _copies(recipe: Recipe, stage: Stage, context: Path, files: set[str]) -> Iterator[tuple[str, str]]:
    """Which file of the context becomes which file of this stage's image, the last one last."""
    for copied in stage.copied:
        if copied.stage is None:
            yield from copied_files(copied, context, files)
        elif (other := recipe.stage(copied.stage)) and other is not stage:
            there = [*_copies(recipe, other, context, files)]
            for source in copied.sources:
                yield from _moved(there, "/" + source.strip("/"), copied.target)


def copied_files(copied: Copied, context: Path, files: set[str]) -> Iterator[tuple[str, str]]:
    """The files that a COPY takes from the context, each with its path in the image."""
    known = {*files, *(str(parent) for file in files for parent in PurePosixPath(file).parents)}
    for source in copied.sources:
        pattern = source.strip("/").removeprefix("./").rstrip("/") or "."
        parts = pattern.split("/")
        for top in {
            path
            for path in known
            if len(found := path.split("/")) == len(parts) and all(map(fnmatchcase, found, parts))
        }:
            if (context / top).is_dir():
                inside = "" if top == "." else f"{top}/"
                for file in files:
                    if file.startswith(inside):
                        yield file, f"{copied.target.rstrip('/')}/{file.removeprefix(inside)}"
            elif top in files:
                folder = copied.target.endswith("/")
                yield top, copied.target + PurePosixPath(top).name if folder else copied.target


def _moved(there: list[tuple[str, str]], source: str, target: str) -> Iterator[tuple[str, str]]:
    for file, path in there:
        if path == source:
            yield file, target + PurePosixPath(path).name if target.endswith("/") else target
        elif path.startswith(source.rstrip("/") + "/"):
            yield file, f"{target.rstrip('/')}/{path.removeprefix(source.rstrip('/') + '/')}"
