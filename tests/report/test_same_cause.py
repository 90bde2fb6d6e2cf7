"""One cause that takes many checkpoints down is told in full once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Judge

TAKES_DOWN = ["1.2", "1.4", "1.5", "1.6", "1.7"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return app\n", ""),
        pytest.param("def create_app(", "async def create_app(", marks=pytest.mark.exhaustive),
        ("    settings = settings or Settings()\n", '    raise ValueError("no settings today")\n'),
        pytest.param(
            "    return app\n", "    return app\n\n\ncreate_app = create_app()\n", marks=pytest.mark.exhaustive
        ),
    ],
    ids=["returns None", "is an async def", "raises", "is no function"],
)
def test_what_is_wrong_with_create_app_is_told_by_the_first(old: str, new: str, solution: Path, judge: Judge) -> None:
    """The others refer to it, and the card's block names them."""
    path = solution / "lab" / "service.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    run = judge(solution, "checks/test_ex1.py", "-k", "not 1.3 and not 1.8")

    run.assert_verdicts({"1.1": "failed"} | dict.fromkeys(TAKES_DOWN, "failed") | {"1.9": ("failed", "locked")})
    assert [run.checkpoints[name]["same_as"] for name in ["1.1", *TAKES_DOWN]] == ["", *["1.1"] * len(TAKES_DOWN)]
    assert f"also  {', '.join(TAKES_DOWN)}" in run.card
    assert run.card.count("wanted") <= 1
