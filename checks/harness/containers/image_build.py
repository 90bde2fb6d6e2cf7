"""Builds the learner's image on a real engine: once a run, with the engine's cache, and removes the one before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from checks.harness.containers.engine import LABEL, NO_ENGINE, START_ENGINE, connect, find
from checks.harness.containers.spec import Files
from checks.harness.errors import Failure, LearnerError, NotChecked, cut
from checks.harness.progress import say
from checks.harness.workspace import Workspace

if TYPE_CHECKING:
    from docker import DockerClient

BUILD_SECONDS = 300.0
"""How long a build may take; from then on this machine, or its network, is too slow for a verdict."""
SHOWN_LINES = 6
_STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP (\d+)/(\d+) ?: (.*)", re.IGNORECASE | re.DOTALL)
_CACHED = re.compile(r"^ ?-+> Using cache")
_MADE = re.compile(r"^ ?-+> (?:Using cache )?([0-9a-f]{11,64})\s*$")
_NEEDS_BUILDKIT = re.compile(
    r"requires? BuildKit|unknown flag: (mount|chmod|link|network|security|parents|exclude)", re.I
)
_OUT_OF_REACH = re.compile(
    r"name resolution|Name or service not known|no such host|Network is unreachable|No route to host|dial tcp"
    r"|Connection (refused|reset|timed out)|Could not connect|error sending request|ReadTimeout|TLS handshake|dns error"
    r"|Failed to establish a new connection|No space left on device",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Step:
    """One instruction of a build: its text, whether its layer was in the cache, the image it made, its output."""

    text: str
    cached: bool = False
    made: str = ""
    output: str = ""

    @property
    def instruction(self) -> str:
        """Its first word, in capitals."""
        return self.text.partition(" ")[0].upper()


@dataclass(frozen=True, slots=True)
class Built:
    """An image: its id, that of its base ("" for scratch), their sizes in bytes, and the steps of its build."""

    image: str
    base: str
    size: int
    base_size: int
    seconds: float
    steps: list[Step] = field(default_factory=list)

    @property
    def added_mb(self) -> float:
        """MB that it adds to its base."""
        return (self.size - self.base_size) / 1e6


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How the build of this run ended: with an image, with a failure, or with a reason why nobody can know."""

    built: Built | None = None
    failure: Failure | None = None
    not_checked: str = ""


_ATTEMPT = TypeAdapter(_Attempt)


