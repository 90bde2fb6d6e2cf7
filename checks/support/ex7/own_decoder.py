"""The service with the decoder that it makes itself, as it runs for its readers."""

from __future__ import annotations

import json
import random
from typing import Any

from checks.harness.errors import Failure, Inconclusive
from checks.harness.load.event_stream import events
from checks.harness.machine import load_in_words
from checks.support.ex7.streams import PATH, Reader, Service

MADE = (
    "`create_app`: `app.state.decoder = SimulatedDecoder(settings.decoder_slots, settings.prefill_seconds, "
    "settings.token_seconds)`."
)
WORDS, MOST = ("to", "be", "or"), 5
PREFILL, TOKEN = 0.12, 0.03
EARLY = 0.005
"""Seconds by which a timer may go off too early."""


def _asked(app: Any, most: int) -> Reader:
    body = json.dumps({"prompt": " ".join(WORDS), "max_tokens": most}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return Reader(app.drive("POST", PATH, headers, body), " ".join(WORDS), most)


def streams(service: Service, where: str | None) -> None:
    """It gives the tokens of the given decoder, no faster than the settings say."""
    app = service(prefill_seconds=PREFILL, token_seconds=TOKEN)
    reader = _asked(app, MOST)
    answer = reader.pending.answer()
    wanted = [f"{WORDS[number % len(WORDS)]} " for number in range(MOST)]
    what = f"with the service's own decoder POST {PATH}"
    assert answer.status_code == 200, Failure(f"{what} gave {answer.status_code}", "200", MADE, where)
    assert reader.tokens == wanted, Failure(
        f"{what} gave the tokens {reader.tokens}", f"{wanted}: those of `SimulatedDecoder`", MADE, where
    )
    first = next(at for at, piece in reader.pending.pieces if any(not e.name for e in events(piece)))
    for took, least, name in (
        (first - reader.pending.sent, PREFILL, f"the first token came after {{}} s: prefill_seconds is {PREFILL}"),
        (
            reader.pending.finished - reader.pending.sent,
            PREFILL + (MOST - 1) * TOKEN,
            f"{MOST} tokens took {{}} s: prefill_seconds is {PREFILL}, token_seconds {TOKEN}",
        ),
    ):
        assert took >= least - EARLY, Failure(
            f"{what}: {name.format(f'{took:.3f}')}", "the times of the settings", MADE, where
        )


def has_its_slots(service: Service, rng: random.Random, where: str | None) -> None:
    """As many slots as the settings say: with all of them held and no queue, the next is refused."""
    slots = rng.randint(1, 3)
    app = service(decoder_slots=slots, decoder_queue=0, prefill_seconds=2 * PREFILL, token_seconds=0)
    served = [_asked(app, 1) for _ in range(slots)]
    late = _asked(app, 1)
    for one in served:
        status = one.pending.answer().status_code
        assert status == 200, Failure(
            f"with decoder_slots={slots} one of {slots} streams got {status}", "200", MADE, where
        )
    status = late.pending.answer().status_code
    if status != 503 and (late.pending.arrived is None or late.pending.arrived >= served[0].pending.pieces[0][0]):
        raise Inconclusive(
            f"this machine is too busy ({load_in_words()}): {slots + 1} requests came one after the other"
        )
    assert status == 503, Failure(
        f"with decoder_slots={slots} and decoder_queue=0 {slots + 1} streams came together, and the last got {status}",
        "503: all slots are held",
        MADE,
        where,
    )
