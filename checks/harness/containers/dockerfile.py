"""Reads a Dockerfile: its stages, and what a container of the last one starts with."""

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
"""Arguments that every builder sets."""
BASE_ENV = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""The environment of a Python image, as far as other variables are made from it."""

_NONROOT = re.compile(r":\S*\bnonroot\b")
"""Tags of bases that have a user set: distroless images name it so."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, its words with variables resolved, flags without `--`, its line."""

    name: str
    words: tuple[str, ...]
    flags: Mapping[str, str]
    exec_form: bool
    text: str
    line: int

    @property
    def where(self) -> str:
        """`Dockerfile:7`, and the first line of its text: of a long one both ends, where a mistake may be."""
        first = self.text.strip().splitlines()[0]
        return f"Dockerfile:{self.line}\n    " + (first if len(first) <= 120 else f"{first[:75]} ... {first[-40:]}")


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
    """A COPY or ADD: its sources, the destination as an absolute path, and the stage or image it copies from."""

    sources: tuple[str, ...]
    target: str
    stage: str | None
    instruction: Instruction


@dataclass(slots=True)
class Stage:
    """One `FROM` and what follows it.

    `parent` is the earlier stage that it builds on, if its base is one. A name that ends in `_at` holds the instruction
    that gave the value; `env_at` does so for each variable.
    """

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
    env_at: dict[str, Instruction] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    entrypoint_in_shell: bool = False
    command: list[str] = field(default_factory=list)
    command_at: Instruction | None = None
    health: Health | None = None
    health_at: Instruction | None = None
    stop_signal: str = "SIGTERM"
    stop_signal_at: Instruction | None = None
    exposed: list[str] = field(default_factory=list)
    copied: list[Copied] = field(default_factory=list)

    def lineage(self) -> Iterator[Stage]:
        """This stage and those below it, the lowest first: together they make the layers."""
        if self.parent:
            yield from self.parent.lineage()
        yield self

    @property
    def root(self) -> Stage:
        """The stage whose base is no other stage."""
        return next(self.lineage())

    @property
    def layers(self) -> list[Instruction]:
        """The instructions that make this image, from the lowest layer to the highest."""
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


def read_recipe(
    path: Path, args: Mapping[str, str] | None = None, target: str = "", target_at: str | None = None
) -> Recipe:
    """The Dockerfile at `path`, built with these arguments, up to the stage `target` ("" for the last).

    `target_at` is the line that names the target.

    Raises:
        StubError: it holds no instruction yet.
        LearnerError: the file is missing, or is no Dockerfile.
        NotChecked: this machine has no parser of Dockerfiles.
    """
    text = handwritten(path)
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        raise StubError(f"5.1: {path.name}", f"{path.name}:1")
    reader = _Reader(args or {})
    for command in _parsed(text):
        reader.take(command)
    if not reader.stages:
        raise LearnerError("the Dockerfile has no FROM", "Dockerfile:1", wanted="a base image", explains_itself=True)
    recipe = Recipe(reader.stages, text)
    if not target:
        return recipe
    chosen = recipe.stage(target)
    if chosen is None:
        raise LearnerError(
            f"compose.yaml builds the stage {target!r}, but the Dockerfile has no stage of that name",
            target_at,
            wanted="a stage of that name, or no `target`: then the last stage is the image",
            hint=f"Write `AS {target}` at the last FROM, or delete `target`.",
            explains_itself=True,
        )
    return Recipe(recipe.stages[: recipe.stages.index(chosen) + 1], text)


def _parsed(text: str) -> list[Instruction]:
    try:
        import dockerfile
    except ImportError as error:
        raise NotChecked("this machine does not have `dockerfile`, the parser of Dockerfiles") from error
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


_INHERITED = (
    *("base", "workdir", "user", "user_at", "entrypoint_in_shell", "command_at"),
    *("health", "health_at", "stop_signal", "stop_signal_at"),
)
"""What a stage takes over from the stage below it, beside what it adds to."""


