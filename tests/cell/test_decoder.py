"""The held decoder and its probe: what happens to slots and streams is counted, and tokens wait to be let out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from checks.harness.cell.decoder import HeldDecoder
from checks.harness.cell.decoder_probe import DecoderProbe
from lab.decoder import SimulatedDecoder


def held(slots: int = 1) -> tuple[HeldDecoder, DecoderProbe]:
    """A decoder with so many slots, and its probe."""
    probe = DecoderProbe(slots)
    return HeldDecoder(SimulatedDecoder(slots, 0.0, 0.0), probe), probe


async def turns(number: int = 4) -> None:
    """Let the loop go on."""
    for _ in range(number):
        await asyncio.sleep(0)


async def listed(decoder: HeldDecoder, *given: Any) -> list[str]:
    """All tokens of a stream."""
    return [token async for token in decoder.generate(*given)]


async def test_slots_are_counted() -> None:
    """Who asks, who holds, and who gives back."""
    decoder, probe = held()
    await decoder.acquire()
    waiting = asyncio.create_task(decoder.acquire())
    await turns()
    seen = (len(probe.wanted), len(probe.taken), probe.holders, decoder.free, decoder.waiting)
    decoder.release()
    await waiting
    between = probe.holders
    decoder.release()

    assert (2, 1, 1, 0, 1) == seen
    assert (1, 0, 1) == (between, probe.holders, probe.most)
    assert [] == probe.decodings


async def test_one_who_is_cancelled_holds_nothing() -> None:
    """While it waits."""
    decoder, probe = held()
    await decoder.acquire()
    waiting = asyncio.create_task(decoder.acquire())
    await turns()
    waiting.cancel()
    await turns()
    decoder.release()

    assert (0, 1) == (probe.holders, decoder.free)


async def test_a_release_too_many_is_told_and_raised() -> None:
    """It frees no slot."""
    decoder, probe = held()

    with pytest.raises(RuntimeError, match="no slot is held"):
        decoder.release()
    assert (1, 0) == (probe.refused_releases, probe.holders)


async def test_each_token_waits_until_it_is_let_out() -> None:
    """And the stream ends when the checkpoint says so, or with the last of its tokens."""
    decoder, probe = held()
    await decoder.acquire()
    for most, words in ((3, ["one", "two"]), (2, ["one", "two"])):
        reading = asyncio.create_task(listed(decoder, f"prompt {most}", most))
        for word in words:
            await turns()
            (decoding,) = probe.of(f"prompt {most}")
            assert decoding.asks
            probe.let(decoding, word)
            assert not decoding.asks
        await turns()
        if most > len(words):
            assert not reading.done()
            probe.end(decoding)

        assert words == await reading
        assert (len(words), True) == (len(decoding.let_out), decoding.closed)


async def test_a_decoder_can_be_made_to_fail() -> None:
    """With these words."""
    decoder, probe = held()
    await decoder.acquire()
    reading = asyncio.create_task(listed(decoder, "a", 3))
    await turns()
    probe.fail(probe.decodings[0], "out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        await reading
    assert probe.decodings[0].closed


async def test_a_stream_that_is_given_up_asks_no_more() -> None:
    """What is let out for it afterwards is lost."""
    decoder, probe = held()
    await decoder.acquire()
    reading = asyncio.create_task(listed(decoder, "a", 3))
    await turns()
    reading.cancel()
    await turns()
    decoding = probe.decodings[0]
    probe.let(decoding, "late")
    await turns()

    assert (True, False) == (decoding.closed, decoding.asks)
    assert reading.cancelled()


async def test_tokens_without_a_slot_are_an_error_that_is_told() -> None:
    """As with the given decoder."""
    decoder, probe = held()

    with pytest.raises(RuntimeError, match="acquire"):
        await listed(decoder, "a", 3)
    assert 1 == probe.unslotted


@pytest.mark.parametrize("given", [(b"a", 3), ("a", "3"), ("a",), (), (3, "a"), ("a", True)])
async def test_other_arguments_are_told(given: tuple[Any, ...]) -> None:
    """The learner may swallow the TypeError: the checkpoint says so all the same."""
    decoder, probe = held()
    await decoder.acquire()

    with pytest.raises(TypeError, match="generate was given"):
        await listed(decoder, *given)
    assert [repr(one) for one in (*given, None, None)[:2]] == probe.misuses[0][0]
    assert [] == probe.decodings


async def test_the_lines_that_called_are_told() -> None:
    """The innermost first: the learner's is among them."""
    decoder, probe = held()
    await decoder.acquire()
    reading = asyncio.create_task(listed(decoder, "a", 1))
    await turns()
    reading.cancel()

    assert (__file__, "test_the_lines_that_called_are_told") == probe.acquired_at[0][::2]
    assert (__file__, "listed") in [line[::2] for line in probe.decodings[0].caller]


async def test_whatever_happens_is_progress() -> None:
    """A wait that looks for it does not end too early."""
    decoder, probe = held()
    seen = [probe.progress()]
    await decoder.acquire()
    seen.append(probe.progress())
    reading = asyncio.create_task(listed(decoder, "a", 1))
    await turns()
    seen.append(probe.progress())
    probe.let(probe.decodings[0], "one")
    await reading
    seen.append(probe.progress())
    decoder.release()
    seen.append(probe.progress())

    assert sorted(set(seen)) == seen
