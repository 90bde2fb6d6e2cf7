"""A Dockerfile, read: its stages, and what the image of the last one starts with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from checks.harness.containers.dockerfile_values import filled, inside, seconds, unquoted
from checks.harness.errors import LearnerError, NotChecked, StubError
from checks.harness.workspace import handwritten

SHELL = ("/bin/sh", "-c")
BUILD_ARGS = {
    "TARGETPLATFORM": "linux/amd64",
    "TARGETOS": "linux",
    "TARGETARCH": "amd64",
    "BUILDPLATFORM": "linux/amd64",
}
"""Arguments that a builder sets itself."""
BASE_ENV = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""What the environment of a Python image begins with, as far as others build on it."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, its words with variables resolved, flags without `--`, and its line."""

    name: str
    words: tuple[str, ...]
    flags: Mapping[str, str]
    exec_form: bool
    text: str
    line: int

    @property
    def where(self) -> str:
        """`Dockerfile:7`, and the first line of its text."""
        return f"Dockerfile:{self.line}\n    {self.text.strip().splitlines()[0][:120]}"


@dataclass(frozen=True, slots=True)
class Health:
    """A health check: its test as Docker writes it (["CMD", ...], ["CMD-SHELL", "..."]), times in seconds, its line."""

    test: tuple[str, ...]
    where: str
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Copied:
    """A COPY or ADD: sources, their destination as an absolute path, and the stage or image they come from, if any."""

    sources: tuple[str, ...]
    target: str
    stage: str | None
    instruction: Instruction


@dataclass(slots=True)
class Stage:
    """One `FROM` and what follows it; `parent` is the earlier stage it builds on, if it is one."""

    name: str
    base: str
    parent: Stage | None
    start: Instruction
    instructions: list[Instruction] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: {**BASE_ENV})
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    user_at: Instruction | None = None
    entrypoint: list[str] = field(default_factory=list)
    entrypoint_in_shell: bool = False
    command: list[str] = field(default_factory=list)
    command_at: Instruction | None = None
    health: Health | None = None
    stop_signal: str = "SIGTERM"
    exposed: list[str] = field(default_factory=list)
    copied: list[Copied] = field(default_factory=list)

    def lineage(self) -> Iterator[Stage]:
        """The stages that make this image's layers, from the lowest."""
        if self.parent:
            yield from self.parent.lineage()
        yield self

    @property
    def root(self) -> Stage:
        """The stage whose base is no other stage."""
        return next(self.lineage())

    @property
    def layers(self) -> list[Instruction]:
        """All instructions that make this image, those of the stages below it first."""
        return [instruction for stage in self.lineage() for instruction in stage.instructions]


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile: its stages in their order."""

    stages: list[Stage]
    text: str

    def stage(self, name: str) -> Stage | None:
        """The stage of that name or number, as `COPY --from` and a build's `target` call it."""
        for number, stage in enumerate(self.stages):
            if name.lower() in (stage.name, str(number)):
                return stage
        return None

    @cached_property
    def last(self) -> Stage:
        """The stage that is the image."""
        return self.stages[-1]


def read_recipe(path: Path, args: Mapping[str, str] | None = None, target: str = "") -> Recipe:
    """The Dockerfile at `path`, built with these arguments, up to the stage `target` ("" for the last).

    Raises:
        StubError: it holds no instruction yet.
        LearnerError: it is not there, or none, and where.
        NotChecked: the parser is not to be had on this machine.
    """
    text = handwritten(path)
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        raise StubError(f"5.1: {path.name}", f"{path.name}:1")
    reader = _Reader(args or {})
    for command in _parsed(text):
        reader.take(command)
    if not reader.stages:
        raise LearnerError("the Dockerfile has no FROM\nwanted: a base image", "Dockerfile:1", explains_itself=True)
    recipe = Recipe(reader.stages, text)
    if not target:
        return recipe
    chosen = recipe.stage(target)
    if chosen is None:
        raise LearnerError(f"compose.yaml builds the stage {target!r}, and the Dockerfile has none of that name")
    return Recipe(recipe.stages[: recipe.stages.index(chosen) + 1], text)


def _parsed(text: str) -> list[Instruction]:
    try:
        import dockerfile
    except ImportError as error:
        raise NotChecked("the parser of Dockerfiles, `dockerfile`, is not to be had on this machine") from error
    try:
        commands = dockerfile.parse_string(text)
    except (dockerfile.GoParseError, ValueError) as error:
        found = re.search(r"line (\d+)", str(error))
        where = f"Dockerfile:{found[1]}" if found else "Dockerfile"
        raise LearnerError(f"Docker cannot read the Dockerfile: {error}", where, explains_itself=True) from error
    return [
        Instruction(
            name=command.cmd.upper(),
            words=(*command.value, *(heredoc.content for heredoc in command.heredocs)),
            flags=dict(flag.removeprefix("--").partition("=")[::2] for flag in command.flags),
            exec_form=command.json,
            text=command.original,
            line=command.start_line,
        )
        for command in commands
    ]


