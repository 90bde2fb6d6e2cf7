"""What a failure says: texts that are too long for a card."""

from __future__ import annotations

import pytest

from checks.harness.errors import cut


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("", 3, ""),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc..."),
        ("ab cdefg", 6, "ab..."),
        ('{"detail":"' + "x" * 60 + '"}', 20, '{"detail":"xxxxxx...'),
    ],
)
def test_what_was_cut_ends_with_three_dots(text: str, most: int, shown: str) -> None:
    """And no text gets longer by it."""
    assert cut(text, most) == shown
