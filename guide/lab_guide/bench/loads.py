"""The loads of a plan: what is sent, how long an answer may take, and what the service says of itself meanwhile."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from checks.harness.load.generator import closed_loop, open_loop
from checks.harness.load.loops import Live
from checks.harness.load.trace import Trace
from checks.harness.processes.single_requests import FEATURES, Answer, ask_once
from lab_guide.bench.plan import Plan

TIMEOUT = 10.0
"""Seconds after which a request is given up, beyond those of the model for all requests that are in flight with it."""
LONGEST = 120.0
"""Seconds after which any request is given up."""
PROMPT = "The quick brown fox jumps over the lazy dog"

Metrics = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A load that was offered, `times` the capacity (0 where that was not asked), and /metrics before and after it."""

    times: float
    plan: Plan
    trace: Trace
    before: Metrics
    after: Metrics


def body(plan: Plan) -> bytes:
    """What each request asks for."""
    if plan.kind == "stream":
        return json.dumps({"prompt": PROMPT, "max_tokens": plan.max_tokens}).encode()
    return FEATURES


def alone(port: int, plan: Plan) -> Answer:
    """A first request, with nobody beside it."""
    patience = TIMEOUT + plan.alone_seconds
    return ask_once(("127.0.0.1", port), plan.path, patience, method="POST", body=body(plan))


def offer(url: str, plan: Plan, live: Live) -> Trace:
    """Send a load, to its end."""
    many = plan.connections
    ahead = 1 if plan.load == "open" else many
    how: dict[str, Any] = {
        "body": body(plan),
        "timeout": min(LONGEST, TIMEOUT + plan.alone_seconds * ahead),
        "keep_pieces": plan.kind == "stream",
        "live": live,
    }
    if plan.load == "open":
        return open_loop(url, rate=plan.rate, seconds=plan.seconds, seed=1, **how)
    if plan.load == "closed":
        return closed_loop(url, connections=many, seconds=plan.seconds, **how)
    return closed_loop(url, connections=many, requests=many, **how)


def metrics(port: int) -> Metrics:
    """What `GET /metrics` says now; nothing where it is no JSON object."""
    with contextlib.suppress(ValueError):
        told = json.loads(ask_once(("127.0.0.1", port), "/metrics", TIMEOUT).text)
        if isinstance(told, dict):
            return told
    return {}


def more(part: Part, *names: str) -> dict[str, int] | None:
    """What a part has added to the counts at this place of /metrics, such as `"streams", "ends"`; None for none."""
    counts: list[dict[str, int]] = []
    for told in (part.before, part.after):
        found: Any = told
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict) or not all(type(count) is int for count in found.values()):
            return None
        counts.append({str(name)[:20]: count for name, count in found.items()})
    before, after = counts
    return {name: count - before.get(name, 0) for name, count in after.items()}