class Builder:
    """Builds the workspace's image. The checkpoints of a run share one build, through a file in `folder`."""

    def __init__(self, workspace: Workspace, files: Files, root: Path, folder: Path, owner: str) -> None:
        self._workspace, self._files, self._root = workspace, files, root
        self.folder, self.owner = folder, owner

    @property
    def possible(self) -> bool:
        """Whether an engine answers."""
        return find(self.folder) is not None

    def __call__(self) -> Built:
        """The image of this run.

        Raises:
            LearnerError: the build fails, with the Dockerfile's line and the last lines of output.
            NotChecked: no engine answers, or it cannot build this one: a base out of reach, a feature of BuildKit.
        """
        if not self.possible:
            raise NotChecked(NO_ENGINE, wanted=START_ENGINE)
        known = self.folder / "built.json"
        if not known.exists():
            known.write_bytes(_ATTEMPT.dump_json(self._try()))
        attempt = _ATTEMPT.validate_json(known.read_bytes())
        if failure := attempt.failure:
            raise LearnerError(failure.seen, failure.where, wanted=failure.wanted, hint=failure.hint)
        if attempt.built is None:
            raise NotChecked(attempt.not_checked)
        return attempt.built

    def again(self, change: str, text: str) -> list[Step]:
        """Build once more with `text` appended to a file of the workspace: the steps. The image is removed."""
        first = self()
        client = connect(self.folder, BUILD_SECONDS)
        with (self._files.context / change).open("a") as file:
            file.write(text)
        built = self._build(client, tag=None)
        _remove(client, _ids(built.steps), {*_ids(first.steps)})
        return built.steps

    def _try(self) -> _Attempt:
        try:
            client = connect(self.folder, BUILD_SECONDS)
            built = self._build(client, tag=f"{LABEL}:{self._key}")
        except NotChecked as error:
            return _Attempt(not_checked=error.reason)
        except LearnerError as error:
            return _Attempt(failure=error.failure)
        self._replace_the_last(client, built)
        return _Attempt(built)

    @property
    def _key(self) -> str:
        return hashlib.sha256(str(self._workspace.source).encode()).hexdigest()[:12]

    def _build(self, client: DockerClient, tag: str | None) -> Built:
        try:
            return self._built(client, tag)
        finally:
            say(self.folder, "", 0)

    def _built(self, client: DockerClient, tag: str | None) -> Built:
        from docker.errors import APIError, DockerException

        build = self._files.build
        started, steps = time.monotonic(), [Step("reading the Dockerfile")]
        try:
            lines = client.api.build(
                path=str(self._files.context),
                dockerfile=build.dockerfile,
                tag=tag,
                buildargs=build.args,
                target=build.target,
                network_mode="host",
                labels={LABEL: "an image of"},
                rm=True,
                forcerm=True,
                decode=True,
            )
            for line in lines:
                self._read(line, steps)
                if time.monotonic() - started > BUILD_SECONDS:
                    raise TimeoutError
        except APIError as error:
            self._explain(str(error.explanation), steps)
        except (DockerException, OSError) as error:  # a timeout of requests is an OSError
            last = steps[-1]
            raise NotChecked(f"the build did not get beyond `{cut(last.text)}`: {error or 'too slow'}") from error
        image = client.images.get(steps[-1].made)
        base = _base(steps)
        base_size = client.images.get(base).attrs["Size"] if base else 0
        return Built(str(image.id), base, image.attrs["Size"], base_size, time.monotonic() - started, steps)

    def _read(self, line: dict[str, Any], steps: list[Step]) -> None:
        """Add to the steps what the engine says in one line."""
        if "error" in line:
            self._explain(line["error"], steps)
        text = line.get("stream", "")
        if found := _STEP.match(text):
            number, of, what = found.groups()
            steps.append(Step(" ".join(what.split())))
            say(self.folder, f"build {number}/{of}: {steps[-1].text}", BUILD_SECONDS, known=False)
        elif _CACHED.match(text):
            steps[-1].cached = True
        elif not text.startswith((" ---> Running in", "Removing intermediate container", "Successfully ")):
            steps[-1].output = (steps[-1].output + text)[-4000:]
        if found := _MADE.match(text):
            steps[-1].made = found[1]

    def _explain(self, error: str, steps: Sequence[Step]) -> None:
        """Raise the exception for a failed build."""
        last = steps[-1]
        words = _plain(error).strip()
        lines = [line for line in _plain(last.output).splitlines() if line.strip() and not _MADE.match(line)]
        if _NEEDS_BUILDKIT.search(words):
            raise NotChecked(f"this engine builds without BuildKit: {words}")
        if last.instruction == "FROM":
            raise NotChecked(f"this machine cannot get the base of `{last.text}`: {cut(words, 200)}")
        if _OUT_OF_REACH.search("\n".join([*lines, words])):
            raise NotChecked(
                f"this machine cannot reach what `{cut(last.text)}` needs: {cut((lines or [words])[-1], 200)}"
            )
        said = "\n".join(f"    {cut(line, 200)}" for line in lines[-SHOWN_LINES:])
        text = self._files.dockerfile.read_text(errors="replace")
        raise LearnerError(
            f"the image cannot be built: {words}" + (f"\n{said}" if said else ""),
            _where(text, last.text, words),
            wanted="`docker build .` ends with exit code 0",
        )

    def _replace_the_last(self, client: DockerClient, built: Built) -> None:
        """Remove the images of earlier builds of this workspace, and of workspaces that are gone."""
        notes = self._root / ".lab" / "images"
        notes.mkdir(parents=True, exist_ok=True)
        mine = notes / f"{self._key}.json"
        kept = {*_ids(built.steps)}
        for note in notes.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                earlier = json.loads(note.read_text())
                if note == mine or not Path(earlier["workspace"]).exists():
                    tag = [] if note == mine else [f"{LABEL}:{note.stem}"]
                    _remove(client, [*earlier["images"], *tag], kept)
                    note.unlink()
        mine.write_text(json.dumps({"workspace": str(self._workspace.source), "images": _ids(built.steps)}))


def _ids(steps: Sequence[Step]) -> list[str]:
    """The images that a build made, the oldest first, without its bases."""
    return [step.made[:12] for step in steps if step.made and step.instruction != "FROM"]


def _remove(client: DockerClient, images: Sequence[str], kept: set[str]) -> None:
    """Remove these images, the last first, unless another one is built on them."""
    from docker.errors import APIError

    for image in reversed(images):
        if image not in kept:
            with contextlib.suppress(APIError):
                client.images.remove(image, noprune=True)


def _base(steps: Sequence[Step]) -> str:
    """The image that the last stage is built on; "" for scratch."""
    stages: dict[str, Step] = {}
    base = None
    for number, step in enumerate(step for step in steps if step.instruction == "FROM"):
        words = [word for word in step.text.split()[1:] if not word.startswith("--")]
        base = stages.get(words[0].lower(), step)
        stages[str(number)] = base
        if len(words) == 3:
            stages[words[2].lower()] = base
    return base.made if base else ""


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _where(dockerfile: str, step: str, words: str) -> str | None:
    """The Dockerfile's line of a step, or the line that the engine names."""
    lines = dockerfile.splitlines()
    named = re.search(r"line (\d+)", words)
    number = int(named[1]) if named and "parse error" in words else 0
    for candidate, line in enumerate(lines, 1):
        start = " ".join(line.rstrip("\\").split())
        if not number and start and not start.startswith("#") and step.lower().startswith(start.lower()):
            number = candidate
    if not 0 < number <= len(lines):
        return "Dockerfile"
    return f"Dockerfile:{number}\n    {lines[number - 1].strip()}"
