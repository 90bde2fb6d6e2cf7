"""Lets compose itself read compose.yaml: the services that it would start, or its complaint."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from checks.harness.errors import Inconclusive, LearnerError, NotChecked, StubError
from checks.harness.machine import BUSY, crowding
from checks.harness.workspace import handwritten

FILE = "compose.yaml"
SECONDS = 30.0
"""How long compose may take to read a file. It takes less than 0.1 s on an idle machine."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The services of a compose.yaml as compose reads it: with defaults, and short forms in their long form."""

    services: dict[str, dict[str, Any]]
    text: str

    def line(self, service: str, *words: str) -> str:
        """`compose.yaml:7`: the line of that service with the first of these words that it has, else its first line.

        A line that has the word as its key comes before others.
        """
        lines = self.text.splitlines()
        begins = re.compile(rf"\s+[\"']?{re.escape(service)}[\"']?\s*:")
        start = next((number for number, line in enumerate(lines) if begins.match(line)), 0)
        indent = len(lines[start]) - len(lines[start].lstrip()) if lines else 0
        used = [n for n in range(start + 1, len(lines)) if lines[n].strip() and not lines[n].lstrip().startswith("#")]
        end = next((n for n in used if len(lines[n]) - len(lines[n].lstrip()) <= indent), len(lines))
        patterns = [
            re.compile(form.format(re.escape(word)))
            for word in words
            for form in (r"[\s\-\"']*{}[\"']?\s*[:=]", r".*{}")
        ]
        found = next((n for pattern in patterns for n in used if n < end and pattern.match(lines[n])), start)
        return f"{FILE}:{found + 1}" + (f"\n    {lines[found].strip()}" if lines else "")


def command() -> list[str]:
    """The command that calls compose on this machine.

    Raises:
        NotChecked: this machine has no compose.
    """
    spec = find_spec("compose")
    packaged = Path(next(iter(spec.submodule_search_locations or ()), "")) / "docker-compose" if spec else Path()
    if packaged.is_file():
        return [str(packaged)]
    if found := shutil.which("docker-compose"):
        return [found]
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, timeout=SECONDS).returncode == 0:
        return [docker, "compose"]
    raise NotChecked(
        "this machine has no docker compose, which reads compose.yaml", wanted="`docker compose version` answers"
    )


def read_compose(folder: Path) -> Stack:
    """The compose.yaml in `folder`, with the services of all profiles.

    Raises:
        StubError: it holds only comments.
        LearnerError: compose refuses it, with its reason and the line.
        NotChecked: this machine has no compose.
        Inconclusive: compose took too long on a busy machine.
    """
    path = folder / FILE
    text = handwritten(path)
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        raise StubError(f"5.4: {FILE}", f"{FILE}:1")
    env = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    call = [*command(), "--project-directory", str(folder), "-f", str(path), "--profile", "*"]
    try:
        done = subprocess.run(
            [*call, "config", "--format", "json"], env=env, cwd=folder, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        if crowding() >= BUSY:
            raise Inconclusive(f"this machine is too busy: compose did not read {FILE} within {SECONDS:g} s") from error
        raise LearnerError(f"compose did not finish reading {FILE} within {SECONDS:g} s", FILE) from error
    if done.returncode:
        raise _refused(done.stderr, text, folder)
    config: dict[str, Any] = json.loads(done.stdout)
    return Stack(config.get("services") or {}, text)


def _refused(said: str, text: str, folder: Path) -> LearnerError:
    """Compose's complaint in one sentence, with the line that it is about where that can be found."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("time=")]
    words = re.sub(rf"{re.escape(str(folder))}/?", "", " ".join(lines)) or "it gives no reason"
    words = re.sub(rf"^validating \S*{re.escape(FILE)}: ", "", words)
    number = int(found[1]) if (found := re.search(r"line (\d+)", words)) else 0
    for key in reversed(re.findall(r"['\"]([\w.-]+)['\"]", words)) if not number else ():
        number = next(
            (n for n, line in enumerate(text.splitlines(), 1) if re.search(rf"\b{re.escape(key)}\b", line)), 0
        )
        if number:
            break
    shown = text.splitlines()[number - 1].strip() if 0 < number <= len(text.splitlines()) else ""
    where = f"{FILE}:{number}\n    {shown}" if shown else FILE
    return LearnerError(f"compose refuses the file: {words}", where, wanted="`docker compose config -q` prints nothing")
