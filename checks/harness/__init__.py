"""What the checkpoints stand on: `docs/architecture.md` shows the rooms, pyproject.toml who may import whom."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the lab: where `checks` and `lab` can be imported from."""
