"""Two pictures for exercise 3, from the lab's own load generator: `uv run python lessons/loops.py`, about 12 s."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from checks.harness.load.generator import closed_loop, open_loop
from checks.harness.load.trace import Request, percentile
from checks.harness.loadtest.targets import Answer, Service, target

SLOTS, SECONDS = 4, 0.05
"""The service: so many requests at a time, so long each. Its capacity is 80 requests/s."""

BODY = b'{"features": [1.0, 2.0, 6.0]}'


def main() -> None:
    """Run both and draw."""
    with target(Service((Answer(SECONDS),), slots=SLOTS)) as service:
        url = f"{service.url}/predict"
        closed = closed_loop(url, connections=8, seconds=4, body=BODY)
        opened = open_loop(url, rate=96, seconds=4, seed=1, arrivals="constant", body=BODY)
    print("capacity 80 requests/s; p95 of the requests that were due in each half second")
    print(f"{'second':<9}{'closed loop, 8 users':<34}open loop, 96 requests/s")
    for half in range(8):
        due = [[r for r in t.requests if half <= (r.scheduled - t.started) * 2 < half + 1] for t in (closed, opened)]
        ms = [percentile([(r.finished or r.scheduled) - r.scheduled for r in one], 95) * 1000 for one in due]
        print(f"{half / 2:<9}{bar(ms[0], 1000):<34}{bar(ms[1], 1000)}")

    with target(Service((Answer(0.004),), stall=(1.0, 2.0))) as service:
        trace = open_loop(f"{service.url}/predict", rate=100, seconds=4, seed=1, body=BODY, connections=2)
    print("\none stall of 1 s in 4 s, 100 requests/s due, 2 connections to send them on")
    print(f"{'':<9}{'from when it was sent':<34}from when it was due")
    answered = [r for r in trace.requests if r.sent is not None and r.finished is not None]
    for q in (50, 90, 95, 99, 100):
        sent, due = (
            percentile(seconds, q) * 1000 for seconds in (since(answered, "sent"), since(answered, "scheduled"))
        )
        print(f"{f'p{q}':<9}{bar(sent, 1100):<34}{bar(due, 1100)}")


def since(requests: Sequence[Request], start: str) -> list[float]:
    """Seconds of each request from one of its times to its end."""
    return [(request.finished or 0.0) - getattr(request, start) for request in requests]


def bar(ms: float, most: float) -> str:
    """A bar of up to 24 columns, and the number."""
    return f"{'█' * round(min(ms / most, 1) * 24)} {ms:.0f} ms"


if __name__ == "__main__":
    main()
