"""Which cells this machine can have, and the one that grades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from checks.harness.walls import bwrap, docker, uid
from checks.harness.walls.wall import NoCell, Plain


@dataclass(frozen=True)
class _Kind:
    wall: type[Plain]
    missing: Callable[[], str]
    holds: str
    of_itself: bool
    """Whether it may be taken without having been asked for."""


_KINDS = {
    "bwrap": _Kind(
        bwrap.Bwrap, bwrap.missing,
        "no network, a tree that is read only, nothing to be seen of this machine, limits of its own", True,
    ),
    "docker": _Kind(
        docker.Docker, docker.missing,
        "a container: no network, a tree that is read only, nothing to be seen of this machine, its own limits", True,
    ),
    "uid": _Kind(
        uid.Uid, uid.missing,
        "another user, with limits of its own: for a container that holds nothing else, because it has this machine's "
        "network and what every user may read", False,
    ),
    "plain": _Kind(
        Plain, lambda: "", "no wall: for your own files, and for submissions that you would start yourself", False
    ),
}  # fmt: skip
NAMES = tuple(_KINDS)
STRONGEST = "auto"
"""Stands for the first cell in the list that this machine can have, of those that hold a stranger's code off."""


@dataclass(frozen=True)
class Cell:
    """A kind of cell: whether this machine can have it, and in one sentence what it holds off, or what is missing."""

    name: str
    available: bool
    says: str


def cells() -> list[Cell]:
    """Every kind of cell, the strongest first. Takes a moment: one of each is started and looked at."""
    return [Cell(name, not (why := kind.missing()), why or kind.holds) for name, kind in _KINDS.items()]


def choose(name: str) -> Plain:
    """The wall of that cell. Raises `NoCell` where this machine cannot have it: one sentence that says why."""
    if name == STRONGEST:
        whys = []
        for kind in (kind for kind in _KINDS.values() if kind.of_itself):
            if not (why := kind.missing()):
                return kind.wall()
            whys.append(f"no {kind.wall.name} cell: {why}")
        raise NoCell(f"{'. '.join(whys)}. {_OTHERS}")
    if why := _KINDS[name].missing():
        raise NoCell(f"no {name} cell: {why}. {_OTHERS}")
    return _KINDS[name].wall()


_OTHERS = "`lab doctor` says which cells this machine can have; `--cell=plain` grades without a wall, as your own user"
