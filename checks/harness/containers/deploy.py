"""Starts what compose would start as `api`: on a real engine where one answers, else as a plain process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType

from checks.harness.containers import docker_service as containers
from checks.harness.containers import engine
from checks.harness.containers.build_inputs import missing_input
from checks.harness.containers.deployed import Running
from checks.harness.containers.dockerfile_rules import unusable
from checks.harness.containers.environments import unused_environment
from checks.harness.containers.image_build import Builder
from checks.harness.containers.local_service import Image, process
from checks.harness.containers.spec import Container, Files
from checks.harness.errors import LearnerError, Needs, StubError
from checks.harness.processes.servers import free_port
from checks.harness.progress import say

TIMING = {"interval": 1_000_000_000, "timeout": 8_000_000_000, "start_period": 1_000_000, "retries": 2}
"""Times (in ns) of a health check that decides within seconds: two failures in a row."""

PHASE_SECONDS = 300.0
"""Seconds for which a phase of a checkpoint may be shown as what runs now."""


class Deployments:
    """The services that a checkpoint has started; at the end they are gone."""

    def __init__(self, files: Files, builder: Builder, shared: Path) -> None:
        self._files, self._builder, self._shared = files, builder, shared
        self._running = ExitStack()
        self._network = ""

    @property
    def on_engine(self) -> bool:
        """Whether the services are real containers."""
        return engine.find(self._shared) is not None

    def say(self, what: str) -> None:
        """Show what the checkpoint does now, until it does something else."""
        say(self._shared, what, PHASE_SECONDS, known=False)

    @property
    def container(self) -> Container:
        """What is started.

        Raises:
            Needs: the Dockerfile cannot be used, as 5.1 reports.
        """
        files = self._files
        try:
            missing = missing_input(files.recipe, files.context, files.included)
            unusable_at = unusable(files.dockerfile)
            container = files.container
        except StubError:
            raise
        except LearnerError as error:
            raise Needs("5.1", error.failure.seen.splitlines()[0]) from error
        if unusable_at:
            raise Needs("5.1", f"Docker cannot build the image: {unusable_at[0]}")
        if missing:
            raise Needs("5.1", missing.seen)
        return container

    def __enter__(self) -> Deployments:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)

    def __call__(self, **changes: str) -> Running:
        """Start it, with a port of its own and these changes in its environment; returns at once.

        Raises:
            LearnerError: it cannot be started.
            Needs: it cannot be built, as 5.1 reports.
            NotChecked: this machine can run it neither as a container nor as a process.
        """
        if self.on_engine:
            try:
                self._builder()
            except LearnerError as error:
                raise Needs("5.1", error.failure.seen.splitlines()[0]) from error
            return self.real(changes)
        container = self.container
        if unused := unused_environment(self._files.recipe, container):
            program = PurePosixPath(container.argv[0]).name
            what = "starts another Python, without these packages" if "python" in program else "is not looked for there"
            raise LearnerError(
                f"the packages are in {unused}. `{container.argv[0]}` {what}",
                container.argv_at,
                wanted="the service starts with the packages that were installed for it",
                hint=f"`ENV PATH={unused}/bin:$PATH` in the last stage.",
                explains_itself=True,
            )
        self.say("starts the service as a process")
        image = Image(container, Path(tempfile.mkdtemp(dir=self._shared)))
        return self._running.enter_context(process(image, {"PORT": str(free_port()), **changes}))

    def real(
        self, changes: Mapping[str, str], *, health: Mapping[str, int] | None = None, read_only: bool = False
    ) -> containers.Running:
        """The same as a real container; `health` switches its health check on, with this timing."""
        built = self._builder()
        client = engine.connect(self._shared)
        self.say("starts a container")
        if not self._network:
            engine.sweep(client, "")
            self._network = self._running.enter_context(engine.network(client, self._builder.owner))
        return self._running.enter_context(
            containers.running(
                client,
                built.image,
                self.container,
                {"PORT": str(free_port()), **changes},
                network=self._network,
                owner=self._builder.owner,
                health=health,
                read_only=read_only,
            )
        )
