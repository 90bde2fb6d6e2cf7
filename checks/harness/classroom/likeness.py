"""Pairs of submissions with nearly the same code: a hint for a person to look at, and never a part of a grade.

What is compared is what the learners wrote: without comments, docstrings, layout, and without the lines of the stubs.
Short right answers look alike by themselves.
"""

from __future__ import annotations

import contextlib
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rapidfuzz import fuzz

from checks.harness import ROOT
from checks.harness.source_lines import GIVEN
from checks.harness.workspace import HANDWRITTEN

ALIKE = 90.0
"""Percent from which a pair is named."""
LEAST = 400
"""Characters of own code below which nothing is compared."""
MOST_PAIRS = 50

_FOLDERS = ("lab", "loadtests")
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Pair:
    """Two submissions by name, and how much of their own code is the same, in percent."""

    one: str
    other: str
    percent: int


def own_code(tree: Path) -> str:
    """What a learner wrote in a workspace, file by file, one statement a line."""
    written = []
    for path in sorted(path for folder in _FOLDERS for path in (tree / folder).rglob("*.py")):
        name = path.relative_to(tree).as_posix()
        if name not in GIVEN and path.is_file() and path.stat().st_size <= HANDWRITTEN:
            stub = ROOT / name
            given = set(_statements(stub.read_text(encoding="utf-8"))) if stub.exists() else set()
            written += [line for line in _statements(path.read_text(errors="replace")) if line not in given]
    return "\n".join(written)


def _statements(text: str) -> list[str]:
    """Logical lines as their tokens; tokens and no syntax tree, which strangers can nest too deep to be walked."""
    lines, tokens = [], list[tokenize.TokenInfo]()
    with contextlib.suppress(tokenize.TokenError, SyntaxError, ValueError):  # what comes before is compared
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in _LAYOUT:
                tokens.append(token)
            elif token.type == tokenize.NEWLINE:
                if any(one.type != tokenize.STRING for one in tokens):  # else it is a docstring
                    lines.append(" ".join(one.string for one in tokens))
                tokens = []
    return lines


def alike(codes: Mapping[str, str]) -> list[Pair]:
    """The pairs by name whose code is nearly the same, the most alike first, at most 50."""
    found = []
    for (one, first), (other, second) in combinations(codes.items(), 2):
        if min(len(first), len(second)) >= LEAST:
            percent = fuzz.ratio(first, second, score_cutoff=ALIKE)
            if percent:
                found.append(Pair(one, other, int(percent)))
    return sorted(found, key=lambda pair: (-pair.percent, pair.one, pair.other))[:MOST_PAIRS]
