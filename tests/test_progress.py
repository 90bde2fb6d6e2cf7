"""Word of what is going on gets from a checkpoint's process to the card."""

from __future__ import annotations

from pathlib import Path

from checks.harness.progress import doing, say


def test_progress_is_told(tmp_path: Path) -> None:
    """The card reads what is being measured and for how long; nothing before and after."""
    assert ("", None) == doing(tmp_path)

    say(tmp_path, "a small one", 1000)
    what, left = doing(tmp_path)

    assert "a small one" == what
    assert left is not None
    assert 900 < left <= 1000

    say(tmp_path, "", 0)

    assert "" == doing(tmp_path)[0]


def test_what_nobody_can_know_is_not_told(tmp_path: Path) -> None:
    """A build takes as long as it takes: its deadline is no estimate."""
    say(tmp_path, "Step 3/9: RUN pip install", 300, known=False)

    assert ("Step 3/9: RUN pip install", None) == doing(tmp_path)


def test_old_word_is_not_believed(tmp_path: Path) -> None:
    """A checkpoint that was killed leaves its word behind."""
    say(tmp_path, "a small one", -100)

    assert ("", None) == doing(tmp_path)
