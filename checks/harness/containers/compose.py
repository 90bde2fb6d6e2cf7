"""compose.yaml, read by compose itself: what it would start, or what it says is wrong."""

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

from checks.harness.errors import LearnerError, NotChecked, StubError
from checks.harness.workspace import handwritten

FILE = "compose.yaml"
SECONDS = 30.0
"""How long it may take to read a file, which it does in less than a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The services of a compose.yaml as compose understands it: defaults filled in, short forms written out."""

    services: dict[str, dict[str, Any]]
    text: str

    def line(self, service: str, *words: str) -> str:
        """`compose.yaml:7` where that service says the first of these words that it says, else where it begins."""
        lines = self.text.splitlines()
        begins = re.compile(rf"\s+[\"']?{re.escape(service)}[\"']?\s*:")
        start = next((number for number, line in enumerate(lines) if begins.match(line)), 0)
        indent = len(lines[start]) - len(lines[start].lstrip()) if lines else 0
        inside = range(start + 1, len(lines))
        told = [n for n in inside if lines[n].strip() and not lines[n].lstrip().startswith("#")]
        end = next((n for n in told if len(lines[n]) - len(lines[n].lstrip()) <= indent), len(lines))
        found = next((n for word in words for n in told if n < end and word in lines[n]), start)
        return f"{FILE}:{found + 1}" + (f"\n    {lines[found].strip()}" if lines else "")


def command() -> list[str]:
    """How compose is called on this machine.

    Raises:
        NotChecked: there is none.
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
        "no docker compose is to be found, which reads compose.yaml\nwanted: `docker compose version` answers"
    )


def read_compose(folder: Path) -> Stack:
    """The compose.yaml in `folder`, with the services of all profiles.

    Raises:
        StubError: it says nothing yet.
        LearnerError: compose does not take it, with its reason and the line.
        NotChecked: there is no compose on this machine.
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
        raise LearnerError(f"compose did not finish reading {FILE} within {SECONDS:g} s", FILE) from error
    if done.returncode:
        raise _refused(done.stderr, text, folder)
    told: dict[str, Any] = json.loads(done.stdout)
    return Stack(told.get("services") or {}, text)


def _refused(said: str, text: str, folder: Path) -> LearnerError:
    """Compose's complaint in one sentence, with the line that it is about as far as that can be known."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("time=")]
    words = re.sub(rf"{re.escape(str(folder))}/?", "", " ".join(lines)) or "it says nothing"
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
    return LearnerError(
        f"compose does not take the file: {words}\nwanted: `docker compose config -q` says nothing", where
    )
