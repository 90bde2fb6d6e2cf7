"""What every run of checkpoints imports: done once, in the process that all of the runs are forked from."""

from importlib import import_module

import pydantic_settings
from _pytest.config import default_plugins

import checks.harness.grading.preload
import checks.harness.plugin

__all__ = ["checks", "pydantic_settings"]

PYTEST = [f"_pytest.{name}" for name in default_plugins]
for name in [*PYTEST, "pytest_asyncio.plugin", "pytest_benchmark.plugin"]:
    import_module(name)
