"""What compose would start as `api`: what the Dockerfile says, and what compose.yaml makes of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from signal import Signals
from typing import Any

from checks.harness.containers.build_context import included, make_context
from checks.harness.containers.compose import Stack, read_compose
from checks.harness.containers.dockerfile import Copied, Health, Instruction, Recipe, Stage, read_recipe
from checks.harness.containers.dockerfile_values import inside, seconds
from checks.harness.errors import LearnerError, NotChecked

API = "api"
PORT = 8000
"""Where `python -m lab.serve` listens by default."""


@dataclass(frozen=True, slots=True)
class Container:
    """The container of the service. Names that end in `_at` hold the learner's line that gives the value, or "".

    Attributes:
        argv: its first process: ENTRYPOINT and CMD as they are executed; shell form is ["/bin/sh", "-c", "..."].
        environment: ENV, and compose's over it.
        user: "" for root.
        stop_signal, stop_grace_seconds: the signal that asks it to end, and the seconds until it is killed.
        init: whether a small init is process 1, and passes signals on.
        health: the health check that counts, or None.
        port: where it listens.
        context: the folder with all that a build reads.
        copies: which file of the context becomes which file of the image, as far as COPY says.
        changes_modes: whether the Dockerfile changes who may execute files.
        converts_line_ends: whether the Dockerfile takes carriage returns out of files.
    """

    argv: list[str]
    environment: dict[str, str]
    workdir: str
    user: str
    stop_signal: str
    stop_grace_seconds: float
    init: bool
    health: Health | None
    port: int
    context: Path
    copies: list[tuple[str, str]]
    changes_modes: bool
    converts_line_ends: bool
    argv_at: str
    user_at: str
    environment_at: dict[str, str]
    stop_signal_at: str
    stop_grace_at: str
    health_at: str

    @property
    def scripts(self) -> dict[str, str]:
        """The copied files that its command runs, as paths in the context, with their text."""
        found = self.files_named_in(" ".join(self.argv))
        return {name: text for name, text in found.items() if not name.endswith(".py")}

    def files_named_in(self, command: str) -> dict[str, str]:
        """The copied files whose paths occur in a command, as paths in the context, with their text."""
        words = {inside(self.workdir, word.strip("\"';&|")) for word in command.split() if not word.startswith("-")}
        names = [source for source, target in self.copies if target in words]
        return {name: (self.context / name).read_bytes().decode(errors="replace") for name in names}

    def line_of(self, *variables: str) -> str:
        """The line that sets the first of these variables that is set, else the one that starts the service."""
        return next((self.environment_at[name] for name in variables if name in self.environment_at), self.argv_at)


@dataclass(frozen=True, slots=True)
class Build:
    """How compose builds the image: the Dockerfile's name, the arguments, and the stage ("" for the last)."""

    dockerfile: str
    args: dict[str, str]
    target: str


