"""What an image holds: its layers one by one, and what can be imported in it."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from checks.harness.containers.dockerfile_rules import CHANGED, installs, only_the_project
from checks.harness.containers.engine import LABEL, connect
from checks.harness.containers.image_build import Builder

if TYPE_CHECKING:
    from docker import DockerClient

CACHES = re.compile(r"(^|/)\.cache/(pip|uv)/.|(^|/)(pip-http|http-v2|selfcheck|archive-v0|wheels-v\d+|simple-v\d+)/.")
"""Paths that pip and uv keep for the next time, which in an image never comes."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an engine says of an image: which RUN a change of code runs again, caches in its layers, and `locust`."""

    installs_again: str
    caches: list[str]
    has_locust: bool


def inspect(builder: Builder) -> Inspected:
    """Look into the image, and build it once more after a change in `CHANGED`.

    Raises what building it raises.
    """
    built = builder()
    client = connect(builder.folder)
    steps = builder.again(CHANGED, "\n# changed\n")
    before, again = "", ""
    for step in steps:
        if not step.cached and installs(step.text) and not only_the_project(step.text, before):
            again = again or step.text
        before += f"\n{step.text}"
    found = caches(client, built.image, built.base)
    return Inspected(again, found, imports(client, built.image, "locust", builder.owner))


def caches(client: DockerClient, image: str, base: str) -> list[str]:
    """What pip or uv has left in any layer above the base: removed in a later one it is still there, and downloaded.

    Folders, the shortest path that tells: ["/root/.cache/pip"].
    """
    below = set(client.images.get(base).attrs["RootFS"]["Layers"]) if base else set()
    layers = client.images.get(image).attrs["RootFS"]["Layers"]
    found: set[str] = set()
    with tempfile.TemporaryFile() as saved:
        for chunk in client.images.get(image).save():
            saved.write(chunk)
        saved.seek(0)
        for layer, files in zip(layers, _layers(saved), strict=True):
            if layer not in below:
                found |= {f"/{path[: match.end() - 2]}" for path in files if (match := CACHES.search(path))}
    return sorted(found)


def _layers(saved: IO[bytes]) -> Iterator[list[str]]:
    """The paths in each layer of a saved image, from the lowest."""
    with tarfile.open(fileobj=saved) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        for name in json.load(manifest)[0]["Layers"]:
            layer = archive.extractfile(name)
            assert layer is not None
            with tarfile.open(fileobj=layer) as files:
                yield [member.name.removeprefix("./") for member in files]


def imports(client: DockerClient, image: str, module: str, owner: str) -> bool:
    """Whether Python can import the module in a container of the image."""
    from docker.errors import APIError, ContainerError

    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    for python in ("python", "python3"):
        try:
            client.containers.run(
                image, ["-c", code], entrypoint=[python], network_mode="none", labels={LABEL: owner}, remove=True
            )
        except ContainerError:
            return False
        except APIError:  # it is not named so
            continue
        return True
    return False
