"""`lab doctor`: what this machine has of what the lab can use."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

PORTS = {8000: "your service, started by hand", 8089: "Locust's own page", 8460: "this lab's page"}
"""Ports that the lessons and the guide use. The checkpoints take free ones."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and what to do where something is missing.

    `missing`: the lab works, but not all of it.
    """

    about: str
    state: Literal["fine", "missing"]
    found: str
    do: str = ""


def doctor() -> None:
    """Say what this machine has: Python, Docker, compose, cores, load, ports, browser."""
    from rich.console import Console
    from rich.markup import escape

    to = Console(highlight=False, soft_wrap=True)
    marks = {"fine": "[green]+[/]", "missing": "[yellow]-[/]"}
    for finding in findings():
        to.print(f" {marks[finding.state]} {finding.about:<10} {escape(finding.found)}")
        if finding.do:
            to.print(f"              [dim]{escape(finding.do)}[/]")


def findings() -> Iterator[Finding]:
    """What was found, one after the other: an engine that does not answer takes some seconds."""
    yield _python()
    yield _processes()
    yield _engine()
    yield _compose()
    yield _cores()
    yield from _cells()
    for port, use in PORTS.items():
        yield _port(port, use)
    yield _browser()


def _python() -> Finding:
    return Finding("Python", "fine", f"{platform.python_version()} ({sys.executable})")


def _processes() -> Finding:
    import multiprocessing

    if "fork" in multiprocessing.get_all_start_methods():
        return Finding("processes", "fine", "checkpoints are forked")
    return Finding("processes", "fine", "no fork here: each checkpoint takes about a second more to start")


def _engine() -> Finding:
    from checks.harness.containers.engine import NO_ENGINE, START_ENGINE, answering

    if url := answering():
        return Finding("Docker", "fine", f"an engine answers at {url}")
    return Finding("Docker", "missing", NO_ENGINE, START_ENGINE)


def _compose() -> Finding:
    from checks.harness.containers.compose import command
    from checks.harness.errors import NotChecked

    try:
        return Finding("compose", "fine", " ".join(command()))
    except NotChecked as error:
        return Finding("compose", "missing", error.reason, error.failure.wanted)


def _cores() -> Finding:
    from checks.harness.machine import BUSY, crowding, load_in_words

    if crowding() >= BUSY:
        do = "close programs that use the CPU: checkpoints that measure time may be inconclusive, but will not fail"
        return Finding("cores", "missing", f"busy: {load_in_words()}", do)
    return Finding("cores", "fine", load_in_words())


def _cells() -> Iterator[Finding]:
    from checks.harness.walls.choice import cells

    for cell in cells():
        yield Finding(f"{cell.name} cell", "fine" if cell.available else "missing", cell.says)


def _port(port: int, use: str) -> Finding:
    import socket

    with socket.socket() as tried:
        if sys.platform != "win32":  # there the option means another thing
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return Finding(f"port {port}", "missing", f"taken (for {use})", "give another port, or end what uses it")
    return Finding(f"port {port}", "fine", f"free (for {use})")


def _browser() -> Finding:
    import webbrowser

    try:
        return Finding("browser", "fine", webbrowser.get().__class__.__name__)
    except webbrowser.Error:
        return Finding("browser", "missing", "this machine can open no browser")
