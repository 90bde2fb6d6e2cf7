"""What every run of checkpoints imports: done once, in the process that all of the runs are forked from.

And the zygote that they may share: its imports take a second of computing, as long as two checkpoints in a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest
from _pytest.config import default_plugins

import checks
from checks.harness.grading.isolation import end_processes
from checks.harness.judge.start import ZYGOTE, zygote_of_cells
from checks.harness.processes.process_group import descendants

BESIDE_LOCUST = "checks.harness.cell.locust_recorder"  # only Locust's own process can import it

for name in [f"_pytest.{name}" for name in default_plugins]:
    import_module(name)
for name in ["pytest_asyncio.plugin", "pytest_benchmark.plugin", "pydantic_settings"]:
    import_module(name)
for module in walk_packages(checks.__path__, "checks."):
    if module.name != BESIDE_LOCUST and not module.name.startswith("checks.test_"):
        import_module(module.name)

SHARED = zygote_of_cells(service=True)


class SharedZygote:
    """A plugin of a run: its cells come from the zygote of all runs. None of them outlives its checkpoint."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        """Put the zygote where the run looks for its own, before it starts one early."""
        early_config.stash[ZYGOTE] = SHARED

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """End the cells of a checkpoint with it: they are no descendants of the run."""
        result = yield
        end_processes(descendants(SHARED.pid))
        return result