class _Reader:
    """Takes in one instruction after the other, as a builder does."""

    def __init__(self, args: Mapping[str, str]) -> None:
        self.stages: list[Stage] = []
        self._given = args
        self._before: dict[str, str] = {}  # ARGs in front of the first FROM: known to FROM alone
        self._shell: tuple[str, ...] = SHELL
        self._taken = {
            "ENV": self._env,
            "WORKDIR": self._workdir,
            "USER": self._user,
            "SHELL": self._new_shell,
            "ENTRYPOINT": self._entrypoint,
            "CMD": self._cmd,
            "HEALTHCHECK": self._healthcheck,
            "STOPSIGNAL": self._stopsignal,
            "EXPOSE": self._expose,
            "COPY": self._copy,
            "ADD": self._copy,
        }

    def take(self, raw: Instruction) -> None:
        """Take in the next one."""
        if raw.name == "ARG":
            self._arg(raw)
        elif raw.name == "FROM":
            self._from(raw)
        elif self.stages:
            stage, told = self.stages[-1], self._resolved(raw)
            if raw.name in self._taken and told.words:
                self._taken[raw.name](stage, told)
            stage.instructions.append(told)

    def _resolved(self, raw: Instruction) -> Instruction:
        """Variables resolved, but for those that a shell resolves, or in exec form nobody."""
        if raw.name in ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "SHELL", "ONBUILD"):
            return raw
        known = {**BUILD_ARGS, **self.stages[-1].args, **self.stages[-1].env}
        words = tuple(filled(word, known) for word in raw.words)
        flags = {name: filled(value, known) for name, value in raw.flags.items()}
        return Instruction(raw.name, words, flags, raw.exec_form, raw.text, raw.line)

    def _arg(self, raw: Instruction) -> None:
        known = self.stages[-1].args if self.stages else self._before
        for word in raw.words:
            name, given, default = word.partition("=")
            if name in self._given:
                known[name] = self._given[name]
            elif given:
                known[name] = filled(unquoted(default), {**BUILD_ARGS, **known})
            elif self.stages and name in self._before:
                known[name] = self._before[name]

    def _from(self, raw: Instruction) -> None:
        self._shell = SHELL
        words = [filled(unquoted(word), {**BUILD_ARGS, **self._before}) for word in raw.words] or [""]
        named = words[2].lower() if len(words) >= 3 and words[1].upper() == "AS" else ""
        parent = next((stage for stage in reversed(self.stages) if stage.name and stage.name == words[0].lower()), None)
        stage = Stage(named, words[0], parent, raw)
        if parent:
            kept = ("base", "workdir", "user", "user_at", "entrypoint_in_shell", "command_at", "health", "stop_signal")
            for name in kept:
                setattr(stage, name, getattr(parent, name))
            stage.env, stage.exposed, stage.copied = {**parent.env}, [*parent.exposed], [*parent.copied]
            stage.entrypoint, stage.command = [*parent.entrypoint], [*parent.command]
        self.stages.append(stage)

    def _env(self, stage: Stage, told: Instruction) -> None:
        stage.env |= {name: unquoted(value) for name, value in zip(told.words[::2], told.words[1::2], strict=False)}

    def _workdir(self, stage: Stage, told: Instruction) -> None:
        stage.workdir = inside(stage.workdir, unquoted(told.words[0]))

    def _user(self, stage: Stage, told: Instruction) -> None:
        stage.user, stage.user_at = unquoted(told.words[0]), told

    def _new_shell(self, stage: Stage, told: Instruction) -> None:  # noqa: ARG002
        self._shell = told.words

    def _entrypoint(self, stage: Stage, told: Instruction) -> None:
        stage.entrypoint, stage.entrypoint_in_shell = self._command(told), not told.exec_form
        if stage.command_at is None or stage.command_at not in stage.instructions:
            stage.command = []  # what it inherits is reset, what it said itself stays
        stage.command_at = stage.command_at if stage.command else told

    def _cmd(self, stage: Stage, told: Instruction) -> None:
        stage.command, stage.command_at = self._command(told), told

    def _command(self, told: Instruction) -> list[str]:
        return [*told.words] if told.exec_form else [*self._shell, " ".join(told.words)]

    def _healthcheck(self, stage: Stage, told: Instruction) -> None:
        kind, *words = told.words
        if kind.upper() != "CMD":
            stage.health = None
            return
        test = ("CMD", *words) if told.exec_form else ("CMD-SHELL", " ".join(words))
        stage.health = Health(
            test,
            told.where,
            interval=seconds(told.flags.get("interval", "30s")),
            timeout=seconds(told.flags.get("timeout", "30s")),
            start_period=seconds(told.flags.get("start-period", "0s")),
            retries=int(retries) if (retries := told.flags.get("retries", "3")).isdecimal() else 3,
        )

    def _stopsignal(self, stage: Stage, told: Instruction) -> None:
        stage.stop_signal = told.words[0]

    def _expose(self, stage: Stage, told: Instruction) -> None:
        stage.exposed += told.words

    def _copy(self, stage: Stage, told: Instruction) -> None:
        plain = told.words[: len(told.words) - told.text.count("<<")] if "<<" in told.text else told.words
        if len(plain) < 2:
            return
        *sources, target = plain
        sources = [source for source in sources if not source.startswith("<<")]  # a heredoc comes from nowhere
        folder = target.endswith("/") or target in (".", "..") or len(sources) > 1
        absolute = inside(stage.workdir, target) + ("/" if folder else "")
        stage.copied.append(Copied(tuple(sources), absolute, told.flags.get("from"), told))

    _add = _copy
