"""Which cells this machine can have, and the one that grades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from checks.harness.walls import bwrap
from checks.harness.walls.wall import NoCell, Plain, Wall

_WALLS: dict[str, tuple[type[Wall], Callable[[], str]]] = {
    "bwrap": (bwrap.Bwrap, bwrap.missing),
    "plain": (Plain, lambda: ""),
}
NAMES = tuple(_WALLS)


@dataclass(frozen=True)
class Cell:
    """A kind of cell: whether this machine can have it, and in one sentence what it holds off, or what is missing."""

    name: str
    available: bool
    says: str


def cells() -> list[Cell]:
    """Every kind of cell, the strongest first. Takes a moment: one of each is started and looked at."""
    holds = {
        "bwrap": "no network, a tree that is read only, nothing to be seen of this machine, limits of its own",
        "plain": "no wall: for your own files, and for submissions that you would start yourself",
    }
    return [Cell(name, not (why := missing()), why or holds[name]) for name, (_, missing) in _WALLS.items()]


def choose(name: str) -> Wall:
    """The wall of that cell. Raises `NoCell` where this machine cannot have it: one sentence that says why."""
    wall, missing = _WALLS[name]
    if why := missing():
        raise NoCell(f"no {name} cell: {why}. `--cell=plain` grades without a wall, as the user that runs it")
    return wall()
