"""A few of many rows, evenly spread: what a picture keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

TIMELINE_ROWS = 64
"""Rows that the results keep of a timeline; the card shows fewer."""


def spread(rows: Sequence[T], most: int) -> Sequence[T]:
    """At most so many rows, evenly spread, the first and the last among them."""
    return rows if len(rows) <= most else [rows[i * (len(rows) - 1) // (most - 1)] for i in range(most)]
