"""Dockerfile, .dockerignore and compose.yaml together: what would be started, with which files."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.harness.containers.build_context import DECOYS, patterns
from checks.harness.containers.compose import read_compose
from checks.harness.containers.dockerfile_rules import (
    installs_again,
    leaves_cache,
    loose_base,
    missing_source,
    unusable,
)
from checks.harness.errors import LearnerError, StubError
from tests.containers.examples import DOCKERFILE, container, files


def test_the_dockerfile_alone(tmp_path: Path) -> None:
    """Without a compose.yaml it is the image that counts, with Docker's own defaults."""
    found = files(tmp_path, ignore="**/__pycache__").container

    assert (found.argv, found.workdir, found.user) == (["python", "-m", "lab.serve"], "/app", "app")
    assert (found.stop_signal, found.stop_grace_seconds, found.health, found.port) == ("SIGTERM", 10.0, None, 8000)
    assert sorted(found.copies) == [("lab/serve.py", "/app/lab/serve.py"), ("lab/service.py", "/app/lab/service.py")]


def test_compose_has_the_last_word(tmp_path: Path) -> None:
    """Command, environment, user, signal, grace time and health check."""
    found = container(
        tmp_path,
        "command: uvicorn x --port 9000\nuser: root\nstop_signal: SIGINT\nstop_grace_period: 1m\n"
        "environment: [PORT=9000]\nhealthcheck:\n  test: exit 0\n  retries: 7\n",
    )

    assert found.argv == ["uvicorn", "x", "--port", "9000"]
    assert (found.user, found.stop_signal, found.stop_grace_seconds, found.port) == ("", "SIGINT", 60.0, 9000)
    assert found.health
    assert (found.health.test, found.health.retries) == (("CMD-SHELL", "exit 0"), 7)
    assert found.health.where.startswith("compose.yaml:10\n")
    assert found.where.startswith("compose.yaml:4\n")


def test_an_entrypoint_of_compose_drops_the_images_command(tmp_path: Path) -> None:
    """That is how the engine does it, too."""
    assert container(tmp_path, "entrypoint: [python]").argv == ["python"]


@pytest.mark.parametrize("user", ["root", "0", "0:0", "root:root"])
def test_root_by_any_name(tmp_path: Path, user: str) -> None:
    """Names and numbers of root are root."""
    assert files(tmp_path, DOCKERFILE.replace("USER app", f"USER {user}")).container.user == ""


def test_a_broken_compose_file_leaves_the_image(tmp_path: Path) -> None:
    """Its own checkpoint judges it; the others go on with the Dockerfile."""
    assert files(tmp_path, compose="services: [").container.argv == ["python", "-m", "lab.serve"]


def test_copies_through_a_stage(tmp_path: Path) -> None:
    """Files of the context that come by way of another stage are found, too."""
    text = "FROM a:1 AS build\nCOPY lab /src/lab\nFROM b:1\nCOPY --from=build /src /app\n"

    assert ("lab/serve.py", "/app/lab/serve.py") in files(tmp_path, text).container.copies


def test_a_variable_passed_on_from_a_shell_is_not_told(tmp_path: Path) -> None:
    """Compose leaves what the image says where the shell has no such variable."""
    assert container(tmp_path, "environment: [PORT]").environment["PORT"] == "8000"


@pytest.mark.parametrize(
    ("source", "found"),
    [("lab", True), ("./lab/", True), ("l*", True), ("lab/*.py", True), ("*", True), ("*.py", False), ("../lab", False)]
    + [(odd, False) for odd in ("**x", "[", "lab/service.py/x")],
)
def test_what_a_copy_finds(tmp_path: Path, source: str, found: bool) -> None:
    """Patterns match name by name, as the engine's do; odd ones find nothing."""
    image = files(tmp_path, f"FROM python:3.12-slim\nCOPY {source} /app/\n")

    assert (missing_source(image.recipe, image.context, image.included) is None) is found


@pytest.mark.parametrize(
    ("run", "kept"),
    [
        ("pip install x", True),
        ("pip3.12 -q install x", True),
        ("python -m pip install x && rm -rf /tmp/x", True),
        ("uv -q sync", True),
        ("pip --no-cache-dir install x", False),
        ("pip install --no-cache x", False),
        ("export PIP_NO_CACHE_DIR=off && pip install x", False),
        ("pip install x && rm -rf ~/.cache", False),
        ("--mount=type=cache,target=/root/.cache/pip pip install x", False),
        ("uv --no-cache sync", False),
        ("UV_NO_CACHE=1 uv pip install x", False),
        ("UV_NO_CACHE=0 uv pip install x", True),
    ],
)
def test_what_leaves_a_cache(tmp_path: Path, run: str, kept: bool) -> None:
    """However pip and uv are told not to keep what they downloaded."""
    image = files(tmp_path, f"FROM python:3.12-slim\nRUN {run}\n")

    assert bool(leaves_cache(image.recipe)) is kept


