"""Waits until a service that was deployed answers, and says why it does not."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from contextlib import suppress

from checks.harness.containers.deployed import ANSWER_SECONDS, Running, last_lines, where_printed
from checks.harness.containers.spec import Container
from checks.harness.errors import Inconclusive, LearnerError
from checks.harness.machine import FairClock, load_in_words
from checks.harness.processes.single_requests import ask_once
from checks.harness.source_lines import SourceLines, last_raised

READY_SECONDS = 30.0
"""Fair seconds that a service may take to answer: it takes about 1 s of CPU for each worker."""
LONGEST_WAIT = 150.0
"""Real seconds after which nobody waits for a service, however busy the machine is."""
IMPORT_SECONDS = 4.0
"""How long the imports of a service may take. They take 1 s; from 4 s on the machine is too busy for a verdict."""
SETTLED_SECONDS = 1.5
"""Fair seconds for which a service must listen somewhere else until that counts as its place."""
POLL_SECONDS = 0.05
ANY = "0.0.0.0"
_RAISED = re.compile(r"[\w.]+(Error|Exception|Exit)\b|Error: |.*: No module named ")
CRLF = (
    "Save the script with LF line ends, as Unix does (in Git: `*.sh text eol=lf` in .gitattributes), or convert it in "
    "the Dockerfile: `RUN sed -i 's/\\r$//' start.sh`."
)
"""What to do about a script with the line ends of Windows."""
TAKE_PORT = "`python -m lab.serve` reads PORT. Use it as the command. In shell form: `exec uvicorn ... --port $PORT`."


def until_it_answers(
    running: Running, path: str = "/health", seconds: float = READY_SECONDS, *, anywhere: bool = False
) -> None:
    """Wait until GET `path` is answered, whatever the answer. `seconds` are fair ones.

    With `anywhere` a service that listens in another place, and can be reached there, is as good: its address becomes
    that one.

    Raises:
        LearnerError: it ended before; it listens elsewhere, for good; or the time was over.
        Inconclusive: the time was over on a busy machine; or another program took its port.
    """
    clock, elsewhere = FairClock(), FairClock()
    broken: FairClock | None = None
    limit = time.monotonic() + LONGEST_WAIT
    while clock.seconds() < seconds and time.monotonic() < limit:
        status = ask_once(running.address, path, ANSWER_SECONDS).status
        if status == 500 and "Traceback" in running.output():
            raise _raised(running, path)
        if status == 500:  # what it prints comes through a pipe
            broken = broken or FairClock()
        if status is not None and (broken is None or broken.seconds() > SETTLED_SECONDS):
            return
        if (code := running.exit_code) is not None:
            if "address already in use" in running.output().lower():
                raise _port_taken(running)
            raise _ended(running, code, path)
        found = running.listening()
        if not found or (ANY, running.port) in found:
            elsewhere = FairClock()
        if elsewhere.seconds() > SETTLED_SECONDS:
            place = running.reach(found) if anywhere else None
            if place is None or place == running.address:
                raise _elsewhere(running, found)
            running.address, elsewhere = place, FairClock()
        time.sleep(POLL_SECONDS)
    started = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", "import fastapi, uvicorn"], capture_output=True, timeout=LONGEST_WAIT)
    if clock.busy or time.monotonic() - started > IMPORT_SECONDS or time.monotonic() > limit:
        raise Inconclusive(f"this machine is too busy ({load_in_words()}) to see whether the service answers")
    raise LearnerError(
        f"no answer to GET {path} within {seconds:g} s{last_lines(running)}",
        running.container.argv_at,
        wanted="a service that answers",
    )


def _raised(running: Running, path: str) -> LearnerError:
    """What to say of a service that answers, and whose own code raises for each request."""
    said, context = last_raised(running.output()), running.container.context
    where, hint = where_printed(running), "Exercise 1 (1.1) shows the exception with its line."
    if "'NoneType' object is not callable" in said and not where:
        where = SourceLines(context).where_written(context / "lab" / "service.py", "def create_app")
        hint = f"`create_app` gave the server None: `return app` at its end. {hint}"
    return LearnerError(f"GET {path} gave 500: {said}", where, wanted="200", hint=hint)


def _ended(running: Running, code: int, path: str) -> LearnerError:
    """What to say of a service that ended before it answered."""
    if _with_windows_line_ends(running.container):
        return windows_line_ends(running.container)
    lines = [line.strip() for line in running.output().splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    cause = re.sub(r"^\S*/(python[\d.]*: )", r"\1", [*lines, *raised][-1])[:200] if lines else "no output"
    return LearnerError(
        f"it ended with exit code {code} before it answered GET {path}: {cause}{last_lines(running, 2)}",
        where_printed(running) or running.container.argv_at,
        wanted="a server that runs until it is asked to end",
        hint=_why_it_ended(cause, code),
    )


def _why_it_ended(cause: str, code: int) -> str:
    """A hint for the mistakes that end a service at its start; "" for others."""
    if "\r" in cause:
        return CRLF
    if re.search(r"\$\w+|\$\{", cause):
        return (
            'Exec form does not resolve variables: `["...", "--port", "$PORT"]` passes the five characters. Let '
            "`python -m lab.serve` read PORT, or use shell form: `CMD exec uvicorn ... --port $PORT`."
        )
    if found := re.search(r"No module named '?([\w.]+)", cause):
        if found[1] == "lab":
            return "`COPY lab lab` puts the package into WORKDIR, where Python looks for it."
        if found[1].startswith("lab."):
            return "The service starts with `python -m lab.serve`. Is the name spelled right?"
        return f"Is `{found[1]}` installed in the last stage, in the environment that the command uses?"
    if code == 0:
        return "The container ends with its first process: start the server in the foreground, without `&`."
    return ""


def windows_line_ends(container: Container) -> LearnerError:
    """What to say of a script with CRLF line ends: the kernel looks for `/bin/sh\\r`, a shell for `lab.serve\\r`."""
    name = next(iter(_with_windows_line_ends(container)), "the script")
    return LearnerError(
        f"`{name}` cannot run: its lines end in CRLF, and the carriage return becomes part of the last word",
        f"{name}:1",
        wanted="a script with LF line ends",
        hint=CRLF,
    )


def _with_windows_line_ends(container: Container) -> list[str]:
    return [name for name, text in container.scripts.items() if "\r\n" in text and not container.converts_line_ends]


def _elsewhere(running: Running, found: set[tuple[str, int]]) -> LearnerError:
    """What to say of a service that listens where it cannot be reached."""
    places = ", ".join(sorted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in found))
    container, own = running.container, "lab.serve" in " ".join(running.container.argv)
    wanted = f"0.0.0.0:{running.port}: the port in PORT, on all addresses"
    if running.port in {port for _, port in found}:
        where = container.line_of("HOST") if own else container.argv_at
        if not own:
            hint = "`--host 0.0.0.0` in the command that starts the server."
        elif where.startswith("compose.yaml"):
            hint = "Delete HOST from `environment` in compose.yaml: it takes the place of the image's `ENV HOST`."
        else:
            hint = "`ENV HOST=0.0.0.0`: `python -m lab.serve` listens on the address in HOST, by default 127.0.0.1."
        wanted += ". 127.0.0.1 inside the container cannot be reached from outside"
    else:
        hint = TAKE_PORT
        where = container.argv_at
    return LearnerError(
        f"with PORT={running.port} it listens on {places}",
        where,
        wanted=wanted,
        hint=hint,
    )


def _port_taken(running: Running) -> Exception:
    """What to say of a service that found its port taken: on PORT it was another program's fault."""
    with suppress(OSError), socket.create_connection(running.address, timeout=1):
        return Inconclusive(f"another program on this machine took port {running.port} just before the service did")
    return LearnerError(
        f"with PORT={running.port} it uses another port, which is taken on this machine{last_lines(running, 2)}",
        running.container.argv_at,
        wanted=f"0.0.0.0:{running.port}: PORT names a port that is free on this machine",
        hint=TAKE_PORT,
    )