class Files:
    """The learner's Dockerfile, .dockerignore and compose.yaml, and what they mean together; read on first use."""

    def __init__(self, tree: Path, root: Path, scratch: Path) -> None:
        self.tree, self._root, self._scratch = tree, root, scratch

    @cached_property
    def _read(self) -> Stack | Exception:
        """What compose.yaml starts, or the reason why that is not known. Compose runs once."""
        try:
            return read_compose(self.tree)
        except (LearnerError, NotChecked) as error:  # StubError is a LearnerError
            return error

    @property
    def stack(self) -> Stack:
        """What compose.yaml starts; raises what `read_compose` does."""
        if isinstance(self._read, Exception):
            raise self._read
        return self._read

    @property
    def _usable(self) -> Stack | None:
        """The stack, or None: 5.4 judges compose.yaml, and the other checkpoints go on without it."""
        return None if isinstance(self._read, Exception) else self._read

    @cached_property
    def build(self) -> Build:
        """The build of `api`; Docker's defaults where compose.yaml cannot be used."""
        build = (_api(self._usable) or {}).get("build") or {}
        args = {name: str(value) for name, value in (build.get("args") or {}).items() if value is not None}
        return Build(build.get("dockerfile") or "Dockerfile", args, build.get("target") or "")

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile that compose builds, `Dockerfile` by default."""
        return self.tree / self.build.dockerfile

    @cached_property
    def recipe(self) -> Recipe:
        """The Dockerfile as compose would build it; raises what `read_recipe` does."""
        build, stack = self.build, self._usable
        if stack and build.dockerfile != "Dockerfile" and not self.dockerfile.exists():
            raise LearnerError(
                f"compose.yaml builds with {build.dockerfile}, and there is no such file",
                stack.line(API, "dockerfile"),
                wanted="the name of a file beside compose.yaml, or below it",
                hint="Delete `dockerfile:`: then it is `Dockerfile`." if (self.tree / "Dockerfile").exists() else "",
                explains_itself=True,
            )
        where = stack.line(API, "target") if stack and build.target else None
        return read_recipe(self.dockerfile, build.args, build.target, where)

    @cached_property
    def context(self) -> Path:
        """The folder that `docker build .` reads."""
        return make_context(self.tree, self._root, Path(tempfile.mkdtemp(dir=self._scratch)))

    @cached_property
    def included(self) -> set[str]:
        """The files of it that are sent to the engine."""
        return included(self.context)

    @cached_property
    def container(self) -> Container:
        """What compose would start as `api`; the Dockerfile alone where compose.yaml cannot be used."""
        recipe, stack = self.recipe, self._usable
        stage, api = recipe.last, _api(stack) or {}
        changed = {name: str(value) for name, value in (api.get("environment") or {}).items() if value is not None}
        environment = {**stage.env, **changed}
        argv, argv_at = _argv(stage, api, stack)

        def line(key: str, instruction: Instruction | None) -> str:
            """The line of compose.yaml with that key, else that of the Dockerfile."""
            return stack.line(API, key) if stack and api.get(key) else instruction.where if instruction else ""

        return Container(
            argv=argv,
            environment=environment,
            workdir=api.get("working_dir") or stage.workdir,
            user=_without_root(str(api.get("user") or stage.user)),
            stop_signal=_signal(str(api.get("stop_signal") or stage.stop_signal)),
            stop_grace_seconds=seconds(api["stop_grace_period"]) if api.get("stop_grace_period") else 10.0,
            init=bool(api.get("init")),
            health=_health(stage, api, stack),
            port=_port(stage, api, environment, argv),
            context=self.context,
            copies=[*_copies(recipe, stage, self.context, self.included)],
            changes_modes="chmod" in recipe.text,
            converts_line_ends="dos2unix" in recipe.text or "\\r" in recipe.text,
            argv_at=argv_at,
            user_at=line("user", stage.user_at),
            environment_at={name: one.where for name, one in stage.env_at.items()}
            | ({name: stack.line(API, name) for name in changed} if stack else {}),
            stop_signal_at=line("stop_signal", stage.stop_signal_at),
            stop_grace_at=line("stop_grace_period", None),
            health_at=line("healthcheck", stage.health_at),
        )


def _api(stack: Stack | None) -> dict[str, Any] | None:
    return stack.services.get(API) if stack else None


def _argv(stage: Stage, api: dict[str, Any], stack: Stack | None) -> tuple[list[str], str]:
    """Its command, and the line that gives it."""
    entrypoint, command = stage.entrypoint, stage.command
    where = stage.command_at.where if stage.command_at else stage.start.where
    if api.get("entrypoint") is not None:
        entrypoint, command = [*api["entrypoint"]], []
    if api.get("command") is not None:
        command = [*api["command"]]
    if stack and (api.get("entrypoint") is not None or api.get("command") is not None):
        where = stack.line(API, "command", "entrypoint")
    if entrypoint == stage.entrypoint and stage.entrypoint_in_shell:
        command = []  # an ENTRYPOINT in shell form gets no arguments
    return [*entrypoint, *command], where


def _without_root(user: str) -> str:
    return "" if user.partition(":")[0] in ("", "0", "root") else user


def _signal(name: str) -> str:
    """`SIGTERM` for "SIGTERM", "term" and "15"."""
    if name.isdecimal():
        try:
            return Signals(int(name)).name
        except ValueError:
            return name
    return name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"


def _health(stage: Stage, api: dict[str, Any], stack: Stack | None) -> Health | None:
    check = api.get("healthcheck")
    if not check or not stack:
        return stage.health
    test = tuple(check.get("test") or (stage.health.test if stage.health else ()))
    if check.get("disable") or not test or test[0] == "NONE":
        return None
    found = replace(stage.health or Health(test, ""), test=test)
    if check.get("test"):
        found = replace(found, where=stack.line(API, "test", "healthcheck"))
    times: dict[str, Any] = {
        name: seconds(check[name]) for name in ("interval", "timeout", "start_period") if check.get(name)
    }
    return replace(found, retries=int(check.get("retries") or found.retries), **times)


def _port(stage: Stage, api: dict[str, Any], environment: dict[str, str], argv: list[str]) -> int:
    """The first that is given: by the environment, the command, compose's ports, EXPOSE."""
    given = re.findall(r"--port[= ](\d+)|(?:--bind|-b)[= ]\S*:(\d+)", " ".join(argv))
    ports = [environment.get("PORT", ""), *("".join(pair) for pair in given)]
    ports += [str(port.get("target")) for port in api.get("ports") or ()]
    ports += [port.partition("/")[0] for port in stage.exposed]
    return next((int(port) for port in ports if port.isdecimal() and port != "0"), PORT)


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
                folder = "" if top == "." else f"{top}/"
                for file in files:
                    if file.startswith(folder):
                        yield file, f"{copied.target.rstrip('/')}/{file.removeprefix(folder)}"
            elif top in files:
                yield top, copied.target + (PurePosixPath(top).name if copied.target.endswith("/") else "")


def _moved(there: list[tuple[str, str]], source: str, target: str) -> Iterator[tuple[str, str]]:
    for file, path in there:
        if path == source:
            yield file, target + PurePosixPath(path).name if target.endswith("/") else target
        elif path.startswith(source.rstrip("/") + "/"):
            yield file, f"{target.rstrip('/')}/{path.removeprefix(source.rstrip('/') + '/')}"
