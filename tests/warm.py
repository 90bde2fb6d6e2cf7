"""What every run of checkpoints imports: done once, in the process that all of the runs are forked from."""

from importlib import import_module
from pkgutil import walk_packages

from _pytest.config import default_plugins

import checks

BESIDE_LOCUST = "checks.harness.cell.locust_recorder"  # only Locust's own process can import it

for name in [f"_pytest.{name}" for name in default_plugins]:
    import_module(name)
for name in ["pytest_asyncio.plugin", "pytest_benchmark.plugin", "pydantic_settings"]:
    import_module(name)
for module in walk_packages(checks.__path__, "checks."):
    if module.name != BESIDE_LOCUST and not module.name.startswith("checks.test_"):
        import_module(module.name)
