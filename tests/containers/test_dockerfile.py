"""A Dockerfile as a builder reads it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from checks.harness.containers.dockerfile import BASE_ENV, Recipe, read_recipe
from checks.harness.containers.dockerfile_values import seconds
from checks.harness.errors import LearnerError, StubError


def recipe(tmp_path: Path, text: str, args: dict[str, str] | None = None, target: str = "") -> Recipe:
    """That text, read."""
    (tmp_path / "Dockerfile").write_text(text)
    return read_recipe(tmp_path / "Dockerfile", args, target)


def test_variables_are_those_of_a_builder(tmp_path: Path) -> None:
    """ARG before FROM is known to FROM alone, ENV to the instructions below it, `:-` and `:+` as in a shell."""
    last = recipe(
        tmp_path,
        'ARG V=3.12\nARG TAIL=-slim\nFROM python:${V}${TAIL}\nENV A=1 B="x y" Z=${A}\nENV C=${A}2 D=${V:-none}\n'
        "ENV E=${A:+set}\nARG V\nENV F=$V G=\\$A\nWORKDIR /srv\nWORKDIR app/$A\n",
    ).last

    assert last.base == "python:3.12-slim"
    assert last.env == BASE_ENV | {
        "A": "1",
        "B": "x y",
        "Z": "",
        "C": "12",
        "D": "none",
        "E": "set",
        "F": "3.12",
        "G": "$A",
    }
    assert last.workdir == "/srv/app/1"


def test_arguments_of_a_build_come_first(tmp_path: Path) -> None:
    """What compose passes as a build argument takes the place of a default."""
    assert recipe(tmp_path, "ARG V=3\nFROM python:$V\n", {"V": "3.12-slim"}).last.base == "python:3.12-slim"


def test_a_stage_on_a_stage_inherits(tmp_path: Path) -> None:
    """User, environment, command, health check and copies come from the stage below."""
    text = (
        'FROM python:3.12-slim AS Base\nENV A=1\nUSER app\nCOPY x /x\nCMD ["a"]\nHEALTHCHECK CMD ["b"]\n'
        "FROM base\nENV B=$A\n"
    )
    last = recipe(tmp_path, text).last

    assert (last.base, last.user, last.command) == ("python:3.12-slim", "app", ["a"])
    assert last.env == BASE_ENV | {"A": "1", "B": "1"}
    assert last.health
    assert last.health.test == ("CMD", "b")
    assert [one.target for one in last.copied] == ["/x"]


def test_a_target_ends_it(tmp_path: Path) -> None:
    """A build of a stage knows nothing of those behind it; one that is not there is told."""
    text = "FROM a:1 AS one\nFROM b:1 AS two\n"

    assert recipe(tmp_path, text, target="one").last.base == "a:1"
    with pytest.raises(LearnerError, match="builds the stage 'three'"):
        recipe(tmp_path, text, target="three")


@pytest.mark.parametrize(
    ("text", "entrypoint", "command"),
    [
        ('CMD ["a", "b"]', [], ["a", "b"]),
        ("CMD a b", [], ["/bin/sh", "-c", "a b"]),
        ('SHELL ["/bin/bash", "-ec"]\nCMD a', [], ["/bin/bash", "-ec", "a"]),
        ('ENTRYPOINT ["a"]\nCMD ["b"]', ["a"], ["b"]),
        ('CMD ["b"]\nENTRYPOINT ["a"]', ["a"], ["b"]),
        ("ENTRYPOINT exec a", ["/bin/sh", "-c", "exec a"], []),
    ],
)
def test_the_command(tmp_path: Path, text: str, entrypoint: list[str], command: list[str]) -> None:
    """Exec form is taken as it is, shell form goes to the shell that was set."""
    last = recipe(tmp_path, f"FROM x:1\n{text}\n").last

    assert (last.entrypoint, last.command) == (entrypoint, command)


def test_an_entrypoint_resets_an_inherited_command(tmp_path: Path) -> None:
    """A CMD of the stage below does not survive an ENTRYPOINT."""
    assert recipe(tmp_path, 'FROM x:1 AS a\nCMD ["b"]\nFROM a\nENTRYPOINT ["c"]\n').last.command == []


def test_the_health_check(tmp_path: Path) -> None:
    """The last one counts, with its timing; NONE takes it back."""
    text = "FROM x:1\nHEALTHCHECK --interval=1m30s --timeout=500ms --retries=5 CMD a || exit 1\n"
    found = recipe(tmp_path, text).last.health

    assert found
    assert found.test == ("CMD-SHELL", "a || exit 1")
    assert (found.interval, found.timeout, found.retries) == (90.0, 0.5, 5)
    assert found.where.startswith("Dockerfile:2\n")
    assert recipe(tmp_path, text + "HEALTHCHECK NONE\n").last.health is None


def test_where_copies_go(tmp_path: Path) -> None:
    """A destination is a folder when it ends in a slash, is the working directory, or takes several sources."""
    text = "FROM x:1 AS build\nFROM x:1\nWORKDIR /app\nCOPY a .\nCOPY b c d/\nCOPY lab lab\nCOPY --from=build /v /v\n"
    copied = recipe(tmp_path, text).last.copied

    assert [(one.sources, one.target, one.stage) for one in copied] == [
        (("a",), "/app/", None),
        (("b", "c"), "/app/d/", None),
        (("lab",), "/app/lab", None),
        (("/v",), "/v", "build"),
    ]


@pytest.mark.parametrize("text", ["", "# TODO\n\n  # more\n"])
def test_comments_alone_are_a_stub(tmp_path: Path, text: str) -> None:
    """A file without an instruction has not been begun."""
    with pytest.raises(StubError, match=r"^5\.1: Dockerfile"):
        recipe(tmp_path, text)


@pytest.mark.parametrize("text", ["RUN x\n", "ARG A=1\n", "\x00\xff\x00", "CMD [\n", "NONSENSE\n", "ENV\n", "FROM\n"])
def test_what_is_no_dockerfile_raises_one_error_or_none(tmp_path: Path, text: str) -> None:
    """Nonsense is told in one sentence, or read as far as it goes: never a traceback."""
    with suppress(LearnerError):
        assert recipe(tmp_path, text).stages


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """There has to be a file, and one that somebody wrote."""
    with pytest.raises(LearnerError, match="there is no Dockerfile"):
        read_recipe(tmp_path / "Dockerfile")
    with pytest.raises(LearnerError, match="is a folder"):
        read_recipe(tmp_path)
    with pytest.raises(LearnerError, match="has 5,000,010 bytes"):
        recipe(tmp_path, "FROM x:1\n#" + "x" * 5_000_000)


def test_a_heredoc_is_no_file_of_the_context(tmp_path: Path) -> None:
    """What a COPY or RUN brings itself is not looked for."""
    last = recipe(tmp_path, "FROM x:1\nCOPY <<EOF a /x/\nhello\nEOF\nRUN <<EOF\npip install y\nEOF\nUSER app\n").last

    assert [(one.sources, one.target) for one in last.copied] == [(("a",), "/x/")]
    assert "pip install y" in " ".join(last.instructions[1].words)
    assert last.user == "app"


@pytest.mark.parametrize(("text", "wanted"), [("15s", 15), ("1m30s", 90), ("1h", 3600), ("200ms", 0.2), ("soon", 0)])
def test_durations(text: str, wanted: float) -> None:
    """As Go writes them."""
    assert seconds(text) == pytest.approx(wanted)
