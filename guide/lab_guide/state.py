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
from lab_guide.parts import Parts, stub_again
from lab_guide.place import Place
from lab_guide.running import PytestRun, Ready
from lab_guide.standing import of_others

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
        self.last = self._load()
        self.newest = history.newest(place.folder, self.last)
        if self.last:  # a run of the command line: the next one overwrites it
            history.keep(place.folder, self.last, self.newest)
        self.parts = Parts(place.files, self.exercises)
        self.chosen = self._begin_with()
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
            "results": self.results,
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
            "last": self.last and history.brief(self.last),
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
        passed = self._passed()
        return next((name for name in [*ids[at + 1 :], *ids[:at]] if name not in passed), self.chosen)

    def go_to(self, exercise: int) -> None:
        """Look at the first checkpoint of an exercise that has not passed."""
        if any(e.number == exercise for e in self.exercises):
            self.choose(self._first_open(exercise))

    @property
    def results(self) -> dict[str, history.Results]:
        """Of each checkpoint the newest result; what had passed has not started where its part is a stub again."""
        again = self.parts.again(self.newest.results)
        return {name: stub_again(r) if name in again else r for name, r in self.newest.results.items()}

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
                    self.journal.measure(field, digits(value), record.name, record.machine.get("busy", ""))
                    self.tell_journal(field.exercise)
        self.tell("measured", record.brief)

    async def _watch_saves(self) -> None:
        async for files in watching.saves(self.place.files):
            wanted = self.selections(files)
            again = sorted(self.parts.again(self.newest.results))
            told = {name: stub_again(self.newest.results[name]) for name in again}
            self.tell("saved", {"files": sorted(files), "again": told})
            if self.chosen not in wanted[0].only:  # the work goes on in another exercise
                self.choose(wanted[0].only[0])
            await self.run(*wanted)

    def selections(self, files: set[str]) -> list[Selection]:
        """What a save of these files runs: the chosen checkpoint, then its exercise if that takes seconds only.

        Of a slow exercise also what the changed part is about, whether it has passed before or not.
        """
        number = touched(self.exercises, files, int(self.chosen.partition(".")[0]))
        exercise = next(e for e in self.exercises if e.number == number)
        changed = [name for name in self.parts.changed(files) if name in exercise.ids]
        first = self.chosen
        if first not in exercise.ids:
            passed = self._passed()
            first = [*(name for name in changed if name not in passed), *changed, self._first_open(number)][0]
        if exercise.quick:
            return [Selection(number, (first,)), Selection(number)]
        return [Selection(number, (first,) if first in changed else (first, *changed))]

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

    def _load(self) -> history.Results | None:
        """The last run, unless it was of another workspace."""
        run = history.load(self.place.results)
        return None if run is None or of_others(run, self.place.results) else run

    def _take(self) -> None:
        """Read what a run has written, here or in a terminal, and tell what is new."""
        run = self._load()
        if run is not None and run != self.last:
            begins = self.last is None or run["started"] != self.last["started"]
            self.last = run
            before = self.newest.take(run)
            history.keep(self.place.folder, run, self.newest)
            if before:
                self.tell("before", before)
            if begins and not self.running and (follow := self._follow(run)) != self.chosen:
                self.choose(follow)  # it was begun in a terminal
            self.tell("run", run)

    def _begin_with(self) -> str:
        """The first checkpoint of the exercise that was run last that has not passed; else the first of all."""
        number = self.last["exercises"][0]["number"] if self.last else None
        first = self._first_open(number if any(e.number == number for e in self.exercises) else None)
        return self._first_open() if first in self._passed() else first

    def _follow(self, run: history.Results) -> str:
        """The checkpoint to look at after a run: the chosen one if that was run, else the first of it that is open."""
        run_ids = {c["id"] for e in run["exercises"] for c in e["checkpoints"]}
        known = [name for e in self.exercises for name in e.ids if name in run_ids]
        passed = self._passed()
        if self.chosen in known or not known:
            return self.chosen
        return next((name for name in known if name not in passed), known[0])

    def _passed(self) -> set[str]:
        return {name for name, result in self.results.items() if result["verdict"] == "passed"}

    def _first_open(self, exercise: int | None = None) -> str:
        """The first checkpoint that has not passed; the first of all where all have."""
        ids = [name for e in self.exercises for name in e.ids if exercise in (None, e.number)]
        passed = self._passed()
        return next((name for name in ids if name not in passed), ids[0])
