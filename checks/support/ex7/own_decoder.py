"""The service with the decoder that it makes itself, as it runs for its readers."""

from __future__ import annotations

import json
import random
from typing import Any

from checks.harness.errors import Failure, Inconclusive
from checks.harness.load.event_stream import events
from checks.harness.machine import load_in_words
from checks.harness.plain_words import describe
from checks.support.ex7.streams import PATH, Reader, Service

MADE = (
    "`create_app`: `app.state.decoder = SimulatedDecoder(settings.decoder_slots, settings.prefill_seconds, "
    "settings.token_seconds)`."
)
WORDS, MOST = ("to", "be", "or"), 5
PREFILL, TOKEN = 0.12, 0.03
HOLDS = (2 * PREFILL, 8 * PREFILL)
"""Seconds a slot is held: again, and longer, where the machine stood still for the whole of the first."""
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
    try:
        answer = reader.pending.answer()
    except AttributeError as error:
        if "'decoder'" not in str(error):
            raise
        raise AssertionError(
            Failure(
                f"your code raised {describe(error)}",
                "a decoder is there before the first request",
                f"It belongs in {MADE}",
                where,
            )
        ) from None
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
    """As many slots as the settings say: with all of them held and no queue, one more stream is refused.

    One that was served because a slot was free again has ended after two prefills at the earliest.
    """
    slots = rng.randint(1, 3)
    for hold in HOLDS:
        app = service(decoder_slots=slots, decoder_queue=0, prefill_seconds=hold, token_seconds=0)
        asked = []
        for _ in range(slots + 1):
            asked.append(_asked(app, 1).pending)
            app.settle()  # two that come in one turn of the loop may both see the slot that is free
        statuses = sorted(one.answer().status_code for one in asked)
        took = max(one.finished for one in asked) - min(one.sent for one in asked)
        if statuses != [200] * (slots + 1) or took < 2 * hold - EARLY:
            break
    else:
        raise Inconclusive(
            f"this machine is too busy ({load_in_words()}): {slots + 1} streams came one after the other"
        )
    wanted = [200] * slots + [503]
    assert statuses == wanted, Failure(
        f"with decoder_slots={slots} and decoder_queue=0 {slots + 1} streams came together, and got "
        f"{', '.join(map(str, statuses))}",
        f"{', '.join(map(str, wanted))}: as many as there are slots are served",
        MADE,
        where,
    )
