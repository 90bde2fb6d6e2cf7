"""The learner's `POST /generate` around a decoder whose tokens are let out one by one, and those who read."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from checks.harness.assertions import event_stream
from checks.harness.assertions.routed import routed
from checks.harness.cell.decoder_probe import DecoderProbe, Decoding
from checks.harness.cell.inprocess import refuse_if_busy, refuse_unless_settled
from checks.harness.cell.probe import Probe
from checks.harness.cell.stacks import Lines
from checks.harness.cell.standstill import TIMER_HORIZON, Standstill
from checks.harness.errors import Failure, Unanswered
from checks.harness.load.event_stream import Event, events
from checks.harness.source_lines import SourceLines
from checks.harness.syntax import changes, reads, says

PATH = "/generate"
MANY = 100
"""`decoder_queue` where no stream is to be refused."""
LONG = 3600.0
"""`queue_seconds` where no stream is to be refused."""
SEAM = "Read `request.app.state.decoder` in the handler, at each request: the checkpoint replaces it."
OWN_TASK = (
    "A task of its own decodes, from `acquire` to the last token, and puts each token into an `asyncio.Queue`; the "
    "response takes them out."
)

LAST = '`await send({"type": "http.response.body", "body": b""})` is the last, without `more_body`.'
MORE = 20
"""Pieces of a body after its last event, after which it will not end."""
HANGS = 10.0
"""Seconds after which what is waited for will not come, though timers still go off."""
A_WHILE = 2.0
"""Seconds after which it need not be waited for."""
RELEASE = (
    "Call `release` in a `finally`, or in a done-callback of the task that decodes: also after an error or a "
    "cancellation."
)
ONCE = "`release` once for each `acquire`: in a `finally` or in a done-callback, and not in both."
FREE = "`await decoder.acquire()` takes a free slot at once: let a stream wait for nothing else."
NO_LOCK = "No lock, and no queue that streams share: a stream waits only for a slot."
LIMIT = (
    "`if not decoder.free and decoder.waiting >= settings.decoder_queue:` send a 503. Await nothing between this check "
    "and `acquire`."
)

Service = Callable[..., Any]
Where = Callable[[], str | None] | None
_WRAPS_SEND = "starlette/_exception_handler.py"
_CALLS_IT = ("starlette/routing.py", "fastapi/routing.py")


class Reader:
    """One stream: what was asked for, what was let out, and what its reader has."""

    def __init__(
        self, pending: Any, prompt: str, most: int, where: Callable[[Reader, int], str | None] | None = None
    ) -> None:
        """`where` is asked for the line that has sent the event of a number, if that is no token."""
        self.pending, self.prompt, self.most = pending, prompt, most
        self.let_out: list[str] = []
        self._where = where

    @property
    def events(self) -> list[Event]:
        """What has come so far."""
        return events(b"".join(piece for _, piece in self.pending.pieces))

    @property
    def tokens(self) -> list[str]:
        """The tokens among it."""
        return [self._token(number, event) for number, event in enumerate(self.events) if not event.name]

    def _token(self, number: int, event: Event) -> str:
        try:
            return event_stream.token(event)
        except AssertionError as error:
            (failure,) = error.args
            where = self._where and self._where(self, number)
            raise AssertionError(replace(failure, where=where)) from None

    @property
    def goes_on(self) -> bool:
        """Whether much has come after the event that says how it ended."""
        before = events(b"".join(piece for _, piece in self.pending.pieces[:-MORE]))
        return any(event.name for event in before)

    @property
    def done(self) -> bool:
        """Whether its answer has ended, or it has left."""
        return bool(self.pending.done)


class Streams:
    """The learner's app around the probe."""

    def __init__(
        self, service: Service, rng: random.Random, slots: int, *, queue: int = MANY, seconds: float = LONG, **more: Any
    ) -> None:
        self.rng = rng
        self.probe = DecoderProbe(slots)
        limits = {"decoder_slots": slots, "decoder_queue": queue, "queue_seconds": seconds}
        self.app = service(decoder=self.probe, **limits, **more)
        self.lines: SourceLines = self.app.lines
        self.readers: list[Reader] = []
        self.where_event_is_wrong: Callable[[], str | None] = lambda: None
        """Where an event is made in the wrong form, if it is known to be made in a function for that."""

    def until(self, done: Callable[[], object], seconds: float = HANGS, horizon: float = TIMER_HORIZON) -> bool:
        """Wait until this, or until nothing more happens, or for so many seconds; whether it is so then.

        Where the time was up on a busy machine, no verdict is possible.
        """
        if (standstill := self._wait(done, seconds, horizon)) and not done():
            refuse_if_busy(standstill)
        return bool(done())

    def _wait(self, done: Callable[[], object], seconds: float, horizon: float = TIMER_HORIZON) -> Standstill | None:
        """Wait likewise. A loop that is blocked is a failure, whatever is waited for."""
        standstill: Standstill | None = self.app.until(done, seconds, horizon)
        if standstill and standstill.kind in ("blocked", "spinning"):
            refuse_unless_settled(standstill, self.app.where_waiting)
        return standstill

    def ended(self, reader: Reader) -> bool:
        """Wait until its answer has ended."""
        return self.until(lambda: reader.done)

    def closed(self, decoding: Decoding) -> bool:
        """Wait until a call of `generate` has ended."""
        return self.until(lambda: decoding.closed)

    def asks_for_a_slot(self, reader: Reader, before: int) -> float:
        """Wait until one more than `before` was asked for, or the answer has ended. When that was known at the latest.

        One that waits in a queue of the learner's own asks later. After a while, and when the loop has run all that is
        ready, it is taken for such a one.
        """
        probe = self.probe
        self._wait(lambda: reader.done or len(probe.wanted) > before, A_WHILE)
        if len(probe.wanted) == before:
            self.app.settle()
        return probe.wanted[-1] if len(probe.wanted) > before else time.perf_counter()

    def where(self, caller: Lines) -> str | None:
        """The learner's line nearest to where the decoder was called; None where none is on the way."""
        named = (self.lines.where_line(Path(path), number, function) for path, number, function in caller)
        return next(filter(None, named), None)

    @property
    def where_acquired(self) -> str | None:
        """Where a slot was asked for."""
        return self.where(self.probe.acquired_at) or self.lines.where_found(reads("acquire"), "streaming")

    @property
    def where_released(self) -> str | None:
        """Where a slot is released: of the last two times the first, since the second may be one too many."""
        recent = filter(None, map(self.where, self.probe.released_at[-2:]))
        return next(recent, None) or self.lines.where_found(reads("release"), "streaming") or self.where_acquired

    @property
    def where_serving(self) -> str | None:
        """The outermost line of the response that asked for a slot last."""
        return self.where(_of_the_response(self.probe.acquired_at)[::-1]) or self.where_acquired

    def where_limited(self, reader: Reader) -> str | None:
        """Where it is compared how many wait; the handler, once it is known, where the setting is not read."""
        if not self.lines.where_found(reads("decoder_queue")):
            return self.lines.where_defined(reader.pending.endpoint)
        return self.lines.where_found(reads("waiting"), "streaming") or self.where_acquired

    def where_counted(self, how: str) -> str | None:
        """Where it is written how a stream has ended."""
        return self.lines.where_found(says(how), "streaming") or self.where_serving

    def where_sent(self, reader: Reader, kind: str = "") -> str | None:
        """What sent the last message of a response, or the first of a kind ("head"), else where it is decoded."""
        sent = [lines for what, lines in reader.pending.senders if kind in ("", what)]
        chosen = (sent[0] if kind else sent[-1]) if sent else []
        return self.where(_of_the_response(chosen)) or (None if kind else self.where_decoded)

    def where_made(self, reader: Reader, number: int) -> str | None:
        """What sent the piece with the end of an event, counted from 0; or where such events are made wrongly."""
        if known := self.where_event_is_wrong():
            return known
        pieces = [piece for _, piece in reader.pending.pieces]
        whole = next((n for n in range(len(pieces)) if len(events(b"".join(pieces[: n + 1]))) > number), -1)
        senders = [lines for what, lines in reader.pending.senders if what == "piece"]
        chosen = senders[whole] if whole < len(senders) else []
        return self.where(_of_the_response(chosen)) or self.where_decoded

    def where_given(self, name: str, caller: Lines) -> str | None:
        """Where the handler changes a field of the request; None where it does not read it; else where it is given."""
        changed, read = (self.lines.where_in("service", what(name)) for what in (changes, reads))
        return changed or (self.where(caller) if read else None)

    @property
    def where_decoded(self) -> str | None:
        """Where tokens are taken from the decoder."""
        calls = self.probe.decodings
        return self.where(calls[-1].caller) if calls else None

    def where_written(self, *texts: str) -> str | None:
        """The first line with the first of these texts, in a file of the learner's that is about the decoder.

        lab/streaming.py comes first. Not where its response is a stub: then another file has one.
        """
        tree = self.lines.tree
        paths = sorted((tree / "lab").glob("*.py"), key=lambda path: (path.name != "streaming.py", path.name))
        read = {path: path.read_text(errors="replace") for path in paths}
        about = [path for path, text in read.items() if "decoder" in text and "7.3: TokenStream" not in text]
        found = (self.lines.where_written(path, text) for text in texts for path in about)
        return next(filter(None, found), None)

    @property
    def where_listening(self) -> str | None:
        """Where the app can notice that a reader has left: where it listens, or where it only responds."""
        found = (self.where(_of_the_response(one.pending.receiver)) for one in self.readers[::-1])
        return (
            next(filter(None, found), None)
            or self.app.where_responding()
            or self.where_written("receive()", "is_disconnected", "receive")
        )

    def begin(
        self, most: int = 8, *, taken: Probe | None = None, leaves_after: int | None = None, raises: bool = False
    ) -> Reader:
        """Ask for a stream of at most so many tokens, with a prompt of its own."""
        prompt = secrets.token_hex(4)
        body = json.dumps({"prompt": prompt, "max_tokens": most}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        how = {"taken": taken, "leaves_after": leaves_after, "raises": raises}
        self.readers.append(Reader(self.app.drive("POST", PATH, headers, body, **how), prompt, most, self.where_made))
        return self.readers[-1]

    def asking(self, reader: Reader) -> Decoding:
        """Its call of `generate`, once that waits for its next token."""
        probe = self.probe
        self.until(lambda: reader.done or any(one.asks for one in probe.of(reader.prompt)))
        calls = probe.of(reader.prompt)
        for call in calls:
            assert call.max_tokens == reader.most, Failure(
                f"a request had max_tokens {reader.most}, and decoder.generate was given {call.max_tokens}",
                f"{reader.most}: as many as were asked for",
                "`decoder.generate(body.prompt, body.max_tokens)`.",
                self.where_given("max_tokens", call.caller),
            )
        if waits := [one for one in calls if one.asks]:
            return waits[0]
        for given, caller in probe.misuses:
            raise AssertionError(
                Failure(
                    f"decoder.generate was given {' and '.join(given)}",
                    "the prompt, a text, and max_tokens, an integer",
                    "`decoder.generate(body.prompt, body.max_tokens)`.",
                    self.where_given("max_tokens" if given[0] == repr(reader.prompt) else "prompt", caller),
                )
            )
        assert not probe.unslotted, Failure(
            "`generate` was called while no slot was held",
            "a stream calls `generate` only while it holds a slot",
            "`await decoder.acquire()` first, and `release` after the last token is decoded.",
            self.where_decoded,
        )
        if reader.done:
            self._says_why_not(reader)
        count = len(reader.let_out)
        if calls:
            raise AssertionError(
                Failure(
                    f"the decoder gave {count} of {reader.most} tokens, and is not asked for the next",
                    "the app asks for each token as soon as it has the one before",
                    OWN_TASK,
                    self.where(calls[-1].caller),
                )
            )
        if not probe.wanted:
            raise AssertionError(
                Failure(
                    "the decoder was never asked for a slot", "a slot, then `generate`", SEAM, self.app.where_waiting()
                )
            )
        decoded = sum(call.asks for call in probe.decodings)
        hint = FREE if probe.holders < probe.slots else NO_LOCK if decoded < probe.holders else RELEASE
        where = {RELEASE: self.where_released, NO_LOCK: self.app.where_locked()}.get(hint)
        raise AssertionError(
            Failure(
                f"a stream waits, {probe.holders} of {probe.slots} slots are held, and {decoded} streams are decoded",
                "a waiting stream gets a free slot, and each stream with a slot is decoded",
                hint,
                where or self.where_acquired or self.app.where_waiting(),
            )
        )

    def _says_why_not(self, reader: Reader) -> None:
        """Raise what the app raised, or say what it answered in the place of a stream."""
        answer = reader.pending.answer()
        routed(self.app, answer)
        if answer.status_code == 503:
            raise AssertionError(
                Failure(
                    f"POST {PATH} gave 503 to a stream, while fewer than {MANY} waited for a slot",
                    f"it waits for a slot, too: decoder_queue is {MANY}",
                    LIMIT,
                    self.where_limited(reader),
                )
            )
        if answer.status_code != 200 or not self.probe.of(reader.prompt):
            raise AssertionError(
                Failure(
                    f"POST {PATH} gave {answer.status_code}: {answer.text[:80]!r}, and the decoder was not asked",
                    "200, and the tokens of `app.state.decoder`, which the checkpoint has replaced",
                    SEAM,
                )
            )
        raise AssertionError(
            Failure(
                f"the stream ended after {len(reader.let_out)} tokens, but the decoder had more",
                "every token, until the decoder ends, or `max_tokens`",
                "`async for token in decoder.generate(body.prompt, body.max_tokens):`.",
                self.where_decoded,
            )
        )

    def let_out(self, reader: Reader, token: str | None = None) -> None:
        """Let its next token out."""
        decoding = self.asking(reader)
        reader.let_out.append(secrets.token_hex(3) if token is None else token)
        self.probe.let(decoding, reader.let_out[-1])

    def let(self, reader: Reader) -> None:
        """Let its next token out, and wait until its reader has it, or nothing more happens."""
        before = len(reader.events)
        self.let_out(reader)
        self.until(lambda: len(reader.events) > before or reader.done)

    def has_all(self, reader: Reader) -> None:
        """Whether the reader has the tokens that were let out for it, as they were."""
        got, wanted = reader.tokens, reader.let_out
        if got == wanted:
            return
        if len(got) < len(wanted) and got == wanted[: len(got)]:
            if reader.done:
                reader.pending.answer()
                raise AssertionError(
                    Failure(
                        f"a stream has ended, and has {len(got)} events of tokens; the decoder gave {len(wanted)}",
                        "an event for each token",
                        event_stream.EVENT_HINT,
                        self.where_event_is_wrong() or self.where_sent(reader),
                    )
                )
            raise AssertionError(
                Failure(
                    f"the decoder gave token {len(got) + 1}, and it has not left the app"
                    + (
                        ", while the decoder is asked for the next"
                        if any(d.asks for d in self.probe.of(reader.prompt))
                        else ""
                    ),
                    "each token leaves the app as soon as the decoder gives it",
                    "`send` each token's event at once: collect nothing, and let no middleware hold a body back.",
                    self.app.where_kept(wanted[len(got)]) or self.where_sent(reader),
                )
            )
        if got[: len(wanted)] == wanted:
            raise AssertionError(
                Failure(
                    f"a reader has {got[len(wanted)]!r} as token {len(wanted) + 1}, which the decoder did not give",
                    f"{len(wanted)} events without a name: only tokens have none",
                    "How it ended is an event with a name: `event: done`.",
                    self.where_made(reader, len(wanted)),
                )
            )
        place = next(n for n, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other)
        raise AssertionError(
            Failure(
                f"a reader has {got[place]!r} as token {place + 1}",
                f"{wanted[place]!r}: each token as the decoder gave it",
                "`json.dumps` escapes line breaks, and everything else with a meaning in an event.",
                self.where_made(reader, place),
            )
        )

    def end(self, reader: Reader) -> Any:
        """Let the decoder end, where it has not, and wait for the end of the answer, which this gives."""
        if len(reader.let_out) < reader.most:
            self.probe.end(self.asking(reader))
        self.until(lambda: reader.done or reader.goes_on)
        assert reader.done, Failure(
            f"the decoder has given all {len(reader.let_out)} tokens of a stream, but its response does not end",
            "an event that says how it ended, and the end of the response",
            LAST,
            self.where_sent(reader),
        )
        try:
            return reader.pending.answer()
        except Unanswered as error:
            raise AssertionError(
                Failure(
                    error.failure.seen,
                    "a last message in every case",
                    LAST,
                    self.where_sent(reader),
                )
            ) from None

    def over(self, reader: Reader) -> bool:
        """Wait until its answer has ended, it has left, or the app has returned after a cancellation."""
        return self.until(lambda: reader.done or reader.pending.swallowed is not None)

    def given_back(
        self, what: str, hint: str | Callable[[], str], held: int = 0, *, whose: str = "the", where: Where = None
    ) -> None:
        """Fail unless so many slots are held, after what has happened. A `hint` may depend on what is known then.

        `whose` slot it is, if there is only one. `where` gives the line, where it is another one than the release.
        """
        if self.until(lambda: self.probe.holders == held):
            self.app.settle()
            self.until(lambda: self.probe.holders == held)  # what has happened may not have been noticed before
        holders, slots = self.probe.holders, self.probe.slots
        if holders == held:
            return
        mends = ONCE if holders < held else hint if isinstance(hint, str) else hint()
        still = " still" if holders > held else ""
        verb = "is" if holders == 1 else "are"
        seen = (
            f"{holders} of {slots} slots {verb}{still} held" if slots > 1 else f"{whose} slot is{still} held (1 of 1)"
        )
        shown = None if mends == ONCE else where() if where else self.where_listening if "receive()" in mends else None
        raise AssertionError(
            Failure(
                f"{_sentence(what)}. {_sentence(seen if holders else 'no slot is held')}.",
                f"{held} of {slots} slots held: one for each stream that is decoded for a reader who is still there",
                mends,
                shown or self.where_released or self.app.where_waiting(),
            )
        )


def _of_the_response(caller: Lines) -> Lines:
    """Of the lines that called `send` or `receive` those of the response: no middleware's, on either side of it."""
    files = ["/".join(Path(path).parts[-2:]) for path, _, _ in caller]
    end = next((n for n, file in enumerate(files) if file in _CALLS_IT), len(files))
    begin = max((n for n, file in enumerate(files[:end]) if file == _WRAPS_SEND), default=0)
    return caller[begin:end]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
