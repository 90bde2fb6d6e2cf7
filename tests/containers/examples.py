"""Workspaces with a Dockerfile and a compose.yaml, and images made of them."""

from __future__ import annotations

from pathlib import Path

from checks.harness import ROOT
from checks.harness.containers.local_service import Image
from checks.harness.containers.spec import Container, Files

DOCKERFILE = (
    'FROM python:3.12-slim\nENV PORT=8000\nWORKDIR /app\nCOPY lab lab\nUSER app\nCMD ["python", "-m", "lab.serve"]\n'
)
IMAGE = "FROM python:3.12-slim\nENV PATH=/opt/venv/bin:$PATH LOGS=/app/logs\nWORKDIR /app\nCOPY lab lab\n"
SCRIPT = "#!/bin/sh\nexec /opt/venv/bin/python /app/lab/serve.py\n"
TINY = ROOT / "tests" / "tiny_server.py"


def files(tmp_path: Path, dockerfile: str = DOCKERFILE, compose: str | None = None, ignore: str = "") -> Files:
    """A workspace of these files, and a service of two."""
    tree = tmp_path / "tree"
    (tree / "lab").mkdir(parents=True)
    for name in ("service.py", "serve.py"):
        (tree / "lab" / name).write_text("")
    (tree / "Dockerfile").write_text(dockerfile)
    (tree / ".dockerignore").write_text(ignore)
    if compose is not None:
        (tree / "compose.yaml").write_text(compose)
    return Files(tree, ROOT, tmp_path)


def container(tmp_path: Path, api: str, dockerfile: str = DOCKERFILE) -> Container:
    """What compose would start with these lines about `api`."""
    lines = "\n".join(f"    {line}" for line in ["build: .", *api.splitlines()])
    return files(tmp_path, dockerfile, f"services:\n  api:\n{lines}\n").container


ANY = Container(
    argv=["python", "-m", "lab.serve"],
    environment={},
    workdir="/app",
    user="app",
    stop_signal="SIGTERM",
    stop_grace_seconds=10.0,
    init=False,
    health=None,
    port=8000,
    context=Path("/nowhere"),
    copies=[],
    changes_modes=False,
    converts_line_ends=False,
    argv_at="Dockerfile:6",
    user_at="",
    environment_at={"HOST": "Dockerfile:2"},
    stop_signal_at="",
    stop_grace_at="",
    health_at="",
)
"""A container of which nothing matters but where it is made."""


def image(tmp_path: Path, lines: str, script: str = SCRIPT, mode: int = 0o755) -> Image:
    """An image with these lines at its end; `start.sh` and `tiny_server.py` lie beside its Dockerfile."""
    found = files(tmp_path, f"{IMAGE}{lines}\n")
    (found.tree / TINY.name).write_bytes(TINY.read_bytes())
    (found.tree / "start.sh").write_text(script)
    (found.tree / "start.sh").chmod(mode)
    return Image(found.container, tmp_path / "root")
