"""The Docker engine of this machine: whether one answers, and that no run leaves a container behind on it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from checks.harness.errors import NotChecked

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "inference-latency-lab"
"""The label of every container and network of the lab; its value names the run."""
SOON = 5.0
"""Seconds within which an engine must answer."""
PATIENCE = 60.0
"""Seconds that one call of the engine may take."""
NO_ENGINE = "no Docker engine answers, and 2 points need one"
START_ENGINE = (
    "`docker info` shows a server: start Docker Desktop, or install Docker Engine. With Podman: "
    "`podman system service --time 0 &` and `export DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock`"
)


def candidates() -> list[str]:
    """Where an engine may listen: where the environment says, or else in the usual places."""
    if host := os.environ.get("DOCKER_HOST"):
        return [host]
    if os.name == "nt":
        return ["npipe:////./pipe/docker_engine"]
    user = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"))
    desktop = Path.home() / ".docker"
    sockets = [Path("/var/run/docker.sock"), desktop / "run/docker.sock", desktop / "desktop/docker.sock"]
    sockets += [user / "docker.sock", user / "podman/podman.sock", Path("/run/podman/podman.sock")]
    return [f"unix://{path}" for path in sockets if path.exists()]


def answering() -> str | None:
    """The address of an engine that answers, or None."""
    return next((url for url in candidates() if _answers(url)), None)


def find(shared: Path) -> str | None:
    """The address of an engine that answers, or None; looked for once a run, and kept in the folder `shared`."""
    known = shared / "engine"
    if not known.exists():
        known.write_text(json.dumps(answering()))
    found: str | None = json.loads(known.read_text())
    return found


def _answers(url: str) -> bool:
    path = Path(url.removeprefix("unix://"))
    if url.startswith("unix://") and not path.exists():
        return False  # the library takes 0.3 s for that
    from docker import DockerClient
    from docker.errors import DockerException

    try:
        client = DockerClient(url, timeout=SOON)  # type: ignore[arg-type]  # it is handed to requests, which takes it
        return bool(client.ping())
    except (DockerException, OSError, ValueError):
        return False


def connect(shared: Path, seconds: float = PATIENCE) -> DockerClient:
    """A client of the engine, each of whose calls may take so many seconds.

    Raises:
        NotChecked: none answers.
    """
    url = find(shared)
    if url is None:
        raise NotChecked(NO_ENGINE, wanted=START_ENGINE)
    from docker import DockerClient

    return DockerClient(url, timeout=int(seconds))


def owner(pid: int) -> str:
    """The name of a run of pytest, which owns containers: machine, process and start."""
    return f"{platform.node()} {pid} {psutil.Process(pid).create_time():.0f}"


def this_run(isolated: bool) -> str:
    """The owner of what this run starts: the process of the whole run, which removes what its checkpoints leave."""
    return owner(os.getppid() if isolated else os.getpid())


def lives(label: str) -> bool:
    """Whether that run still goes on, as far as this machine can see."""
    try:
        node, pid, started = label.rsplit(" ", 2)
        return node != platform.node() or f"{psutil.Process(int(pid)).create_time():.0f}" == started
    except (ValueError, psutil.NoSuchProcess):
        return False


def sweep(client: DockerClient, mine: str) -> None:
    """Remove the containers and networks of this run, and those that killed runs left."""
    from docker.errors import APIError

    for things in (client.containers.list(all=True, filters={"label": LABEL}), _networks(client)):
        for thing in things:
            label = thing.labels[LABEL] if hasattr(thing, "labels") else thing.attrs["Labels"][LABEL]
            if label == mine or not lives(label):
                with contextlib.suppress(APIError):
                    thing.remove(**({"force": True, "v": True} if hasattr(thing, "image") else {}))


def _networks(client: DockerClient) -> list[Any]:
    return client.networks.list(filters={"label": LABEL})


def leave_nothing(shared: Path, pid: int) -> None:
    """Remove what the checkpoints of a run left, killed ones too."""
    if not (shared / "engine").exists() or find(shared) is None:
        return
    from docker.errors import DockerException

    with contextlib.suppress(DockerException, OSError):
        sweep(connect(shared), owner(pid))


@contextlib.contextmanager
def network(client: DockerClient, mine: str) -> Iterator[str]:
    """A network of its own: not every engine has one named `bridge`."""
    made = client.networks.create(f"{LABEL}-{os.getpid()}-{os.urandom(3).hex()}", labels={LABEL: mine})
    try:
        yield str(made.name)
    finally:
        from docker.errors import APIError

        with contextlib.suppress(APIError):
            made.remove()
