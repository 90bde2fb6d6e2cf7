"""A wall clock that a checkpoint can set while a request is under way, as NTP, an operator or a laptop's lid does."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from types import CodeType

from pydantic_core import core_schema


class WallClock:
    """Stands in for `time.time`, `time.clock_gettime` and `datetime.now`. Monotonic clocks never jump."""

    def __init__(self) -> None:
        self.readers: dict[tuple[CodeType, int], None] = {}
        """Code and line of each caller that has read the clock, in order of the first reading."""
        self._off = 0.0
        self._time, self._time_ns = time.time, time.time_ns
        self._clock: Callable[[int], float] | None = getattr(time, "clock_gettime", None)  # not on every system
        self._clock_ns: Callable[[int], int] | None = getattr(time, "clock_gettime_ns", None)

    def lines(self) -> list[tuple[str, int, str]]:
        """File, line and function of each of them."""
        return [(code.co_filename, line, code.co_name) for code, line in self.readers]

    def set_back(self, seconds: float) -> None:
        """From now on the clock shows so much less."""
        self._off -= seconds

    def _seconds(self) -> float:
        self._read_by(2)
        return self._time() + self._off

    def _nanoseconds(self) -> int:
        self._read_by(2)
        return self._time_ns() + int(self._off * 1e9)

    def _seconds_of(self, which: int) -> float:
        assert self._clock
        if which != time.CLOCK_REALTIME:
            return self._clock(which)
        self._read_by(2)
        return self._clock(which) + self._off

    def _nanoseconds_of(self, which: int) -> int:
        assert self._clock_ns
        if which != time.CLOCK_REALTIME:
            return self._clock_ns(which)
        self._read_by(2)
        return self._clock_ns(which) + int(self._off * 1e9)

    def _read_by(self, depth: int) -> None:
        frame = sys._getframe(depth)
        self.readers[frame.f_code, frame.f_lineno] = None

    def install(self, patch: Callable[[object, str, object], None]) -> None:
        """Take the clock's place by `patch(module, name, value)`: also for `from time import time` from now on."""
        clock = self

        class SettableDatetime(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> SettableDatetime:
                clock._read_by(2)
                return super().now(tz) + datetime.timedelta(seconds=clock._off)

            @classmethod
            def __get_pydantic_core_schema__(cls, *_: object) -> core_schema.DatetimeSchema:
                return core_schema.datetime_schema()  # a field of a model means the type, not this stand-in

            @classmethod
            def utcnow(cls) -> SettableDatetime:
                clock._read_by(2)
                return cls.now(datetime.UTC).replace(tzinfo=None)

            @classmethod
            def today(cls) -> SettableDatetime:
                clock._read_by(2)
                return cls.now()

        patch(time, "time", self._seconds)
        patch(time, "time_ns", self._nanoseconds)
        if self._clock:
            patch(time, "clock_gettime", self._seconds_of)
            patch(time, "clock_gettime_ns", self._nanoseconds_of)
        patch(datetime, "datetime", SettableDatetime)
