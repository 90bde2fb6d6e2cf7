"""Closed-loop and open-loop load on an HTTP/1.1 service: what was scheduled, sent and answered, request by request.

`loops.py` decides when to send, `sending.py` sends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Literal
from urllib.parse import urlsplit

from checks.harness.load.loops import ClosedLoop, Keep, Live, OpenLoop, run
from checks.harness.load.trace import Trace

Body = bytes | Sequence[bytes] | Callable[[int], bytes] | None
Headers = Iterable[tuple[str, str]]
Arrivals = Literal["poisson", "constant"]


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
    keep_pieces: bool = False,
    live: Live | None = None,
) -> Trace:
    """Send over `connections` keep-alive connections, on each the next request as soon as the last one was answered.

    All connections are opened before the first request. No request is sent after `seconds`, or after `requests` in
    total, whichever comes first; those in flight are waited for. `body` is the same bytes for every request, or bytes
    taken in turn from a list, or made by a function of the request's number (from 0, its place in the trace).
    A request that got no whole answer within `timeout` seconds is given up and its connection replaced. `keep_bodies`
    keeps the answers' bodies in the trace, `keep_pieces` in their place each body as it came, piece by piece with its
    moment: so what is streamed is measured. `live` is called again and again while it runs.

    Raises:
        ValueError: a plan that cannot be run, such as one without an end.

    """
    if seconds is None and requests is None:
        raise ValueError("a closed loop needs an end: seconds or requests")
    if connections < 1:
        raise ValueError("a load needs at least one connection")
    wire, keep = _wire(url, method, body, headers, requests), Keep(keep_bodies, keep_pieces)

    def load() -> ClosedLoop:
        return ClosedLoop(url, wire, timeout, keep, connections, seconds=seconds, requests=requests)

    return run(load, live)


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
    keep_pieces: bool = False,
    connections: int = 1000,
    live: Live | None = None,
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
    wire, keep = _wire(url, method, body, headers, len(times)), Keep(keep_bodies, keep_pieces)
    return run(lambda: OpenLoop(url, wire, timeout, keep, connections, times=times), live)


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
