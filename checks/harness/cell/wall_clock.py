"""The wall clock, which an operator, NTP or a laptop's lid may set while a request is under way."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable

from pydantic_core import core_schema


class WallClock:
    """Stands in for `time.time` and `datetime.now`. `time.monotonic` and `time.perf_counter` never jump."""

    def __init__(self) -> None:
        self._off = 0.0
        self._time, self._time_ns = time.time, time.time_ns

    def set_back(self, seconds: float) -> None:
        """From now on the clock shows so much less."""
        self._off -= seconds

    def install(self, patch: Callable[[object, str, object], None]) -> None:
        """Take the clock's place by `patch(module, name, value)`: also for `from time import time` from now on."""
        clock = self

        class SettableDatetime(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> SettableDatetime:
                return super().now(tz) + datetime.timedelta(seconds=clock._off)

            @classmethod
            def __get_pydantic_core_schema__(cls, *_: object) -> core_schema.DatetimeSchema:
                return core_schema.datetime_schema()  # a field of a model means the type, not this stand-in

            @classmethod
            def utcnow(cls) -> SettableDatetime:
                return cls.now(datetime.UTC).replace(tzinfo=None)

            @classmethod
            def today(cls) -> SettableDatetime:
                return cls.now()

        patch(time, "time", lambda: self._time() + self._off)
        patch(time, "time_ns", lambda: self._time_ns() + int(self._off * 1e9))
        patch(datetime, "datetime", SettableDatetime)
