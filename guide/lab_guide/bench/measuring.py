"""One measurement from the guide's side: its process is started, followed line by line, and ended."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from lab_guide.bench.kept import Bench, Record
from lab_guide.place import Place
from lab_guide.running import begin, end

LINE_BYTES = 2**24
"""The longest line: ten thousand rows."""
KEPT_LINES = 20

Told = dict[str, Any]


class Measurement:
    """A run of the bench that is under way: `live` is what a page needs that has just been opened."""

    def __init__(self, place: Place, bench: Bench, record: Record, tell: Callable[[Told], None]) -> None:
        self._place, self._bench, self._record, self._tell = place, bench, record, tell
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False
        self._other: list[str] = []
        self.live: Told = record.brief | {"phase": "starting", "answered": 0, "refused": 0, "failed": 0, "rows": []}

    async def finish(self) -> Record:
        """Measure; the record has whatever came of it, and is kept."""
        self._tell({key: value for key, value in self.live.items() if key != "rows"})
        last: Told | None = None
        try:
            last = await self._follow()
        except Exception as error:
            self._other.append(f"{type(error).__name__}: {error}")
        finally:
            if self._process:
                await end(self._process)
        self._settle(last)
        self._bench.keep(self._record)
        return self._record

    async def stop(self) -> None:
        """End it: what was answered until now stays in its record."""
        self._stopped = True
        if self._process:
            await end(self._process)

    async def _follow(self) -> Told | None:
        """Tell what its process tells; give its last line."""
        arguments = ["-m", "lab_guide.bench.measure"]
        self._process = await begin(sys.executable, *arguments, cwd=self._place.root, speaks=True, limit=LINE_BYTES)
        if self._stopped:  # while it was being started
            await end(self._process)
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        asked = {"root": str(self._place.root), "files": str(self._place.files), "plan": self._record.plan.model_dump()}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.close()
        while line := await self._process.stdout.readline():
            try:
                told = json.loads(line)
            except ValueError:
                self._other = [*self._other, line.decode(errors="replace").rstrip()][-KEPT_LINES:]
                continue
            if "state" in told:
                return dict(told)
            self.live |= {key: value for key, value in told.items() if key != "rows"}
            self.live["rows"] += told.get("rows", [])
            self._tell(told)
        return None

    def _settle(self, last: Told | None) -> None:
        if last is not None:
            for name, value in last.items():
                setattr(self._record, name, value)
        elif self._stopped:
            self._record.state, self._record.said = "stopped", "It was stopped before its end."
            self._record.rows = self.live["rows"]
        else:
            said = "\n".join(self._other) or "it printed nothing"
            self._record.state, self._record.said = "lab_error", f"The measurement itself failed: {said}"
