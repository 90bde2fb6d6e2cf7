"""The guide's state, what changes it, and the streams that are told: one learner, one run, any number of tabs."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from lab_guide import history, watching
from lab_guide.bench.kept import Bench
from lab_guide.bench.measuring import Measurement
from lab_guide.bench.plan import Plan
from lab_guide.bench.quantities import ASKED, QUANTITIES, Predicted, digits
from lab_guide.catalogue import catalogue, touched
from lab_guide.fields import Field, fields
from lab_guide.journal import Journal
from lab_guide.lessons import lesson
from lab_guide.place import Place
from lab_guide.running import PytestRun, Ready

BEHIND = 200
"""Events that a tab may be behind. One that is further behind is let go, and gets the whole state when it is back."""

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run judges: an exercise, or only some of its checkpoints."""

    exercise: int
    only: tuple[str, ...] = ()


class Busy(Exception):
    """Why nothing can be started at this moment, in a sentence."""


class Guide:
    """What all tabs show."""

    def __init__(self, place: Place, version: str = "") -> None:
        self.place = place
        self.exercises = catalogue()
        self.version = version
        self.note = place.note
        self.last = history.load(place.results)
        self.newest = history.newest(place.folder, self.last)
        if self.last:  # a run of the command line: the next one overwrites it
            history.keep(place.folder, self.last, self.newest)
        self.chosen = self._first_open()
        self.running: Selection | None = None
        self.ended: dict[str, Any] | None = None
        self.bench = Bench(place.folder)
        self.journal = Journal(place.folder)
        self.fields = {f.id: f for e in self.exercises for f in fields(e.number, lesson(place.root, e.number))}
        self._measurement: Measurement | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()  # set while nothing is measured
        self._idle.set()
        self._ready = Ready(place.root)
        self._run: PytestRun | None = None
        self._wanted: list[Selection] = []
        self._wake = asyncio.Event()
        self._streams: set[asyncio.Queue[Event | None]] = set()
        self._closed = False

    # -- what the page asks ---------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything a page needs that has just been opened."""
        return {
            "exercises": [asdict(e) | {"bonus": e.bonus} for e in self.exercises],
            "results": self.newest.results,
            "before": self.newest.before,
            "hash": self.last["hash"] if self.last else "",
            "chosen": self.chosen,
            "running": self.running and asdict(self.running),
            "ended": self.ended,
            "bench": self._measurement and self._measurement.live,
            "bench_form": {"quantities": QUANTITIES, "asked": ASKED},
            "runs": history.names(self.place.folder),
            "files": str(self.place.files),
            "command": f"uv run pytest {shlex.join(self.place.command(0))}",
            "note": self.note,
            "last": self.last and {name: self.last.get(name) for name in ("started", "seconds", "finished")},
            "version": self.version,
        }

    async def events(self) -> AsyncIterator[Event]:
        """The state, then every event, until the guide closes."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BEHIND)
        self._streams.add(queue)
        try:
            yield "state", self.state()
            while not self._closed and (event := await queue.get()):
                yield event
        finally:
            self._streams.discard(queue)

    def choose(self, checkpoint: str) -> None:
        """Look at another checkpoint: a save runs it first."""
        self.chosen = checkpoint
        self.tell("chosen", {"checkpoint": checkpoint})

    def next_open(self) -> str:
        """The next checkpoint that has not passed: behind the chosen one at first, then from the start."""
        ids = [name for e in self.exercises for name in e.ids]
        at = ids.index(self.chosen)
        passed = {name for name, result in self.newest.results.items() if result["verdict"] == "passed"}
        return next((name for name in [*ids[at + 1 :], *ids[:at]] if name not in passed), self.chosen)

    async def run(self, *selections: Selection) -> None:
        """Run these one after the other, instead of what runs now; while the bench measures, after it."""
        self._wanted = list(selections)
        self._wake.set()
        if self._run:
            await self._run.stop()

    async def stop(self) -> None:
        """End what runs."""
        await self.run()

    def measure(self, plan: Plan, predicted: Predicted, cell: str = "") -> str:
        """Keep a prediction, then begin to measure; the name of the run.

        Raises:
            Busy: something runs that would spoil the numbers.
        """
        self.require_no_measurement()
        if self.running or self._wanted:
            raise Busy("Checkpoints are being judged: a measurement beside them would be wrong. Wait, or stop them.")
        for field in self._filled_by(cell, plan):
            self._note_prediction(field, getattr(predicted, field.quantity))
        record = self.bench.write_down(plan, predicted, cell)
        self._idle.clear()
        self._measurement = Measurement(self.place, self.bench, record, lambda told: self.tell("bench", told))
        self._measuring = asyncio.create_task(self._measure(self._measurement))
        return record.name

    def _filled_by(self, cell: str, plan: Plan) -> list[Field]:
        """The fields of a lesson that a measurement fills in: the one that it is for, and others of the same plan."""
        wanted = self.fields.get(cell)
        return [f for f in self.fields.values() if wanted and f.exercise == wanted.exercise and f.plan == plan]

    def _note_prediction(self, field: Field, value: float | None) -> None:
        known = self.journal.entries.get(field.id)
        if value is not None and not (known and known.measured):
            self.journal.predict(field, f"{value:g}")
            self.tell_journal(field.exercise)

    def tell_journal(self, exercise: int) -> None:
        """Send what the journal has about an exercise to all tabs."""
        self.tell("journal", {"exercise": exercise, **self.journal.of(exercise)})

    async def stop_measuring(self) -> None:
        """End what is measured, and wait for that."""
        if self._measurement and self._measuring:
            await self._measurement.stop()
            await asyncio.shield(self._measuring)

    def require_no_measurement(self) -> None:
        """Raise `Busy` while the bench measures."""
        if self._measurement:
            raise Busy("A measurement is running: other work would change its numbers. Wait for its end, or stop it.")

    def close(self) -> None:
        """End all streams: an open one would keep the server from ending."""
        self._closed = True
        for queue in self._streams:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Send an event to all tabs."""
        for queue in [*self._streams]:
            try:
                queue.put_nowait((name, data))
            except asyncio.QueueFull:
                self._streams.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    # -- what goes on by itself --------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Watch and run until cancelled; then nothing runs any more. What makes that impossible is told to all tabs."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_saves())
                tasks.create_task(self._watch_results())
                tasks.create_task(self._runs())
        except* Exception as group:
            said = "; ".join(f"{type(error).__name__}: {error}" for error in group.exceptions)
            self.note = f"Nothing is watched or run any more ({said}). Start `uv run lab` again."
            self.tell("note", {"note": self.note})
        finally:
            if self._run:
                await self._run.stop()
            await self.stop_measuring()
            await self._ready.end()

    async def _measure(self, measurement: Measurement) -> None:
        try:
            record = await measurement.finish()
        finally:
            self._measurement = None
            self._idle.set()
        if record.state == "measured" and record.measured:
            for field in self._filled_by(record.cell, record.plan):
                value = record.measured.get(field.quantity)
                if value is not None and field.id in self.journal.entries:
                    self.journal.measure(field, digits(value), record.name)
                    self.tell_journal(field.exercise)
        self.tell("measured", record.brief)

    async def _watch_saves(self) -> None:
        async for files in watching.saves(self.place.files):
            self.tell("saved", {"files": sorted(files)})
            await self.run(*self.selections(files))

    def selections(self, files: set[str]) -> list[Selection]:
        """What a save of these files runs: the chosen checkpoint, then its exercise if that takes seconds only."""
        number = touched(self.exercises, files, int(self.chosen.partition(".")[0]))
        exercise = next(e for e in self.exercises if e.number == number)
        first = self.chosen if self.chosen in exercise.ids else self._first_open(number)
        return [Selection(number, (first,)), *([Selection(number)] if exercise.quick else [])]

    async def _watch_results(self) -> None:
        async for _ in watching.written(self.place.results):
            self._take()

    async def _runs(self) -> None:
        while True:
            await self._ready.prepare()
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                await self._idle.wait()
                if self._wanted:  # not stopped meanwhile
                    await self._judge(self._wanted.pop(0))

    async def _judge(self, selection: Selection) -> None:
        self.running, self.ended = selection, None
        self._run = PytestRun(self._ready, self.place.command(selection.exercise, selection.only))
        self.tell("running", asdict(selection))
        before = history.stamp(self.place.results)
        code, printed = await self._run.finish()
        self._take()
        none = history.stamp(self.place.results) in (0, before)
        stopped = self._run.stopped
        self._run, self.running = None, None
        self.ended = {"exit_code": code, "stopped": stopped, "output": printed if none and not stopped else ""}
        self.tell("ended", self.ended | {"runs": history.names(self.place.folder)})

    def _take(self) -> None:
        """Read what a run has written, here or in a terminal, and tell what is new."""
        run = history.load(self.place.results)
        if run is not None and run != self.last:
            self.last = run
            before = self.newest.take(run)
            history.keep(self.place.folder, run, self.newest)
            if before:
                self.tell("before", before)
            self.tell("run", run)

    def _first_open(self, exercise: int | None = None) -> str:
        """The first checkpoint that has not passed; the first of all where all have."""
        ids = [name for e in self.exercises for name in e.ids if exercise in (None, e.number)]
        passed = {name for name, result in self.newest.results.items() if result["verdict"] == "passed"}
        return next((name for name in ids if name not in passed), ids[0])
