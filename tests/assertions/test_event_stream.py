"""What an event of a stream has to hold is taken as it was sent, and anything else is a failure of the learner's."""

from __future__ import annotations

import pytest

from checks.harness.assertions.event_stream import ending, token
from checks.harness.load.event_stream import Event


@pytest.mark.parametrize("text", ["", "one\ntwo", "🙂", "[DONE]"])
def test_a_token_is_what_was_sent(text: str) -> None:
    """Escaped or not."""
    raw = text.replace("\n", "\\n")

    assert text == token(Event("", f'{{"token": "{raw}"}}'))


@pytest.mark.parametrize(
    "data", ["[DONE]", '"text"', "{}", '{"token": 7}', '{"token": "a", "index": 1}', '{"text": "a"}', '{"token": "a']
)
def test_what_is_no_token_is_a_failure(data: str) -> None:
    """Of a learner's, with what was sent."""
    with pytest.raises(AssertionError, match="an event without a name holds"):
        token(Event("", data))


def test_an_end_says_how() -> None:
    """A number of tokens, or words."""
    assert 12 == ending(Event("done", '{"tokens": 12}'))
    assert "no" == ending(Event("error", '{"detail": "no"}'))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("done", '{"tokens": true}'),
        ("done", '{"tokens": "12"}'),
        ("done", '{"tokens": 12, "more": 1}'),
        ("error", '{"detail": null}'),
        ("error", "{}"),
        ("end", '{"tokens": 12}'),
        ("done", "12"),
    ],
)
def test_what_is_no_end_is_a_failure(name: str, data: str) -> None:
    """Another name, another key, another type."""
    with pytest.raises(AssertionError, match=f"the stream has an event {name}"):
        ending(Event(name, data))