@pytest.mark.parametrize("run", ["pip -q install x", "pip3.12 install x", "uv -q sync", "apt-get -y install x"])
def test_what_installs_again(tmp_path: Path, run: str) -> None:
    """Options in front of `install` hide nothing."""
    image = files(tmp_path, f"FROM python:3.12-slim\nCOPY lab lab\nRUN {run}\n")

    assert installs_again(image.recipe, image.context, image.included)


def test_what_hadolint_cannot_read_but_docker_can(tmp_path: Path) -> None:
    """A heredoc is no mistake, an unknown instruction is one."""
    assert unusable(files(tmp_path / "a", "FROM x:1\nRUN <<EOF\ntrue\nEOF\nUSER app\n").dockerfile) is None
    assert unusable(files(tmp_path / "b", "FROM x:1\nEXPOSES 8000\n").dockerfile)


def test_the_context(tmp_path: Path) -> None:
    """What lies around is there, and what is excluded is not, at any depth."""
    every = files(tmp_path / "a").included
    few = files(
        tmp_path / "b", ignore="# none\n.git\n.venv\ntests\nchecks\nsolutions\n.*_cache\n**/__pycache__\n"
    ).included

    assert {*DECOYS, "pyproject.toml", "uv.lock", "lab/serve.py"} <= every
    assert not {*DECOYS} & few
    assert {"pyproject.toml", "lab/serve.py"} <= few


def test_a_dockerignore_of_comments_is_a_stub(tmp_path: Path) -> None:
    """An empty one is none: whoever deletes the stub's line has begun."""
    (tmp_path / ".dockerignore").write_text("# TODO\n")
    with pytest.raises(StubError, match="dockerignore"):
        patterns(tmp_path)
    (tmp_path / ".dockerignore").write_text("")

    assert patterns(tmp_path) == []


def test_a_line_of_dockerignore_that_is_no_pattern_is_told(tmp_path: Path) -> None:
    """In one sentence, not as a traceback."""
    with pytest.raises(LearnerError, match="is no pattern"):
        _ = files(tmp_path, ignore="[z-a]").included


@pytest.mark.parametrize(
    ("text", "words", "where"),
    [
        (
            "services:\n  api:\n    biuld: .\n",
            "additional properties 'biuld' not allowed",
            "compose.yaml:3\n    biuld: .",
        ),
        ("services:\n  api:\n    build: .\n    stop_grace_period: soon\n", 'invalid duration "soon"', "compose.yaml:4"),
        ("services:\n  a:\n   build: .\n  - x\n", "yaml", "compose.yaml"),
        ("[1]\n", "cannot unmarshal", "compose.yaml"),
        ("services:\n  w:\n    image: x\n    depends_on: [api]\n", 'undefined service "api"', "compose.yaml:4"),
        ("\x00\x01", "compose does not take the file", "compose.yaml"),
    ],
)
def test_what_compose_refuses_is_told_with_its_line(tmp_path: Path, text: str, words: str, where: str) -> None:
    """Compose's own reason in one sentence, without paths of this run."""
    (tmp_path / "compose.yaml").write_text(text)
    with pytest.raises(LearnerError) as raised:
        read_compose(tmp_path)

    assert words in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    assert (raised.value.where or "").startswith(where)


def test_a_compose_file_of_comments_is_a_stub(tmp_path: Path) -> None:
    """It has not been begun."""
    (tmp_path / "compose.yaml").write_text("# TODO\n")
    with pytest.raises(StubError, match=r"^5\.4: compose\.yaml"):
        read_compose(tmp_path)


def test_variables_of_a_shell_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this shell happens to export is not in the file."""
    monkeypatch.setenv("COLOUR", "red")
    (tmp_path / "compose.yaml").write_text("services:\n  a:\n    image: x:${COLOUR:-blue}\n")

    assert read_compose(tmp_path).services["a"]["image"] == "x:blue"


@pytest.mark.parametrize(
    ("base", "loose"),
    [
        ("python:3.12-slim", False),
        ("python:3.12.4-slim-bookworm", False),
        ("docker.io/library/python:3.13-slim", False),
        ("python:3.12-alpine", False),
        ("python@sha256:abc", False),
        ("localhost:5000/python:3.12-slim", False),
        ("debian:12-slim", False),
        ("scratch", False),
        ("python", True),
        ("python:latest", True),
        ("python:slim", True),
        ("python:3-slim", True),
        ("python:3.12", True),
        ("python:3.12-bookworm", True),
        ("localhost:5000/python", True),
        ("debian:stable", True),
        ("", True),
    ],
)
def test_bases(base: str, loose: bool) -> None:
    """A slim base of a fixed minor version, or a digest."""
    assert bool(loose_base(base)) is loose
