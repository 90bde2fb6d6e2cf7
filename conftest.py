"""Loads the harness, nothing else."""

pytest_plugins = ["checks.harness.plugin"]
