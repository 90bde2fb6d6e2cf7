"""The lab's fixtures, and the session that takes part in a pytest run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from checks.harness.containers.engine import leave_nothing
from checks.harness.errors import LearnerError
from checks.harness.fixtures import (
    cell,
    deploy,
    feature_store,
    files,
    image,
    lab,
    launch,
    load_test,
    play,
    rng,
    serve,
    serve_target,
    service,
    show,
    wall_clock,
)
from checks.harness.grading import checkpoints
from checks.harness.grading.session import Session
from checks.harness.processes.theirs import OURS
from checks.harness.report.results import set_aside
from checks.harness.workspace import Workspace, open_workspace

__all__ = [
    "cell",
    "deploy",
    "feature_store",
    "files",
    "image",
    "lab",
    "launch",
    "load_test",
    "play",
    "rng",
    "serve",
    "serve_target",
    "service",
    "show",
    "wall_clock",
]

pytest_plugins = ["checks.harness.options"]
"""For a run that does not read this project's pyproject.toml."""

SESSION = pytest.StashKey[Session]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open the workspace, and put the card in the place of pytest's own report where a learner looks at checkpoints."""
    config.addinivalue_line("markers", checkpoints.MARKER)
    if config.option.usepdb or config.option.trace:
        config.option.isolation = "none"  # a debugger needs the keyboard, and the process that has it
    scratch = Path(tempfile.mkdtemp(prefix="lab-", dir=config.option.isolated))
    path = config.option.results or config.rootpath / ".lab" / "last-run.json"
    if _only_checks(config) and not (config.option.isolated or config.option.collectonly):
        if path.parent.name == ".lab":
            set_aside(path)
        path.unlink(missing_ok=True)  # a run that never begins must not leave another's results
    try:
        in_place = config.option.isolation == "none"
        workspace = open_workspace(config.rootpath, config.option.workspace, scratch / "tree", in_place=in_place)
    except LearnerError as error:
        shutil.rmtree(scratch)
        raise pytest.UsageError(str(error)) from error
    for name in [name for name in os.environ if name.upper().startswith(OURS)]:
        del os.environ[name]
    with_card = _wants_card(config)
    if with_card and config.option.tbstyle == "auto":
        config.option.tbstyle = "native"  # the card shows none, and pytest's own take 50 ms a failure
    session = Session(config, workspace, scratch, path, with_card=with_card, clean_up=leave_nothing)
    config.stash[SESSION] = session
    config.pluginmanager.register(session, "lab")


def _wants_card(config: pytest.Config) -> bool:
    """Whether this run is about checkpoints only, and no option asks for pytest's own output."""
    option = config.option
    asked = option.verbose > 0 or option.tbstyle != "auto" or option.collectonly or option.isolated
    asked = asked or option.usepdb or option.trace
    return not asked and _only_checks(config)


def _only_checks(config: pytest.Config) -> bool:
    """Whether this run is about checkpoints and nothing else."""
    named = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    checks = config.rootpath.resolve() / "checks"
    return all(path.resolve().is_relative_to(checks) for path in named)


@pytest.fixture
def workspace(request: pytest.FixtureRequest) -> Workspace:
    """Whose files are judged."""
    return request.config.stash[SESSION].workspace


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Path:
    """A folder that all checkpoints of this run share."""
    return request.config.stash[SESSION].shared


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """This run's seed."""
    return request.config.stash[SESSION].seed
