"""Server-sent events are read by the rules of the HTML standard, whatever a right answer may write."""

from __future__ import annotations

import pytest

from checks.harness.load.event_stream import Event, events, placed


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_line_ends_in_three_ways(end: bytes) -> None:
    """All of them are allowed."""
    body = end.join([b'data: {"token": "a"}', b"", b"event: done", b'data: {"tokens": 1}', b"", b""])

    assert [Event("", '{"token": "a"}'), Event("done", '{"tokens": 1}')] == events(body)


def test_comments_ids_and_what_has_no_meaning_are_left_out() -> None:
    """A server may send them at any time, to keep a connection alive for instance."""
    body = b": ping\n\nid: 7\nretry: 1000\n: no\ndata: one\nanything: else\nalone\n\n"

    assert [Event("", "one")] == events(body)


def test_a_byte_order_mark_is_no_part_of_a_line() -> None:
    """One, at the very beginning."""
    assert [Event("", "one")] == events(b"\xef\xbb\xbfdata: one\n\n")
    assert [Event("", "\ufefftwo")] == events(b"data: \xef\xbb\xbftwo\n\n")


def test_data_in_several_lines_are_one_text() -> None:
    """With line breaks between them; one space behind the colon is left out, and no more than one."""
    assert [Event("", "one\n two\n\nfour")] == events(b"data:one\ndata:  two\ndata\ndata: four\n\n")


def test_an_event_without_data_is_none() -> None:
    """Its name does not pass to the next."""
    assert [Event("", "one")] == events(b"event: done\n\ndata: one\n\n")


def test_an_event_that_has_not_ended_is_none_yet() -> None:
    """The empty line ends it."""
    assert [] == events(b"")
    assert [] == events(b"data: one")
    assert [] == events(b"data: one\n")
    assert [Event("", "one")] == events(b"data: one\n\ndata: two\n")


def test_the_name_message_is_no_name() -> None:
    """It is what an event without a name is called."""
    assert [Event("", "one")] == events(b"event: message\ndata: one\n\n")


def test_no_line_breaks_but_those_three_end_a_line() -> None:
    """Python's `splitlines` has more of them."""
    text = "one\u2028two\x0bthree\x85"

    assert [Event("", text)] == events(f"data: {text}\n\n".encode())


def test_an_event_has_its_place() -> None:
    """Where it ends in the body is known in bytes, the byte order mark among them."""
    first, second = b"\xef\xbb\xbfdata: one\r\n\r\n", b": no\revent: done\rdata: 2\r\r"

    assert [(Event("", "one"), len(first)), (Event("done", "2"), len(first + second))] == [*placed(first + second)]