class _Reader:
    """Reads one instruction after the other, as a builder does."""

    def __init__(self, args: Mapping[str, str]) -> None:
        self.stages: list[Stage] = []
        self._given = args
        self._before: dict[str, str] = {}  # ARGs in front of the first FROM: only FROM can use them
        self._shell: tuple[str, ...] = SHELL
        self._readers = {
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
        """Read the next instruction."""
        if raw.name == "ARG":
            self._arg(raw)
        elif raw.name == "FROM":
            self._from(raw)
        elif self.stages:
            stage, instruction = self.stages[-1], self._resolved(raw)
            if raw.name in self._readers and instruction.words:
                self._readers[raw.name](stage, instruction)
            stage.instructions.append(instruction)

    def _resolved(self, raw: Instruction) -> Instruction:
        """Resolve variables, except where the shell does it at run time or nothing does (exec form)."""
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
        stage = Stage(named, words[0], parent, raw, user="nonroot" if _NONROOT.search(words[0]) else "")
        if parent:
            for name in _INHERITED:
                setattr(stage, name, getattr(parent, name))
            stage.env, stage.env_at = {**parent.env}, {**parent.env_at}
            stage.exposed, stage.copied = [*parent.exposed], [*parent.copied]
            stage.entrypoint, stage.command = [*parent.entrypoint], [*parent.command]
        self.stages.append(stage)

    def _env(self, stage: Stage, instruction: Instruction) -> None:
        for name, value in zip(instruction.words[::2], instruction.words[1::2], strict=False):
            stage.env[name], stage.env_at[name] = unquoted(value), instruction

    def _workdir(self, stage: Stage, instruction: Instruction) -> None:
        stage.workdir = inside(stage.workdir, unquoted(instruction.words[0]))

    def _user(self, stage: Stage, instruction: Instruction) -> None:
        stage.user, stage.user_at = unquoted(instruction.words[0]), instruction

    def _new_shell(self, stage: Stage, instruction: Instruction) -> None:  # noqa: ARG002
        self._shell = instruction.words

    def _entrypoint(self, stage: Stage, instruction: Instruction) -> None:
        stage.entrypoint, stage.entrypoint_in_shell = self._command(instruction), not instruction.exec_form
        if stage.command_at is None or stage.command_at not in stage.instructions:
            stage.command = []  # an inherited CMD is dropped, a CMD of this stage stays
        stage.command_at = stage.command_at if stage.command else instruction

    def _cmd(self, stage: Stage, instruction: Instruction) -> None:
        stage.command, stage.command_at = self._command(instruction), instruction

    def _command(self, instruction: Instruction) -> list[str]:
        return [*instruction.words] if instruction.exec_form else [*self._shell, " ".join(instruction.words)]

    def _healthcheck(self, stage: Stage, instruction: Instruction) -> None:
        kind, *words = instruction.words
        stage.health_at = instruction
        if kind.upper() != "CMD":
            stage.health = None
            return
        test = ("CMD", *words) if instruction.exec_form else ("CMD-SHELL", " ".join(words))
        stage.health = Health(
            test,
            instruction.where,
            interval=seconds(instruction.flags.get("interval", "30s")),
            timeout=seconds(instruction.flags.get("timeout", "30s")),
            start_period=seconds(instruction.flags.get("start-period", "0s")),
            retries=int(retries) if (retries := instruction.flags.get("retries", "3")).isdecimal() else 3,
        )

    def _stopsignal(self, stage: Stage, instruction: Instruction) -> None:
        stage.stop_signal, stage.stop_signal_at = instruction.words[0], instruction

    def _expose(self, stage: Stage, instruction: Instruction) -> None:
        stage.exposed += instruction.words

    def _copy(self, stage: Stage, instruction: Instruction) -> None:
        plain = (
            instruction.words[: len(instruction.words) - instruction.text.count("<<")]
            if "<<" in instruction.text
            else instruction.words
        )
        if len(plain) < 2:
            return
        *sources, target = plain
        sources = [source for source in sources if not source.startswith("<<")]  # a heredoc is no file
        folder = target.endswith("/") or target in (".", "..") or len(sources) > 1
        absolute = inside(stage.workdir, target) + ("/" if folder else "")
        stage.copied.append(Copied(tuple(sources), absolute, instruction.flags.get("from"), instruction))

    _add = _copy
