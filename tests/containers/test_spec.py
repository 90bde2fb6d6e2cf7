"""Dockerfile, .dockerignore and compose.yaml together: what would be started, with which files."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.harness.containers.build_context import DECOYS, patterns
from checks.harness.containers.build_inputs import missing_input
from checks.harness.containers.compose import read_compose
from checks.harness.containers.dockerfile_rules import (
    installs_again,
    installs_tests,
    leaves_cache,
    loose_base,
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
    assert found.argv_at.startswith("compose.yaml:4\n")


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

    assert (missing_input(image.recipe, image.context, image.included) is None) is found


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
        ("pip install x && rm -rf /var/cache/apt/*", True),
        ("rm -rf /root/.cache && pip install x", True),
        ("pip install x && rm -rf ~/.cache/uv", True),
        ("uv sync && rm -rf /root/.cache/pip", True),
        ("--mount=type=cache,target=/var/cache/apt pip install x", True),
        ("--mount=type=cache,target=/root/.cache/uv pip install x", True),
        ("--mount=target=/root/.cache,type=cache uv sync", False),
        ("--mount=type=tmpfs,target=/root/.cache pip install x", False),
        ("pip install x && rm -rf $HOME/.cache/pip/*", False),
        ("pip install x && pip cache purge", False),
        ("uv sync && uv cache clean", False),
        ("uv sync && pip cache purge", True),
        ("pip install --cache-dir /tmp/c x && rm -rf /tmp/c", False),
        ("UV_CACHE_DIR=/tmp/uv uv sync && rm -r /tmp/*", False),
        ('pip install x && rm -rf "$(pip cache dir)"', False),
        ("pip install x && find /root/.cache -delete", False),
    ],
)
def test_what_leaves_a_cache(tmp_path: Path, run: str, kept: bool) -> None:
    """However pip and uv are told not to keep what they downloaded."""
    image = files(tmp_path, f"FROM python:3.12-slim\nRUN {run}\n")

    assert bool(leaves_cache(image.recipe, image.context)) is kept


@pytest.mark.parametrize(
    ("run", "requirements", "installed"),
    [
        ("uv sync", {}, True),
        ("uv sync --no-dev", {}, False),
        ("UV_NO_DEV=1 uv sync", {}, False),
        ("uv sync --only-group dev", {}, True),
        ("/app/.venv/bin/pip install locust", {}, True),
        ("pip install --group dev", {}, True),
        ("pip install -r a.txt", {"a.txt": "fastapi\nlocustfile-runner\n"}, False),
        ("pip install -r a.txt", {"a.txt": "-r b.txt\n", "b.txt": "Locust==2\n"}, True),
        ("pip install -ra.txt", {"a.txt": "--requirement b.txt\n", "b.txt": "-r a.txt\n"}, False),
        (
            "pip install -r requirements/all.txt",
            {"requirements/all.txt": "-r dev.txt", "requirements/dev.txt": "locust"},
            True,
        ),
        ("uv pip sync a.txt", {"a.txt": "locust\n"}, True),
    ],
)
def test_what_installs_locust(tmp_path: Path, run: str, requirements: dict[str, str], installed: bool) -> None:
    """By its name, with a group, or through requirements that include others, also in a circle."""
    image = files(tmp_path, f"FROM python:3.12-slim\nRUN {run}\n")
    for name, text in requirements.items():
        (image.context / name).parent.mkdir(exist_ok=True)
        (image.context / name).write_text(text)

    assert bool(installs_tests(image.recipe, image.context)) is installed


def test_a_mount_brings_the_code_like_a_copy(tmp_path: Path) -> None:
    """Of the whole context, or of the folder that changes; not of a file that does not."""
    for number, (mount, again) in enumerate(
        {
            "target=/x": True,
            "source=.,target=/x": True,
            "src=lab,target=/x": True,
            "source=uv.lock,target=uv.lock": False,
        }.items()
    ):
        image = files(tmp_path / str(number), f"FROM x:1-slim\nRUN --mount=type=bind,{mount} uv sync\n")
        assert bool(installs_again(image.recipe, image.context, image.included)) is again


def test_lines_that_a_learner_has_to_change(tmp_path: Path) -> None:
    """A setting of compose has its line there, one of the image in the Dockerfile."""
    text = DOCKERFILE.replace("ENV PORT=8000", "ENV PORT=8000 HOST=0.0.0.0\nSTOPSIGNAL 9")
    api = 'ports: ["${PORT}:1"]\nenvironment:\n  PORT: "9000"\nstop_grace_period: 3s\ninit: true\n'
    found = container(tmp_path, f"{api}healthcheck:\n  disable: true\n", text)

    assert found.line_of("PORT").startswith("compose.yaml:6\n")
    assert found.line_of("HOST").startswith("Dockerfile:2\n")
    assert found.line_of("WEB_CONCURRENCY") == found.argv_at
    assert (found.stop_signal, found.init) == ("SIGKILL", True)
    assert found.stop_signal_at.startswith("Dockerfile:3\n")
    assert found.stop_grace_at.startswith("compose.yaml:7\n")
    assert found.health_at.startswith("compose.yaml:9\n")


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
    with pytest.raises(LearnerError, match="is not a pattern"):
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
        ("\x00\x01", "compose refuses the file", "compose.yaml"),
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
        ("python:3.12-alpine3.20", False),
        ("debian:12-slim", False),
        ("debian:bookworm-slim", False),
        ("alpine:3.20", False),
        ("ghcr.io/astral-sh/uv:python3.12-bookworm-slim", False),
        ("ghcr.io/astral-sh/uv:0.5-python3.12-alpine", False),
        ("gcr.io/distroless/python3-debian12:nonroot", False),
        ("scratch", False),
        ("python", True),
        ("python:latest", True),
        ("python:slim", True),
        ("python:3-slim", True),
        ("python:3.12", True),
        ("python:3.12-bookworm", True),
        ("localhost:5000/python", True),
        ("debian:stable", True),
        ("debian:stable-slim", True),
        ("ubuntu:24.04", True),
        ("python:3-slim-bookworm", True),
        ("ghcr.io/astral-sh/uv:python3.12-bookworm", True),
        ("ghcr.io/astral-sh/uv:python3-bookworm-slim", True),
        ("gcr.io/distroless/python3", True),
        ("alpine:3", True),
        ("nvidia/cuda:12.4.1-runtime-ubuntu22.04", True),
        ("", True),
    ],
)
def test_bases(base: str, loose: bool) -> None:
    """A slim base of a fixed minor version, or a digest."""
    assert bool(loose_base(base)) is loose
