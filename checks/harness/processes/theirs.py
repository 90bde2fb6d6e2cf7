"""The learner's service as a server process: its factory, and the environment that holds its settings."""

from __future__ import annotations

from typing import Any

THEIRS = "lab.service:create_app"

LIFTED = {"max_in_flight": 10_000, "max_queue": 10_000, "queue_seconds": 60}
"""Settings under which admission control refuses no request, so that what is measured is another subject."""

OURS = ("LAB_", "UVICORN_")
"""How the names begin that no environment may set: what a shell happens to export must not change a verdict."""


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """These settings, and the rest of `LIFTED`, as `lab.settings` reads them: `LAB_INFERENCE_SECONDS`, say."""
    return {f"LAB_{name.upper()}": str(value) for name, value in (LIFTED | settings).items()}
