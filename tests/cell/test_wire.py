"""The wire between the judge and a cell: what goes over it comes out the same, and hostile frames are refused."""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

from checks.harness.cell.wire import DEEP, LIMIT, Broken, Wire, decode, encode, handle, record

CALLS = b'{"ok":1}'


class Ends:
    """Both ends of a wire in one process: what is written raw, and what the other end makes of it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.wire = Wire(self.reader, self.writer)

    def raw(self, *chunks: bytes) -> None:
        """Write bytes as they are, on a thread of its own, and close this end."""

        def write() -> None:
            for chunk in chunks:
                try:
                    os.write(self.writer, chunk)
                except OSError:  # refused half way
                    return
            os.close(self.writer)

        threading.Thread(target=write, daemon=True).start()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A wire whose other end is written by hand."""
    made = Ends()
    yield made
    os.close(made.reader)


def frame(data: bytes) -> bytes:
    """These bytes behind their length."""
    return struct.pack(">I", len(data)) + data


def nothing(value: object) -> object:
    """Stands for a side without records and handles."""
    raise Broken(f"{value!r}")


def never(tag: str, content: object) -> object:
    """Stands for a side that has given no records and handles away."""
    raise Broken(tag)


def there_and_back(value: object) -> Any:
    """The value as it comes out at the other side."""
    return decode(json.loads(json.dumps(encode(value, nothing), allow_nan=False)), never)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        1e300,
        5e-324,
        "",
        "Füße \ud800 \x00",
        2**63,
        -(2**200),
        (),
        (1, (2.0, [3])),
        [],
        [1.5, 2, "three", None, False],
        [2**63 - 1, 2**63],
        [1e300, math.inf],
        {"a": {"b": [1, {"c": None}]}},
        {"$": "h", "v": {"number": 1}},
        {1: "one", (2, 3): [4.0], None: {5}},
        {1, "two", (3,)},
        b"\x00\xff",
        {"v": [], "deep": {"$": "f"}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_comes_out_as_it_went_in(value: object) -> None:
    """Of the same type, down to the last element, and equal."""
    got = there_and_back(value)

    assert value == got
    assert type(value) is type(got)
    assert json.dumps(encode(value, nothing)) == json.dumps(encode(got, nothing)) or isinstance(value, set)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_keep_their_sign(value: float) -> None:
    """NaN and both infinities, alone and in a list."""
    assert repr([value, 1.0]) == repr(there_and_back([value, 1.0]))
    assert repr(value) == repr(there_and_back(value))


def test_a_subclass_is_no_data() -> None:
    """Its `==` could say anything, so the side that has it decides what stands for it."""

    class Yes(float):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = float.__hash__

    class Colour(IntEnum):
        RED = 1

    class Words(list[str]):
        pass

    asked: list[object] = []

    def other(value: object) -> object:
        asked.append(value)
        return handle({"number": len(asked)})

    values = [Yes(1.0), Colour.RED, Words(["a"]), object()]
    got = encode(values, other)

    assert [{"$": "h", "v": {"number": number}} for number in (1, 2, 3, 4)] == got
    assert all(one is value for one, value in zip(asked, values, strict=True))


def test_records_and_handles_are_what_their_side_says() -> None:
    """The wire passes their content on, and looks at none of it."""
    sent = encode([object()], lambda _: record("Step", {"users": 3}))
    got = decode(sent, lambda tag, content: (tag, content))

    assert [("r", ["Step", {"users": 3}])] == got


def test_what_a_record_holds_is_encoded_with_it() -> None:
    """Its fields may be anything that a value may be, and count as deep as any other."""
    sent = encode(object(), lambda _: record("Step", {"mean_ms": math.inf, "pair": (1, b"2")}))

    assert ("r", ["Step", {"mean_ms": math.inf, "pair": (1, b"2")}]) == decode(
        sent, lambda tag, content: (tag, content)
    )
    with pytest.raises(Broken):
        decode(json.loads('{"$":"r","v":' * 300 + "0" + "}" * 300), lambda tag, content: content)


def test_messages_keep_their_order_and_their_borders(ends: Ends) -> None:
    """Frame by frame, however they are cut on the way; None at the end."""
    whole = frame(b'{"a":1}') + frame(b'{"b":[2]}')
    ends.raw(*(whole[n : n + 1] for n in range(len(whole))))

    assert [{"a": 1}, {"b": [2]}, None] == [ends.wire.receive() for _ in range(3)]


def test_several_threads_may_send(ends: Ends) -> None:
    """No frame is cut by another one."""
    threads = [
        threading.Thread(target=ends.wire.send, args=({"n": n, "data": "x" * 100_000},), daemon=True) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    got = [ends.wire.receive() for _ in threads]
    os.close(ends.writer)

    assert {0, 1, 2, 3} == {one["n"] for one in got if one}


def test_two_that_send_at_once_both_end_where_one_reads_meanwhile() -> None:
    """Each message is larger than a pipe."""
    (there_reader, here_writer), (here_reader, there_writer) = os.pipe(), os.pipe()
    here, there = Wire(here_reader, here_writer), Wire(there_reader, there_writer)
    came: list[dict[str, Any] | None] = []
    message = {"data": "x" * 1_000_000}

    def send_and_receive() -> None:
        there.send(message)
        came.append(there.receive())

    def receive() -> None:
        came.append(here.receive())

    one = threading.Thread(target=send_and_receive, daemon=True)
    one.start()
    here.send(message, meanwhile=receive)
    one.join(10)

    assert [message, message] == came
    assert here.received == there.received == 1_000_000 + len('{"data":""}') + 4
    here.close()
    there.close()


@pytest.mark.parametrize(
    "hostile",
    {
        "2 GB announced": struct.pack(">I", 2**31) + CALLS,
        "one byte too many": struct.pack(">I", LIMIT + 1),
        "4 million lists in one another": frame(b"[" * 4_000_000 + b"]" * 4_000_000),
        "4 million objects in one another": frame(b'{"a":' * 1_000_000),
        "no JSON": frame(b"{'ok': 1}"),
        "nothing": frame(b""),
        "no text": frame(b"\xff\xfe\xfd"),
        "a list": frame(b"[1]"),
        "a number": frame(b"1"),
        "NaN": frame(b'{"ok":NaN}'),
        "infinity": frame(b'{"ok":-Infinity}'),
        "a number of a million digits": frame(b'{"ok":' + b"9" * 1_000_000 + b"}"),
        "two objects": frame(CALLS + CALLS),
    }.items(),
    ids=lambda one: one[0],
)
def test_a_hostile_frame_is_refused(hostile: tuple[str, bytes], ends: Ends) -> None:
    """Without waiting for the rest, and without memory for what was only announced."""
    ends.raw(hostile[1])

    with pytest.raises(Broken):
        ends.wire.receive()


@pytest.mark.parametrize("cut", [1, 3, 4, 7])
def test_a_frame_that_is_cut_off_is_the_end(cut: int, ends: Ends) -> None:
    """No half message is ever a message."""
    ends.raw(frame(CALLS)[:cut])

    assert ends.wire.receive() is None


def test_only_what_came_takes_memory(ends: Ends) -> None:
    """The largest length that is allowed, and nothing behind it."""
    ends.raw(struct.pack(">I", LIMIT) + b"{")
    tracemalloc.start()
    ended = ends.wire.receive() is None
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert ended
    assert most < LIMIT / 8


def test_a_flood_is_read_one_frame_at_a_time(ends: Ends) -> None:
    """What nobody takes stays in the pipe, and holds up whoever sends it."""
    sent = 0

    def flood() -> None:
        nonlocal sent
        for _ in range(300):
            try:
                os.write(ends.writer, frame(b'{"a":"' + b"x" * 1_000_000 + b'"}'))
            except OSError:  # the test is over
                return
            sent += 1

    threading.Thread(target=flood, daemon=True).start()
    tracemalloc.start()
    got = [ends.wire.receive() for _ in range(5)]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert all(one and len(one["a"]) == 1_000_000 for one in got)
    assert sent <= 7
    assert most < 30_000_000


@pytest.mark.parametrize(
    "data",
    [
        {"$": "f", "v": "1e9"},
        {"$": "f", "v": 1.0},
        {"$": "i", "v": "12"},
        {"$": "i", "v": "0x" + "_" * 9},
        {"$": "b", "v": "%%%"},
        {"$": "b", "v": 3},
        {"$": "t", "v": "abc"},
        {"$": "t"},
        {"$": "t", "v": [], "more": 1},
        {"$": "s", "v": [[1]]},
        {"$": "d", "v": [[1, 2, 3]]},
        {"$": "d", "v": [[{"a": 1}, 2]]},
        {"$": "d", "v": 7},
        {"$": "zzz", "v": 1},
        {"$": ["t"], "v": [1]},
        {"$": None, "v": None},
        {"$": "h", "v": {"number": 5}},
        {"$": "r", "v": None},
    ],
    ids=str,
)
def test_a_malformed_tag_is_refused(data: object) -> None:
    """Alone, and deep in something that is in order."""
    for one in (data, {"ok": [1, data]}):
        with pytest.raises(Broken):
            decode(one, never)


def test_a_number_beyond_all_floats_is_refused() -> None:
    """JSON reads 1e999 as infinity, which has a tag of its own."""
    with pytest.raises(Broken):
        decode(json.loads('{"ok": [1.0, 1e999]}'), never)


def test_depth_is_limited_on_both_sides() -> None:
    """As far as it is allowed it works; a list that holds itself does not go."""

    def nested(deep: int) -> list[object]:
        value: list[object] = []
        for _ in range(deep - 1):
            value = [value]
        return value

    circle: list[object] = []
    circle.append(circle)

    assert nested(DEEP) == there_and_back(nested(DEEP))
    for value in (nested(DEEP + 1), circle):
        with pytest.raises(Broken):
            encode(value, nothing)
    with pytest.raises(Broken):
        decode(nested(DEEP + 1), never)


def test_what_is_too_large_is_not_sent(ends: Ends) -> None:
    """Not half of it, either: the next message is whole."""
    with pytest.raises(Broken):
        ends.wire.send({"a": "x" * LIMIT})
    ends.wire.send({"b": 1})

    assert {"b": 1} == ends.wire.receive()
    os.close(ends.writer)


def test_a_decoded_list_is_one_of_its_own() -> None:
    """What is done to it does not change the message, with which it is compared after a call."""
    data = [3.0, 1.0]
    decode(data, never).sort()

    assert [3.0, 1.0] == data
