"""The routes of the page. No route takes a path or a command: what is asked for is looked up in lists."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from checks.harness.errors import LearnerError
from lab_guide import history, lessons, rendering
from lab_guide.bench import aiperf
from lab_guide.bench.plan import Wish
from lab_guide.commands.reset import put_back
from lab_guide.export import everything
from lab_guide.fields import HEADING
from lab_guide.journal import TooEarly
from lab_guide.security import Guard
from lab_guide.state import Busy, Guide, Selection
from lab_guide.stubs import CannotReset

PAGE = Path(__file__).with_name("page")
RETRY_MS = 1000
"""How long a page waits before it connects again."""


def version() -> str:
    """What stands for the page's own files: a page of another version loads itself again."""
    files = sorted(path for path in PAGE.rglob("*.*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


class Wanted(BaseModel):
    """What to run: an exercise, or some checkpoints of it."""

    exercise: int
    only: list[str] = []


class Explained(BaseModel):
    """A run of the bench, and the learner's sentence about it."""

    name: str
    text: Annotated[str, Field(max_length=1000)]


class Note(BaseModel):
    """What a learner writes into a field of a lesson's table: a prediction, or what was measured by hand."""

    field: str
    predicted: Annotated[str, Field(max_length=200)] = ""
    measured: Annotated[str, Field(max_length=200)] = ""


class Sentence(BaseModel):
    """The learner's explanation of an exercise's table."""

    exercise: int
    text: Annotated[str, Field(max_length=2000)]


class Chosen(BaseModel):
    """A checkpoint."""

    checkpoint: str


def create_app(guide: Guide, port: int, token: str) -> FastAPI:
    """The page's server. It watches and runs from its start to its end."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(guide.live())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Guard, port=port, token=token)
    shown = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*.*")}
    exercises = {e.number: e for e in guide.exercises}

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/page/{name:path}")
    async def file(name: str) -> FileResponse:
        if name not in shown:
            raise HTTPException(404)
        return FileResponse(shown[name])

    @app.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterable[ServerSentEvent]:
        async for name, data in guide.events():
            yield ServerSentEvent(event=name, data=data, retry=RETRY_MS)

    @app.get("/lesson/{number}")
    async def lesson(number: int) -> list[rendering.Section]:
        if number not in exercises:
            raise HTTPException(404)
        return rendering.lesson(lessons.lesson(guide.place.root, number))

    @app.get("/source")
    async def source(file: str, line: int) -> rendering.Excerpt | None:
        try:
            return rendering.excerpt(guide.place.files, file, line)
        except (OSError, ValueError, LearnerError):  # a file that is being saved may have no such line for a moment
            return None

    @app.get("/runs/{name}")
    async def run_of(name: str) -> dict[str, Any]:
        found = history.kept(guide.place.folder, name)
        if found is None:
            raise HTTPException(404)
        return found

    @app.get("/export")
    async def export() -> HTMLResponse:
        try:
            page = await asyncio.to_thread(everything, guide.place.results, guide.place.files)
        except ValueError as error:
            raise HTTPException(404, "nothing has been judged yet") from error
        return HTMLResponse(page, headers={"Content-Disposition": 'attachment; filename="lab.html"'})

    @app.post("/run", status_code=202)
    async def run(wanted: Wanted) -> dict[str, Any]:
        exercise = exercises.get(wanted.exercise)
        if exercise is None or not set(wanted.only) <= set(exercise.ids):
            raise HTTPException(422, "there is no such checkpoint")
        try:
            guide.require_no_measurement()
        except Busy as busy:
            raise HTTPException(409, str(busy)) from busy
        selection = Selection(wanted.exercise, tuple(wanted.only))
        await guide.run(selection)
        return asdict(selection)

    @app.post("/stop", status_code=202)
    async def stop() -> None:
        await guide.stop()

    @app.get("/bench")
    async def bench() -> list[dict[str, Any]]:
        return await asyncio.to_thread(guide.bench.briefs)

    @app.get("/bench/{name}")
    async def measured(name: str) -> dict[str, Any]:
        record = await asyncio.to_thread(guide.bench.read, name)
        if record is None:
            raise HTTPException(404)
        return record.whole

    @app.get("/bench/{name}/aiperf")
    async def records(name: str) -> PlainTextResponse:
        record = await asyncio.to_thread(guide.bench.read, name)
        if record is None or record.plan.kind != "stream":
            raise HTTPException(404)
        headers = {"Content-Disposition": 'attachment; filename="profile_export.jsonl"'}
        return PlainTextResponse("".join(aiperf.lines(record)), headers=headers, media_type="application/x-ndjson")

    @app.post("/bench", status_code=202)
    async def measure(wish: Wish) -> str:
        try:
            return guide.measure(wish.plan, wish.predicted, wish.cell)
        except Busy as busy:
            raise HTTPException(409, str(busy)) from busy

    @app.post("/bench/stop", status_code=202)
    async def stop_measuring() -> None:
        await guide.stop_measuring()

    @app.post("/bench/explain")
    async def explain(explained: Explained) -> dict[str, Any]:
        record = guide.bench.explain(explained.name, explained.text.strip())
        if record is None:
            raise HTTPException(404)
        return record.brief

    @app.get("/journal/{number}")
    async def journal(number: int) -> dict[str, Any]:
        if number not in exercises:
            raise HTTPException(404)
        mine = [
            asdict(f) | {"plan": f.plan and f.plan.model_dump()} for f in guide.fields.values() if f.exercise == number
        ]
        return {"fields": mine, "heading": HEADING, **guide.journal.of(number)}

    @app.post("/journal", status_code=202)
    async def note(notes: list[Note]) -> None:
        if unknown := [one.field for one in notes if one.field not in guide.fields]:
            raise HTTPException(422, f"there is no field {unknown[0]}")
        try:
            for one in notes:
                field = guide.fields[one.field]
                if one.predicted.strip():
                    guide.journal.predict(field, one.predicted.strip())
                if one.measured.strip():
                    guide.journal.measure(field, one.measured.strip())
        except TooEarly as early:
            raise HTTPException(409, str(early)) from early
        finally:
            for number in sorted({guide.fields[one.field].exercise for one in notes}):
                guide.tell_journal(number)

    @app.post("/journal/explain", status_code=202)
    async def explain_table(sentence: Sentence) -> None:
        if sentence.exercise not in exercises:
            raise HTTPException(422, "there is no such exercise")
        guide.journal.explain(sentence.exercise, sentence.text.strip())
        guide.tell_journal(sentence.exercise)

    @app.post("/choose", status_code=202)
    async def choose(chosen: Chosen) -> None:
        if not any(chosen.checkpoint in e.ids for e in exercises.values()):
            raise HTTPException(422, "there is no such checkpoint")
        guide.choose(chosen.checkpoint)

    @app.post("/reset")
    async def reset(chosen: Chosen) -> list[str]:
        if guide.place.files != guide.place.root:
            raise HTTPException(409, "stubs are put back in the lab's own folder only")
        try:
            return await asyncio.to_thread(put_back, guide.place.root, chosen.checkpoint)
        except CannotReset as error:
            raise HTTPException(409, str(error)) from error

    return app
