"""7.3: what a stream looks like on the wire, however its decoder ends."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from checks.harness.assertions import event_stream
from checks.harness.assertions.answers import calling
from checks.harness.errors import Failure, LearnerError
from checks.harness.load.event_stream import events
from checks.harness.plain_words import describe
from checks.harness.workspace import LearnerModules, Workspace
from checks.support.ex7.streams import PATH, Reader, Service, Streams

TRAPS = (
    "two\nlines",
    "\r\n",
    'say "hi"',
    "data: no",
    "\n\nevent: done\n\n",
    "Grüße, 日本 🙂",
    "[DONE]",
    " and a space",
    "back\\slash",
    "\u2028",
    ": a comment",
)
"""Tokens that break a stream whose JSON is written by hand."""
FAILS = "out of memory"
AN_ERROR = (
    "Catch the decoder's exception (`except Exception as error:`). Do not raise it again, in any task. Send an `error` "
    "event: the 200 is already sent."
)
MOST_TOKENS = 512
REFUSED: tuple[Any, ...] = (
    {},
    {"prompt": "Hello"},
    {"max_tokens": 4},
    {"prompt": "", "max_tokens": 4},
    {"prompt": 7, "max_tokens": 4},
    {"prompt": "Hello", "max_tokens": 0},
    {"prompt": "Hello", "max_tokens": -1},
    {"prompt": "Hello", "max_tokens": MOST_TOKENS + 1},
    {"prompt": "Hello", "max_tokens": "4"},
    {"prompt": "Hello", "max_tokens": 4.0},
    {"prompt": "Hello", "max_tokens": True},
)


def where_event_is_wrong(lab: LearnerModules, workspace: Workspace) -> str | None:
    """Where `event` is defined in lab/streaming.py, if it is there and does not make an event."""
    try:
        made = lab.streaming.event({"token": "Hel"})
        wrong = [(one.name, json.loads(one.data)) for one in events(made)] != [("", {"token": "Hel"})]
    except Exception:  # a proposal that was not taken
        return None
    return workspace.where_defined(lab.streaming.event) if wrong else None


class Wire:
    """The learner's app, one stream at a time."""

    def __init__(
        self, service: Service, rng: random.Random, where_event_is_wrong: Callable[[], str | None] = lambda: None
    ) -> None:
        self.rng, self.streams = rng, Streams(service, rng, slots=2)
        self.streams.where_event_is_wrong = where_event_is_wrong

    def _plays(self, tokens: list[str], most: int) -> Reader:
        reader = self.streams.begin(most)
        for token in tokens:
            self.streams.let_out(reader, token)
        return reader

    def whole_answers(self) -> int:
        """Tokens with traps come back as they were, and `done` with their number is last. Returns how many."""
        traps = self.rng.sample(TRAPS, len(TRAPS))
        for tokens, most in ((traps, len(traps) + 2), (["Hel", "lo"], 2), (["one"], 1)):
            reader = self._plays(tokens, most)
            answer = self.streams.end(reader)
            self._headers(answer, reader)
            self._ends(reader, "done", len(tokens), f"the decoder ended after {len(tokens)} tokens")
        return len(traps)

    def decoders_that_fail(self) -> None:
        """Before the first token and after three: an `error` event is last, and the response ends as it should."""
        for tokens in ([], ["a", "b", "c"]):
            what = "The decoder failed " + (f"after {len(tokens)} tokens" if tokens else "before its first token")
            with (
                self._no_exception_comes_out(what),
                calling(f"POST {PATH}, when {what},", self.streams.lines, AN_ERROR, of_its_own=True),
            ):
                reader = self._plays(tokens, 8)
                self.streams.probe.fail(self.streams.asking(reader), FAILS)
                self.streams.ended(reader)
                assert reader.done, Failure(
                    f"{what}, and the stream does not end",
                    "`event: error`, and the end of the response",
                    AN_ERROR,
                    self.streams.where_decoded,
                )
                reader.pending.answer()
            self._ends(reader, "error", None, what)

    @contextmanager
    def _no_exception_comes_out(self, what: str) -> Iterator[None]:
        """Around a stream whose decoder fails. Where it was caught and raised again, that is the line to change."""
        try:
            yield
        except LearnerError as error:
            raised = error.__cause__
            if not isinstance(raised, RuntimeError) or FAILS not in str(raised):
                raise
            seen, wanted = f"{what}, and POST {PATH} raised {describe(raised)}", "an `error` event, and no exception"
            where = self.streams.lines.where_raised_again(raised.__traceback__) or error.where
            raise AssertionError(Failure(seen, wanted, AN_ERROR, where)) from None

    def nothing_wrong_gets_in(self, where: str | None) -> None:
        """Bodies of another form are a 422, and the decoder is not asked; those at the edge are right."""
        for body in REFUSED:
            status = self._status(body)
            asked = status is None
            assert status == 422, Failure(
                f"POST {PATH} with {json.dumps(body)} " + ("was decoded" if asked else f"gave {status}"),
                "422, and the decoder is not asked",
                f"`prompt: Annotated[str, Field(min_length=1)]`, and `Field(strict=True, ge=1, le={MOST_TOKENS})` for "
                "the integer `max_tokens`.",
                where,
            )
        reader = self.streams.begin(MOST_TOKENS)
        self.streams.let_out(reader)
        self.streams.end(reader)

    def _status(self, body: Any) -> int | None:
        """Of the answer to a body; None where the decoder was asked for a slot."""
        wanted = self.streams.probe.wanted
        before = len(wanted)
        pending = self.streams.app.drive("POST", PATH, JSON, json.dumps(body).encode())
        self.streams.until(lambda: pending.done or len(wanted) > before)
        return None if len(wanted) > before else int(pending.answer().status_code)

    def _headers(self, answer: Any, reader: Reader) -> None:
        fields, where = answer.headers, self.streams.where_sent(reader, "head")
        assert fields.get("content-type", "").partition(";")[0].strip() == "text/event-stream", Failure(
            f"POST {PATH} has the content type {fields.get('content-type')!r}",
            "text/event-stream: it tells proxies and browsers what comes",
            '`media_type="text/event-stream"`, or the header in the first message.',
            where,
        )
        assert "no-cache" in fields.get("cache-control", ""), Failure(
            f"POST {PATH} has the header Cache-Control: {fields.get('cache-control')}",
            "no-cache: then no proxy on the way keeps events back",
            '`headers={"cache-control": "no-cache"}`.',
            where,
        )
        assert "content-length" not in fields, Failure(
            f"POST {PATH} says Content-Length: {fields['content-length']}",
            "no such header: the length is not known before the last token",
            "A response of your own sends its own headers: those of `Response.__init__` count an empty body.",
            where,
        )

    def _ends(self, reader: Reader, how: str, number: int | None, what: str) -> None:
        """All tokens, then one event that says how it ended, and nothing else."""
        self.streams.has_all(reader)
        found = reader.events
        named = [place for place, one in enumerate(found) if one.name]
        wanted = f'`event: done` with `{{"tokens": {number}}}`' if how == "done" else "`event: error`"
        hint = AN_ERROR if how == "error" else f'`event({{"tokens": {number}}}, "done")` once the decoder has ended.'
        where = self.streams.where_event_is_wrong() or self.streams.where_sent(reader)
        assert named, Failure(f"{what}, and the stream ends without an event that says so", wanted, hint, where)
        said = event_stream.ending(found[named[0]])
        assert len(named) == 1, Failure(
            f"{what}, and the stream has {len(named)} events with a name: {', '.join(str(found[n]) for n in named)}",
            f"one, and it is the last: {wanted}",
            hint,
            where,
        )
        assert named == [len(found) - 1], Failure(
            f"{what}, and something follows the event {found[named[0]]}", "it is the last event", hint, where
        )
        assert found[-1].name == how, Failure(f"{what}, and the last event is {found[-1]}", wanted, hint, where)
        assert number is None or said == number, Failure(
            f"{what}, and `done` says {said} tokens", f"{number}", hint, where
        )


JSON = [("content-type", "application/json")]
