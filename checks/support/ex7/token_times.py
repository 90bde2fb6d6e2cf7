"""7.1 and 7.2: what the functions of `lab/tokens.py`, and `slots_needed`, return."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from types import ModuleType
from typing import Any

from checks.harness.assertions.answers import close, is_number
from checks.harness.errors import Failure
from checks.harness.judge.handles import each
from checks.harness.load import streams
from checks.harness.load.trace import MS
from checks.harness.source_lines import SourceLines
from checks.harness.syntax import calls, reads

CASES = 60
ZERO = (
    "0.0 is a time, too: tokens can come at one instant. But 0.0 is false in Python: `value or x` gives x, and "
    "`if value:` is not taken."
)
GRID = 64
"""Times are multiples of 1/64 s: floats hold them exactly, and a value at the limit is at the limit."""


def drawn(kinds: ModuleType, rng: random.Random, tokens: int, *, finished: bool) -> Any:
    """A stream of so many tokens. `kinds` is `lab.records`."""
    scheduled = rng.randint(0, 640) / GRID
    times = [scheduled]
    for _ in range(tokens):
        times.append(times[-1] + rng.choice((1, 2, 3, 8, 40)) / GRID)
    return kinds.Stream(scheduled, tuple(times[1:]), times[-1] if finished else None)


def shown(one: Any) -> str:
    """As it is written in a call."""
    tokens = ", ".join(f"{time:g}" for time in one.tokens[:5]) + (", ..." if len(one.tokens) > 5 else "")
    comma = "," if len(one.tokens) == 1 else ""
    return f"Stream({one.scheduled:g}, ({tokens}{comma}), {one.finished})"


def _streams(kinds: ModuleType, rng: random.Random) -> list[Any]:
    few = [drawn(kinds, rng, tokens, finished=finished) for tokens in (0, 1, 2, 3) for finished in (True, False)]
    many = [drawn(kinds, rng, rng.randint(2, 20), finished=rng.random() < 0.7) for _ in range(CASES)]
    return few + many + _at_one_instant(kinds)


def _at_one_instant(kinds: ModuleType) -> list[Any]:
    """Streams whose tokens came together, as in one read of a socket: after a while, and when they were due."""
    return [kinds.Stream(1.0, (at,) * count, at) for at in (1.5, 1.0) for count in (3, 2, 1)]


def first_tokens(ttft: Callable[..., Any], kinds: ModuleType, rng: random.Random) -> None:
    """`ttft` of streams with none, one and many tokens."""
    cases = _streams(kinds, rng)
    for one, got in zip(cases, each(ttft, [(one,) for one in cases]), strict=True):
        wanted = streams.ttft(one)
        if not one.tokens:
            hint = "`math.inf` where `stream.tokens` is empty: it never came."
        elif not wanted:
            hint = ZERO
        elif one.finished and same(got, one.finished - one.scheduled):
            hint = "That is the time to the end: the *first* token, `stream.tokens[0]`."
        else:
            hint = "The first token minus `stream.scheduled`, in seconds."
        assert same(got, wanted), Failure(f"ttft({shown(one)}) is {got!r}", f"{wanted!r} s", hint)


def between(gaps: Callable[..., Any], kinds: ModuleType, rng: random.Random) -> None:
    """`gaps`, in their order."""
    cases = _streams(kinds, rng)
    for one, got in zip(cases, each(gaps, [(one,) for one in cases]), strict=True):
        wanted = streams.gaps(one)
        right = isinstance(got, list | tuple) and len(got) == len(wanted) and all(map(same, got, wanted))
        hint = "Leave the prefill out: from the first token to the second, and so on. `[]` for fewer than two tokens."
        if wanted and not any(wanted):
            hint = ZERO
        assert right, Failure(f"gaps({shown(one)}) is {_short(got)}", _short(wanted), hint)


def per_token(tpot: Callable[..., Any], kinds: ModuleType, rng: random.Random) -> None:
    """`tpot`, with the two special values."""
    cases = _streams(kinds, rng)
    for one, got in zip(cases, each(tpot, [(one,) for one in cases]), strict=True):
        wanted = streams.tpot(one)
        right = got is None if wanted is None else same(got, wanted)
        assert right, Failure(
            f"tpot({shown(one)}) is {got!r}", "None" if wanted is None else f"{wanted!r} s", _why(one, got)
        )


def _why(one: Any, got: object) -> str:
    if one.finished is None:
        return "`math.inf` for a stream that did not finish, even if it has no token, or one."
    if len(one.tokens) < 2:
        return "`None` for fewer than two tokens: there is no time between them. It is not zero."
    total = one.tokens[-1] - one.tokens[0]
    if not total:
        return ZERO
    if same(got, total / len(one.tokens)):
        return "Between n tokens there are n - 1 gaps: divide by tokens - 1."
    if same(got, (one.tokens[-1] - one.scheduled) / (len(one.tokens) - 1)) or same(
        got, (one.tokens[-1] - one.scheduled) / len(one.tokens)
    ):
        return "TPOT leaves out the time to the first token: (last token - first token) / (tokens - 1)."
    if got == math.inf:
        return "`math.inf` is for streams that did not finish. This one did."
    return "(last token - first token) / (tokens - 1), in seconds."


TIMES = ((first_tokens, "ttft"), (between, "gaps"), (per_token, "tpot"))
"""What judges each function of a single stream, and its name."""


@contextmanager
def causes_first(
    tokens: ModuleType, kinds: ModuleType, rng: random.Random, where: Callable[[object], str | None]
) -> Iterator[None]:
    """If this block fails, and a function of a single stream is wrong, name that one: it is the cause."""
    try:
        yield
    except AssertionError as error:
        (failure,) = error.args
        for check, name in TIMES:
            function = getattr(tokens, name)
            try:
                check(function, kinds, rng)
            except AssertionError:
                hint = f"`{name}` of 7.1 is wrong for single streams. Correct it first."
                raise AssertionError(replace(failure, hint=hint, where=where(function))) from None
            except Exception:  # what it raises is the business of 7.1
                continue
        raise


def slots(slots_needed: Callable[..., Any], rng: random.Random) -> None:
    """`slots_needed`, also where the product is a whole number in decimals, and not in floats."""
    cases: list[tuple[float, int, float, float]] = [(rate, 16, 0.2, 0.02) for rate in (2, 4, 8)]
    cases += [(10.0, 8, 0.14, 0.08), (100.0, 1, 0.07, 0.5)]
    for _ in range(CASES):
        tokens, prefill = rng.choice((1, 2, rng.randint(3, 200))), rng.randint(0, 50) / 100
        cases.append((rng.randint(1, 400) / 10, tokens, prefill, rng.randint(1, 100) / 1000))
    for case, got in zip(cases, each(slots_needed, cases), strict=True):
        per_second, count, first, each_token = (Fraction(str(number)) for number in case)
        exact = per_second * (first + (count - 1) * each_token)
        wanted = math.ceil(exact)
        right = is_number(got) and got == wanted
        assert right, Failure(
            f"slots_needed{case} is {got!r}",
            f"{wanted}",
            _slots_hint(got, exact, per_second * each_token, _noisy(*case)),
        )


def _noisy(rate: float, tokens: int, prefill_seconds: float, token_seconds: float) -> int:
    """What floats alone make of it."""
    return math.ceil(rate * (prefill_seconds + (tokens - 1) * token_seconds))


def _slots_hint(got: object, exact: Fraction, one_token: Fraction, noisy: int) -> str:
    if is_number(got) and isinstance(got, float) and not got.is_integer():
        return "Whole slots: `math.ceil`."
    if is_number(got) and got == noisy and exact.denominator == 1:
        return "A product of floats can be a little too large, and `math.ceil` then adds one: `round(..., 9)` first."
    if is_number(got) and got == math.floor(exact):
        return "Round up with `math.ceil`. Rounded down, there are too few slots, and the queue grows for ever."
    if is_number(got) and got == math.ceil(exact + one_token):
        return "The first token comes with the prefill: (tokens - 1) x token_seconds."
    return "Little's law: rate x the seconds that a stream holds its slot, prefill + (tokens - 1) x token_seconds."


def same(got: object, wanted: float) -> bool:
    """Equal but for the last digits."""
    return is_number(got) and (got == wanted or close(float(got), wanted))  # type: ignore[arg-type]


def _short(numbers: object) -> str:
    text = repr(numbers)
    return text if len(text) <= 80 else text[:77] + "..."


# -- 7.2

TTFT_MS, TPOT_MS = 500.0, 62.5
"""Limits that floats hold exactly."""
AT = 10.0


Made = Callable[[ModuleType], Any]


def _paced(first: float, *between: float, finished: bool = True) -> Made:
    """A stream whose first token comes after `first` seconds, the others after these gaps."""
    times = [AT + first]
    for gap in between:
        times.append(times[-1] + gap)
    return lambda kinds: kinds.Stream(AT, tuple(times), times[-1] if finished else None)


def _without_tokens(finished: float | None) -> Made:
    return lambda kinds: kinds.Stream(AT, (), finished)


LATE = "Both limits: the first token has to be in time, too. They are in ms, the times of a stream in seconds."
AT_ONCE = "0.0 is within each limit: compare with `is None`, since `if tpot(stream):` is false for 0.0, too."
CASES_OF_USE = (
    ("in time, and steady", _paced(0.25, 0.03125, 0.03125), True, ""),
    ("one token, in time", _paced(0.25), True, "An answer of one token has no TPOT, so it keeps that limit."),
    ("one token, late", _paced(0.75), False, LATE),
    ("late, and then fast", _paced(0.75, 0.03125, 0.03125), False, LATE),
    ("in time, and then slow", _paced(0.25, 0.125, 0.125), False, "Check both limits, not only one."),
    ("all tokens at one instant", _paced(0.25, 0.0, 0.0), True, AT_ONCE),
    ("the first token when it was due", _paced(0.0, 0.03125), True, AT_ONCE),
    (
        "a stall inside, then fast tokens",
        _paced(0.25, 0.125, 0.015625, 0.015625),
        True,
        "TPOT is a mean over the stream, not its worst gap.",
    ),
    ("equal to both limits", _paced(0.5, 0.0625, 0.0625), True, "A value equal to a limit keeps it: `<=`."),
    (
        "broken off, its tokens in time",
        _paced(0.25, 0.03125, finished=False),
        False,
        "A stream that did not finish is of no use: `stream.finished is None`.",
    ),
    (
        "one token, broken off",
        _paced(0.25, finished=False),
        False,
        "A stream that did not finish is of no use: `stream.finished is None`.",
    ),
    ("refused", _without_tokens(None), False, "No token came: its TTFT is `math.inf`."),
    ("finished without a token", _without_tokens(10.25), False, "No token came: its TTFT is `math.inf`."),
)
"""What a stream is, how it is made, whether it is of use, and what mends the mistake."""


def counts_what_is_of_use(
    goodput: Callable[..., Any], kinds: ModuleType, rng: random.Random, lines: SourceLines
) -> None:
    """`goodput` on tables, each of which is wrong by one kind of stream if that is counted wrongly."""
    first, then = (lines.where_reached(goodput, reads(limit)) for limit in ("ttft_ms", "tpot_ms"))
    slo = kinds.TokenSlo(TTFT_MS, TPOT_MS)
    for name, made, counts, hint in CASES_OF_USE:
        others, times, seconds = rng.randint(1, 4), rng.randint(2, 5), rng.choice((2.0, 4.0, 8.0))
        table = [made(kinds) for _ in range(times)] + [_paced(0.25, 0.03125)(kinds) for _ in range(others)]
        rng.shuffle(table)
        wanted = (others + times * counts) / seconds
        flipped = (others + times * (not counts)) / seconds
        what = f"{times} of {len(table)} streams: {name}"
        wait = streams.ttft(made(kinds))
        where = first if not 0 < wait * MS <= TTFT_MS else then or first
        _goodput_is(goodput, table, slo, seconds, (wanted, flipped), what, hint, where)
    _goodput_is(goodput, [], slo, 4.0, (0.0, 0.0), "no streams at all", "`sum(...) / seconds` is 0.0 for no streams.")


def _goodput_is(
    goodput: Callable[..., Any],
    table: list[Any],
    slo: Any,
    seconds: float,
    values: tuple[float, float],
    what: str,
    hint: str,
    where: str | None = None,
) -> None:
    """`values`: what it is, and what it would be if that kind of stream were counted the other way.

    `where` the limits are read, each stream is judged.
    """
    wanted, flipped = values
    (got,) = each(goodput, [(table, slo, seconds)])
    if same(got, wanted):
        return
    if hint and same(got, flipped):
        pass
    elif table and same(got, wanted * seconds / len(table)):
        where = None
        hint = "That is a share. Goodput is a rate: streams of use / `seconds`."
    elif same(got, sum(len(one.tokens) for one in table) / seconds):
        where = None
        hint = "That is tokens per second. Goodput counts the streams within both limits, per second."
    elif same(got, wanted * seconds):
        where = None
        hint = "Per second: divide by `seconds`, the length of the load."
    elif is_number(got) and got == 0 and wanted:
        hint = "The limits are in ms, the streams in seconds." if what.endswith("steady") else hint
    raise AssertionError(
        Failure(
            f"goodput of {len(table)} streams in {seconds:g} s is {got!r} ({what})",
            f"{wanted!r} streams/s, with limits of {TTFT_MS:g} ms and {TPOT_MS:g} ms",
            hint or "A stream of use has finished, and keeps both limits.",
            where,
        )
    )


NO_SAMPLES = "Without samples give `None`: zero would look like a perfect latency."
SECONDS = "Return seconds. Only the limits in `slo` are in ms."
NEAREST = "Nearest rank, as in exercise 2: `lab.timing.percentile`."
OF_THE_PERCENTILE = (NO_SAMPLES, SECONDS, NEAREST, ZERO)
"""Hints that are not about which samples are taken."""


def tails(tail: Callable[..., Any], kinds: ModuleType, rng: random.Random, lines: SourceLines) -> None:
    """`tail` on random tables with all kinds of streams, and on none."""
    where = lines.where_reached(tail, calls("percentile", "sorted"))
    tables: list[list[Any]] = [[], [kinds.Stream(1.0, (), None)], [drawn(kinds, rng, 1, finished=True)]]
    tables += [
        [drawn(kinds, rng, rng.choice((0, 1, 2, 3, 9)), finished=rng.random() < 0.8) for _ in range(rng.randint(2, 40))]
        for _ in range(12)
    ]
    tables += [_at_one_instant(kinds), _at_one_instant(kinds)[:1]]
    for table in tables:
        for q in (50, rng.choice((90, 95, 99))):
            (got,) = each(tail, [(table, q)])
            _tail_is(got, kinds, table, q, where)


def _tail_is(got: Any, kinds: ModuleType, table: list[Any], q: int, where: str | None) -> None:
    """`where` a percentile is taken of what was chosen."""
    per_stream = [value for value in map(streams.tpot, table) if value is not None]
    pooled = [gap for one in table for gap in streams.gaps(one)]
    samples = {"ttft": [*map(streams.ttft, table)], "tpot": per_stream, "itl": pooled}
    what = f"tail of {len(table)} streams, q = {q}"
    if type(got) is not kinds.Tail:
        raise AssertionError(Failure(f"{what}, is {_short(got)}", "a `Tail`", "`from lab.records import Tail`."))
    for name, values in samples.items():
        value, wanted = getattr(got, name), _nearest_rank(values, q)
        right = value is None if wanted is None else same(value, wanted)
        if right:
            continue
        hint = _tail_hint(name, value, table, q)
        dropped = hint == ZERO and value == _nearest_rank([sample for sample in values if sample], q)
        raise AssertionError(
            Failure(
                f"{what}: {name} is {value!r}",
                "None: there are no samples" if wanted is None else f"{wanted!r} s",
                hint,
                where if hint in OF_THE_PERCENTILE and not dropped else None,
            )
        )


def _tail_hint(name: str, value: Any, table: list[Any], q: int) -> str:
    def is_of(values: Sequence[float]) -> bool:
        rank = _nearest_rank(values, q)
        return value is None if rank is None else same(value, rank)

    samples = _samples(name, table)
    finite = [sample for sample in samples if sample != math.inf]
    survivors = [one for one in table if one.finished is not None]
    means = [sum(streams.gaps(one)) / len(streams.gaps(one)) for one in table if streams.gaps(one)]
    if not samples:
        return NO_SAMPLES
    if is_number(value) and same(value / 1000, _nearest_rank(samples, q) or 0.0):
        return SECONDS
    if 0.0 in samples and (is_of([sample for sample in samples if sample]) or value is None):
        return ZERO
    if name == "itl" and is_of(means):
        return "ITL is not a percentile of means: take all gaps of all streams in one pool."
    if name == "itl" and is_of([gap for one in survivors for gap in streams.gaps(one)]):
        return "Take the gaps of all streams, also of those that were broken off: their readers saw them."
    if name != "itl" and is_of(finite):
        return "A stream that failed counts as `math.inf`: without it a service that refuses all streams looks fast."
    if name == "ttft" and is_of([*map(streams.ttft, survivors)]):
        return "Take the TTFT of every stream, whether it has finished or not."
    return NEAREST


def _samples(name: str, table: list[Any]) -> list[float]:
    if name == "ttft":
        return [*map(streams.ttft, table)]
    if name == "tpot":
        return [value for value in map(streams.tpot, table) if value is not None]
    return [gap for one in table for gap in streams.gaps(one)]


def _nearest_rank(samples: Sequence[float], q: int) -> float | None:
    return sorted(samples)[max(1, -(-len(samples) * q // 100)) - 1] if samples else None
