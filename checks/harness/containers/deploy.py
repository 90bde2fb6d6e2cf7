"""What compose would start as `api`, started: on a real engine where one answers, else as a plain process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from checks.harness.containers import docker_service as containers
from checks.harness.containers import engine
from checks.harness.containers.deployed import Running
from checks.harness.containers.image_build import Builder
from checks.harness.containers.local_service import Image, process
from checks.harness.containers.spec import Container, Files
from checks.harness.processes.servers import free_port

TIMING = {"interval": 1_000_000_000, "timeout": 8_000_000_000, "start_period": 1_000_000, "retries": 2}
"""The health check's own command, asked more often (in ns): two in a row that fail within seconds decide."""


class Deployments:
    """The services that a checkpoint has started; at the end they are gone."""

    def __init__(self, files: Files, builder: Builder, shared: Path) -> None:
        self._files, self._builder, self._shared = files, builder, shared
        self._running = ExitStack()
        self._network = ""

    @property
    def container(self) -> Container:
        """What is started."""
        return self._files.container

    def __enter__(self) -> Deployments:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)

    def __call__(self, **told: str) -> Running:
        """Start it, told a port of its own and so much more through the environment; returns at once.

        Raises:
            LearnerError: it cannot be built, or not be started.
            NotChecked: this machine can do neither of both.
        """
        if engine.find(self._shared):
            return self.real(told)
        told = {"PORT": str(free_port()), **told}
        image = Image(self.container, self._files.context, Path(tempfile.mkdtemp(dir=self._shared)))
        return self._running.enter_context(process(image, told))

    def real(
        self, told: Mapping[str, str], *, health: Mapping[str, int] | None = None, read_only: bool = False
    ) -> containers.Running:
        """The same as a real container; `health` switches its health check on, with this timing."""
        built = self._builder()
        client = engine.connect(self._shared)
        if not self._network:
            engine.sweep(client, "")
            self._network = self._running.enter_context(engine.network(client, self._builder.owner))
        told = {"PORT": str(free_port()), **told}
        return self._running.enter_context(
            containers.running(
                client,
                built.image,
                self.container,
                told,
                network=self._network,
                owner=self._builder.owner,
                health=health,
                read_only=read_only,
            )
        )
