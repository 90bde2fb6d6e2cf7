"""Closed-loop and open-loop load on an HTTP/1.1 service: what was scheduled, sent and answered, request by request."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec
from urllib.parse import urlsplit

from checks.harness.loops import BACK_OFF, SWEEP, ClosedLoop, OpenLoop, run
from checks.harness.trace import Trace

Body = bytes | Sequence[bytes] | Callable[[int], bytes] | None
Headers = Iterable[tuple[str, str]]
Arrivals = Literal["poisson", "constant"]
P = ParamSpec("P")

START_UP = 60.0  # seconds that a process of its own may take beside its load, on a very busy machine
ROOT = Path(__file__).parents[2]  # where `checks` can be imported from


def closed_loop(
    url: str,
    *,
    connections: int,
    seconds: float | None = None,
    requests: int | None = None,
    method: str = "POST",
    body: Body = None,
    headers: Headers = (),
    timeout: float = 10.0,
    keep_bodies: bool = False,
) -> Trace:
    """Send over `connections` keep-alive connections, on each the next request as soon as the last one was answered.

    All connections are opened before the first request. No request is sent after `seconds`, or after `requests` in
    total, whichever comes first; those in flight are waited for. `body` is the same bytes for every request, or bytes
    taken in turn from a list, or made by a function of the request's number (from 0, its place in the trace).
    A request that got no whole answer within `timeout` seconds is given up and its connection replaced. `keep_bodies`
    keeps the answers' bodies in the trace.

    Raises:
        ValueError: a plan that cannot be run, such as one without an end.

    """
    if seconds is None and requests is None:
        raise ValueError("a closed loop needs an end: seconds or requests")
    if connections < 1:
        raise ValueError("a load needs at least one connection")
    wire = _wire(url, method, body, headers, requests)
    return run(lambda: ClosedLoop(url, wire, timeout, keep_bodies, connections, seconds=seconds, requests=requests))


def open_loop(
    url: str,
    *,
    rate: float,
    seconds: float,
    seed: int,
    arrivals: Arrivals = "poisson",
    method: str = "POST",
    body: Body = None,
    headers: Headers = (),
    timeout: float = 10.0,
    keep_bodies: bool = False,
    connections: int = 1000,
) -> Trace:
    """Send by a schedule fixed beforehand (`schedule`), however slowly the service answers.

    A request goes out at its scheduled time, never before, on an idle connection or on a new one; once `connections`
    are open it waits, first in first out, for one to become idle. The timeout counts from the scheduled time, as the
    latency does. The other arguments are those of `closed_loop`.

    Raises:
        ValueError: a plan that cannot be run.

    """
    if connections < 1:
        raise ValueError("a load needs at least one connection")
    times = schedule(rate, seconds, seed, arrivals)
    wire = _wire(url, method, body, headers, len(times))
    return run(lambda: OpenLoop(url, wire, timeout, keep_bodies, connections, times=times))


def schedule(rate: float, seconds: float, seed: int, arrivals: Arrivals = "poisson") -> list[float]:
    """The times in seconds after the start, all below `seconds`, at which an open loop sends `rate` requests a second.

    "poisson" has exponential gaps, as independent users have, drawn from `seed`; "constant" has equal gaps from 0.

    Raises:
        ValueError: a rate or duration that is not positive, or unknown arrivals.

    """
    if rate <= 0 or seconds <= 0:
        raise ValueError("rate and seconds must be positive")
    if arrivals == "constant":
        # Not i < rate * seconds: 100/s for 0.07 s is 7.000000000000001 in floats, and 7 requests.
        return [i / rate for i in range(round(rate * seconds))]
    if arrivals != "poisson":
        raise ValueError(f'arrivals are "poisson" or "constant", not {arrivals!r}')
    draw = random.Random(seed)
    times = [draw.expovariate(rate)]
    while times[-1] < seconds:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:-1]


def run_apart(load: Callable[P, Trace], *args: P.args, **settings: P.kwargs) -> Trace:
    """Run `closed_loop` or `open_loop` in a process of its own, which shares no event loop and no GIL with the caller.

    The trace's times are on the caller's clock: `time.perf_counter()` is one clock for all processes of a machine. The
    process ends with its load, at the latest after the longest time that its plan can take, and dies with the caller.

    Raises:
        TypeError: `body` is a function, which cannot be handed to another process: give bytes or a list of bytes.
        RuntimeError: the process failed or was too late; its own last words are in the message.

    """
    plan: dict[str, Any] = dict(settings)
    if callable(plan.get("body")):
        raise TypeError("a process of its own takes bytes or a list of bytes as its body, not a function")
    seconds, answer = _longest(plan), b""
    with tempfile.TemporaryFile() as last_words:
        command = [sys.executable, "-m", "checks.harness.traffic"]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=last_words)
        deadline = threading.Timer(seconds, child.kill)
        deadline.start()
        try:
            # Leaving this block closes the child's stdin; were this process killed, the system would. Either ends it.
            with child:
                assert child.stdin is not None
                assert child.stdout is not None
                pickle.dump((load.__name__, args, plan), child.stdin)
                child.stdin.flush()
                answer = child.stdout.read()
        except BrokenPipeError:
            pass  # it ended before it had read its plan: its last words say why
        finally:
            deadline.cancel()
            child.kill()
            child.wait()
        last_words.seek(0)
        if child.returncode != 0:
            words = last_words.read().decode(errors="replace")[-2000:] or f"no end within {seconds:g} s"
            raise RuntimeError(f"the load's own process failed with exit code {child.returncode}: {words}")
    trace: Trace = pickle.loads(answer)
    return trace


def _longest(plan: dict[str, Any]) -> float:
    """Seconds that a plan can take at worst: every request on every connection until its timeout."""
    timeout, seconds, requests = plan.get("timeout", 10.0), plan.get("seconds"), plan.get("requests")
    ends = [] if seconds is None else [seconds + 2 * timeout]
    if requests is not None:
        ends.append(timeout + -(-requests // (plan.get("connections") or 1)) * (timeout + BACK_OFF + SWEEP))
    return START_UP + min(ends, default=0.0)


def _wire(url: str, method: str, body: Body, headers: Headers, count: int | None) -> Callable[[int], bytes]:
    """How to get a request's bytes by its number; all are made ahead when their `count` is known."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"a load needs a URL like http://127.0.0.1:8000/predict, not {url!r}")
    fields = {"host": parts.netloc} | ({} if body is None else {"content-type": "application/json"})
    fields |= {name.lower(): value for name, value in headers}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def request(content: bytes) -> bytes:
        length = "" if body is None and method == "GET" else f"content-length: {len(content)}\r\n"
        return f"{head}{length}\r\n".encode("latin-1") + content

    if callable(body):
        make = body
        if count is None:
            return lambda number: request(make(number))
        contents: Sequence[bytes] = [make(number) for number in range(count)]
    elif body is None or isinstance(body, bytes):
        contents = [body or b""]
    elif not (contents := body):
        raise ValueError("a list of bodies must hold at least one")
    ready = [request(content) for content in contents]
    return (lambda _: ready[0]) if len(ready) == 1 else (lambda number: ready[number % len(ready)])


def _main() -> None:
    def die_with_parent() -> None:
        os.read(0, 1)  # not sys.stdin: its lock, held by a thread at exit, would crash the interpreter
        os._exit(1)

    name, args, plan = pickle.load(sys.stdin.buffer)
    threading.Thread(target=die_with_parent, daemon=True).start()
    load = closed_loop if name == closed_loop.__name__ else open_loop
    # Not sys.stdout.buffer: with PYTHONUNBUFFERED that is the bare file, and what a pipe does not take at once is lost.
    with open(1, "wb", closefd=False) as answer:
        pickle.dump(load(*args, **plan), answer)


if __name__ == "__main__":
    _main()
