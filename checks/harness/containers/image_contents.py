"""Looks into an image: which files are in which layer, and which of them are left at the end."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.harness.containers.dockerfile_rules import CHANGED, installs, only_the_project
from checks.harness.containers.engine import connect
from checks.harness.containers.image_build import Builder
from checks.harness.progress import say

if TYPE_CHECKING:
    from docker import DockerClient

CACHES = re.compile(r"(^|/)\.cache/(pip|uv)/.|(^|/)(pip-http|http-v2|selfcheck|archive-v0|wheels-v\d+|simple-v\d+)/.")
"""Paths of the caches of pip and uv, which an image never uses again."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an engine shows of an image.

    Attributes:
        installs_again: the RUN that a change of code runs again, or "".
        caches: folders of caches in its layers.
        locust: where Locust is installed in it, or "".
    """

    installs_again: str
    caches: list[str]
    locust: str


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
    say(builder.folder, "looks into the layers of the image", 60, known=False)
    layers = [*_layers(client, built.image)]
    below = set(client.images.get(built.base).attrs["RootFS"]["Layers"]) if built.base else set()
    own = [paths for digest, paths in layers if digest not in below]
    return Inspected(again, _caches(own), _installed("locust", [paths for _, paths in layers]))


def _caches(layers: list[list[str]]) -> list[str]:
    """What pip or uv has left in any of these layers: a file that a later layer removes is still there, and pulled.

    Folders, the shortest path that identifies the cache: ["/root/.cache/pip"].
    """
    return sorted(
        {f"/{path[: found.end() - 2]}" for paths in layers for path in paths if (found := CACHES.search(path))}
    )


def _installed(package: str, layers: list[list[str]]) -> str:
    """The folder of a Python package in the image that these layers make, the lowest first; "" where it is not."""
    inside = re.compile(rf"(.*(?:site|dist)-packages/{package})/__init__\.pyc?$")
    left: set[str] = set()
    for paths in layers:
        for path in paths:
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                left = {other for other in left if not other.startswith(f"{folder}/")}
            elif name.startswith(".wh."):
                gone = f"{folder}/{name.removeprefix('.wh.')}".lstrip("/")
                left = {other for other in left if other != gone and not other.startswith(f"{gone}/")}
        left |= {found[1] for path in paths if (found := inside.match(path))}
    return f"/{min(left)}" if left else ""


def _layers(client: DockerClient, image: str) -> Iterator[tuple[str, list[str]]]:
    """The digest of each layer of an image and the paths in it, the lowest layer first."""
    found = client.images.get(image)
    with tempfile.TemporaryFile() as saved:
        for chunk in found.save():
            saved.write(chunk)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:
            for digest, name in zip(found.attrs["RootFS"]["Layers"], _names(archive), strict=True):
                layer = archive.extractfile(name)
                assert layer is not None
                with tarfile.open(fileobj=layer) as files:
                    yield digest, [member.name.removeprefix("./") for member in files]


def _names(archive: tarfile.TarFile) -> list[str]:
    """The names of the layers in a saved image, the lowest first."""
    manifest = archive.extractfile("manifest.json")
    assert manifest is not None
    names: list[str] = json.load(manifest)[0]["Layers"]
    return names
