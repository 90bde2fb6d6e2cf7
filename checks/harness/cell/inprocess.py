"""The learner's app on an event loop in a thread of its own.

What asks it stays on another thread: whatever the app does to its loop, that goes on and can say what happened. In a
cell `cell/apps.py` asks it, through `drive`; in the process of a checkpoint the checkpoint does, through httpx.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from checks.harness.cell import stacks as stacks_of
from checks.harness.cell.exchange import App, Exchange, assert_bytes
from checks.harness.cell.routes import Route, plain_dependency, routes_of
from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.stacks import Lines, Stack, stacks
from checks.harness.cell.standstill import TIMER_HORIZON, Standstill, Watch, WatchedLoop
from checks.harness.errors import BrokenOff, Inconclusive, LearnerError, NoAnswer, Unanswered
from checks.harness.machine import FairClock, load_in_words
from checks.harness.missing_await import where_not_awaited
from checks.harness.plain_words import describe, hint_for
from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

START_SECONDS = 20.0
"""Seconds that an idle machine would need at most for the lifespan's start or its end."""
START_TURN = 0.1
"""Seconds between two looks at that clock."""
ANSWER_SECONDS = 30.0
LAST_TURNS = 5
LAST_SECONDS = 0.5
"""Seconds in which a task that is cancelled at the very end may still clean up."""
IDLE_TURNS = 5
"""Turns of the loop in a row in which nothing was ready, after which it is idle."""
IDLE_LOOK, IDLE_SECONDS = 0.001, 1.0
"""Seconds between two looks at a pool that works, and seconds after which a loop that is never idle is left alone."""
POOL_MOST = 1000
"""Threads of a pool that `pool_taken` takes at most."""
MODELS = frozenset(f"checks.harness.cell.{name}" for name in ("gate", "probe", "batch_probe", "decoder"))
"""Modules of the models that take the learner's place: a stack with one of them is a call inside the model."""


class Pending:
    """A request on its way. Times are `time.perf_counter()` seconds."""

    def __init__(
        self,
        app: InProcess,
        asked: str,
        send: Callable[[], Awaitable[Any]],
        listen: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self.asked = asked
        self.scope: MutableMapping[str, Any] = {}
        self.arrived: float | None = None
        """When it got to the app."""
        self.arrives: Callable[[], None] = lambda: None
        """Called at that moment."""
        self.sent = time.perf_counter()
        self.finished: float | None = None
        self.given_up = False
        self.swallowed: bool | None = None
        """Whether the app kept a cancellation to itself; None until the request ended."""
        self.returns: Callable[[], None] = lambda: None
        """Called at that moment."""
        self._app = app
        listen(self)  # before the loop has it, which is on another thread
        self._future = app.submit(app.request(self, send))
        self._future.add_done_callback(self._done)

    def _done(self, _: object) -> None:
        self.finished = time.perf_counter()
        self._app.watch.changed.set()

    def ends(self, *, cancelled: bool) -> None:
        """Called when the app has returned from a request that was given up."""
        self.swallowed = not cancelled
        self.returns()
        self._app.moved()

    def when_done(self, work: Callable[[Future[Any]], None]) -> None:
        """Call this with its outcome when it has ended; `done` is true then."""
        self._future.add_done_callback(work)

    @property
    def path(self) -> str:
        """What was asked for."""
        return self.asked.partition(" ")[2]

    @property
    def endpoint(self) -> object:
        """The learner's function that the request was routed to, if it was."""
        return self.scope.get("endpoint")

    @property
    def done(self) -> bool:
        """Whether it was answered, or failed; then `finished` is set, which a future's callback does a little later."""
        return self.finished is not None

    def cancel(self) -> None:
        """Cancel the request's task where it waits, as a server does when the caller has left."""
        self.given_up = True
        self._future.cancel()

    def answer(self, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait for the answer: an `httpx.Response`, or the `Exchange` that was driven.

        What the app raised is raised here; `NoAnswer` when none can come any more.
        """
        self._app.looked_at = self
        standstill = self._app.until(lambda: self.done, seconds, horizon=seconds)
        if standstill:
            refuse_if_busy(standstill)
            raise NoAnswer(self.asked, standstill.words, self._app.where_waiting())
        return self._future.result()


def refuse_if_busy(standstill: Standstill) -> None:
    """Raise `Inconclusive` where a wait was still going on at its deadline, on a machine too busy for that."""
    if standstill.busy:
        raise Inconclusive(f"this machine is too busy ({load_in_words()}): {standstill.words}")


def refuse_unless_settled(standstill: Standstill | None, where: Callable[[], str | None]) -> None:
    """Raise `LearnerError` where a wait ended because the loop is blocked or never idle."""
    if standstill and standstill.kind != "settled":
        refuse_if_busy(standstill)
        raise LearnerError(
            standstill.words,
            where(),
            wanted="the loop serves all other requests while one waits",
            hint="`await` a Future or an Event: no `time.sleep`, and no loop that polls.",
        )


@contextmanager
def causes_first(raised: Callable[[], BaseException | None], lines: SourceLines) -> Iterator[None]:
    """If this block fails and the learner's code raised something, report that: it is the cause of what was seen."""
    try:
        yield
    except (AssertionError, NoAnswer):
        if (error := raised()) is None:
            raise
        where, said = lines.where_raised(error.__traceback__), f"your code raised {describe(error)}"
        raise LearnerError(said, where, hint=hint_for(error), explains_itself=True) from None


class Driven(Pending):
    """A request whose answer is recorded message by message, in `exchange`."""

    def __init__(self, app: InProcess, exchange: Exchange, serve: App, listen: Callable[[Any], None]) -> None:
        self.exchange = exchange
        self.moves: Callable[[], None] = lambda: None
        """Called at each message."""
        exchange.moved = self._moved
        asked = f"{exchange.scope['method']} {exchange.scope['path']}"
        super().__init__(app, asked, lambda: exchange.run(serve), listen)

    def _moved(self) -> None:
        self.moves()
        self._app.moved()

    @property
    def status(self) -> int | None:
        """Of the answer, None before it began."""
        return self.exchange.status

    @property
    def pieces(self) -> list[tuple[float, bytes]]:
        """The pieces of the body so far, with the time at which each left the app."""
        return self.exchange.chunks

    @property
    def senders(self) -> list[tuple[str, Lines]]:
        """What each message was, and the lines that sent it."""
        return [*self.exchange.senders]

    @property
    def receiver(self) -> Lines:
        """The lines that asked for a message last."""
        return self.exchange.receiver

    def leave(self) -> None:
        """Close the connection, as a client does that has gone."""
        self._app.soon(self.exchange.leave)

    def answer(self, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait for the answer, an `httpx.Response`."""
        import httpx

        got: Exchange = super().answer(seconds)
        request = httpx.Request(got.scope["method"], f"http://localhost{got.scope['path']}")
        answer = httpx.Response(got.status or 0, headers=got.fields, content=got.body, request=request)
        answer.headers = httpx.Headers(got.fields)  # httpx has added a length
        return answer


REQUEST: ContextVar[Pending] = ContextVar("REQUEST")
"""The request that this task sends."""


class InProcess:
    """A running app. `post` and `get` send and return at once; `answer()` of what they return waits."""

    def __init__(self, app: FastAPI, lines: SourceLines) -> None:
        self.app = app
        self.looked_at: Pending | None = None
        """The request whose answer was asked for last."""
        self._stuck = False
        self._lines = lines
        self._loop = WatchedLoop()
        self._loop.set_exception_handler(self._callback_failed)
        self._fatal: BaseException | None = None
        self._raised: list[BaseException] = []
        """What the learner's own lines raised, in requests and in callbacks of the loop."""
        self.moves = 0
        """Counts what happened: it differs when something did."""
        self.tasks_left = 0
        """How many tasks of the app were left when its lifespan had ended."""
        self.progress: Callable[[], object] = lambda: None
        """Returns a value that differs when something happened beside the answers: the calls of a probe."""
        self._slept_before = len(SLEEPS.stacks)
        self._thread = threading.Thread(target=self._run, name="service loop", daemon=True)
        self.watch = Watch(self._loop, self._thread)
        self._client: httpx.AsyncClient | None = None
        self._life: Future[Any]
        self._state: dict[str, Any] = {}
        self._started = threading.Event()
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int:
        """The id of the process that it runs in."""
        return os.getpid()

    @property
    def endpoint(self) -> object:
        """The learner's function that the request looked at last was routed to."""
        return self.looked_at.endpoint if self.looked_at else None

    @property
    def lines(self) -> SourceLines:
        """Names lines of the learner's."""
        return self._lines

    @property
    def where_routed(self) -> str | None:
        """The `def` line of that function."""
        return self._lines.where_defined(self.endpoint)

    @property
    def where_refused(self) -> str | None:
        """The `def` line of the handler that answers a body of the wrong form, if it is the learner's."""
        from fastapi.exceptions import RequestValidationError

        return self._lines.where_defined(self.app.exception_handlers.get(RequestValidationError))

    @property
    def routes(self) -> list[Route]:
        """The routes that the learner wrote, in their order."""
        return [*routes_of(self.app, self._lines)]

    def use_their_model(self) -> None:
        """Give the learner's own model to their routes again."""
        self.app.dependency_overrides.clear()

    @property
    def plain_dependency(self) -> tuple[str, str, Any] | None:
        """The learner's dependency of /predict that needs a thread: its name, what it is, and the thing itself."""
        found = plain_dependency(self.app, "/predict", self._lines)
        kind = "class" if isinstance(found, type) else "plain `def`"
        return found and (getattr(found, "__name__", "it"), kind, found)

    def start(self) -> None:
        """Run the app's lifespan up to where it serves. It may take long, and block, as loading a model does."""
        self._thread.start()
        clock = FairClock()
        what = "the start of the app (its lifespan)"
        self._life = self.submit(self._theirs(what, self._live()))
        self._life.add_done_callback(lambda _: self._started.set())
        while not self._started.wait(START_TURN):
            if clock.seconds() > START_SECONDS:
                raise NoAnswer(what, Standstill("late").words, self.where_waiting())
        if self._life.done():
            self._life.result()
        self._slept_before = len(SLEEPS.stacks)

    def stop(self, seconds: float = START_SECONDS) -> None:
        """Run the app's lifespan to its end, which an idle machine would do in so many seconds, and stop the loop."""
        if self._thread.is_alive() and not self._stuck:  # else its process is about to end anyway
            self._loop.call_soon_threadsafe(self._stopping.set)
            try:
                self._wait_for_the_end(seconds)
            finally:
                self.submit(self._end())
                self._thread.join(2 * LAST_SECONDS)
                if not self._thread.is_alive():
                    self._loop.close()

    async def _end(self) -> None:
        """Stop the loop. What is left on it is cancelled first, and has some time for that."""
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=LAST_SECONDS)
        self._loop.stop()

    def _wait_for_the_end(self, seconds: float) -> None:
        clock = FairClock()
        while not self._life.done():
            wait([self._life], START_TURN)
            if clock.seconds() > seconds:
                raise NoAnswer("the end of the app (its lifespan)", Standstill("late").words, self.where_waiting())
        self._life.result()

    async def _live(self) -> None:
        """The server's side of ASGI's lifespan protocol, in one task from start to end."""
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await self._stopping.wait()
                return {"type": "lifespan.shutdown"}
            asked = True
            return {"type": "lifespan.startup"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._started.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self.app(scope, receive, send)
            self.tasks_left = await _tasks_left()
        except (LearnerError, NotImplementedError):
            raise
        except Exception as error:
            if not self._was_given_lifespan(error):
                raise
            raise self._at_lifespan(error) from error

    def _was_given_lifespan(self, error: Exception) -> bool:
        """Whether the learner's deepest function in a traceback holds the scope of the lifespan: it is a middleware."""
        frames = traceback.walk_tb(error.__traceback__)
        theirs = [frame for frame, line in frames if self._lines.where(frame.f_code, line)]
        values = [value for frame in theirs[-1:] for value in frame.f_locals.values()]
        return any(isinstance(value, dict) and value.get("type") == "lifespan" for value in values)

    def _at_lifespan(self, error: Exception) -> LearnerError:
        missing = f", which has no `{error.args[0]}`" if isinstance(error, KeyError) and error.args else ""
        return LearnerError(
            f"your code raised {describe(error)} while it was given the scope `lifespan`{missing}",
            self._lines.where_raised(error.__traceback__),
            wanted="a middleware first passes on every scope that is not HTTP",
            hint='`if scope["type"] != "http":`, in it `await self.app(scope, receive, send)` and `return`.',
        )

    def post(self, path: str, body: object = None, *, content: bytes | None = None) -> Pending:
        """`POST` a JSON body (or `content` as it is)."""
        data = json.dumps(body).encode() if content is None else content
        return self._send("POST", path, content=data, headers={"content-type": "application/json"})

    def get(self, path: str) -> Pending:
        """`GET` a path."""
        return self._send("GET", path)

    def until(
        self, done: Callable[[], object], seconds: float = ANSWER_SECONDS, horizon: float = TIMER_HORIZON
    ) -> Standstill | None:
        """Wait until `done()`; `None` then, else why it will not. Timers that are due within `horizon` count."""
        standstill = self.watch.until(done, lambda: (self.moves, self.progress()), seconds, horizon)
        if not done():
            self.still_runs()
        if standstill and standstill.kind == "starved":
            raise Inconclusive(f"{standstill.words} in {seconds:g} s")
        self.note(standstill)
        return standstill

    def still_runs(self) -> None:
        """Raise `LearnerError` where the learner's code has ended the loop."""
        if self._fatal is not None:
            where = self._lines.where_raised(self._fatal.__traceback__)
            raise LearnerError(
                f"your code ended the whole program: {describe(self._fatal)}",
                where,
                wanted="an exception that ends only this request, such as HTTPException",
            )

    @property
    def raised(self) -> BaseException | None:
        """What the learner's own lines raised first."""
        return self._raised[0] if self._raised else None

    def note(self, standstill: Standstill | None) -> None:
        """Remember how a wait ended: `stop` does not wait for a loop that will not come back."""
        self._stuck = standstill is not None and standstill.kind in ("spinning", "blocked", "ended")

    def go_on_until(self, done: Callable[[], object], horizon: float = TIMER_HORIZON) -> None:
        """Wait until `done()`, or until nothing happens any more. A loop that is blocked or never idle is a failure."""
        refuse_unless_settled(self.until(done, horizon=horizon), self.where_waiting)

    @contextmanager
    def causes_first(self) -> Iterator[None]:
        """If this block fails and the learner's code raised, report that exception: it is the cause."""
        with causes_first(lambda: self.raised, self._lines):
            yield

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and "handle" in context and self._lines.where_raised(error.__traceback__):
            self._raised.append(error)
        loop.default_exception_handler(context)

    def moved(self) -> None:
        """Note that something happened: `until` looks again."""
        self.moves += 1
        self.watch.changed.set()

    def finish(self, calls: Sequence[Pending], seconds: float) -> None:
        """Wait until these calls have ended, at most so many seconds."""
        self.until(lambda: all(call.done for call in calls), seconds)

    def where_waiting(self) -> str | None:
        """The learner's line that the loop's thread is in, else one where a task or another thread waits."""
        return self._lines.where_first(stacks(self._thread.ident))

    def where_responding(self) -> str | None:
        """The learner's outermost line of a request that waits, which the framework has called."""
        return stacks_of.where_responding(self._lines)

    def where_locked(self) -> str | None:
        """The learner's line where a task waits for a lock."""
        return stacks_of.where_locked(self._lines)

    def where_kept(self, text: str) -> str | None:
        """The learner's function that keeps this text, with something around it."""
        return stacks_of.where_kept(self._lines, text)

    def threads(self) -> int:
        """How many threads this process has now."""
        return threading.active_count()

    def where_slept(self) -> str | None:
        """The learner's line that called `time.sleep` on the event loop's thread, if one did."""
        return self._lines.where_first(SLEEPS.stacks[self._slept_before :])

    def where_held_up(self, number: int) -> str | None:
        """The learner's line at which most calls wait that are not in the model, at most `number` of them.

        A line where more of them are, such as a middleware's, is on the way of those inside, too.
        """
        outside = (stack for stack in stacks() if MODELS.isdisjoint(_modules(stack)))
        found = Counter(filter(None, map(self._lines.where_frames, outside)))
        return next((line for line, count in found.most_common() if count <= number), None)

    def slept_at(self, stack: Stack, thread: int) -> str | None:
        """The learner's line in this stack of a sleep, if it was on this app's loop, after its start."""
        mine = thread == self._thread.ident and self._started.is_set()
        return self._lines.where_frames(stack) if mine else None

    def pool_threads_in_use(self) -> int:
        """How many threads of FastAPI's pool are in use now; 0 where the loop cannot say."""
        import anyio.to_thread

        async def count() -> int:
            return int(anyio.to_thread.current_default_thread_limiter().borrowed_tokens)

        future = self.submit(count())
        return int(future.result()) if self.until(future.done) is None else 0

    def contexts(self, paths: Sequence[str], caller: str) -> list[dict[str, str]]:
        """Requests to these paths in one task: what each of them has left bound to the context, as text.

        `caller` was bound before the first of them.
        """
        import structlog

        async def in_one_task() -> list[dict[str, str]]:
            structlog.contextvars.bind_contextvars(caller=caller)
            left = []
            for path in paths:
                with suppress(Exception, asyncio.CancelledError):
                    await Exchange("GET", path).run(self.app)
                left.append({name: str(value) for name, value in structlog.contextvars.get_contextvars().items()})
            return left

        future = self.submit(in_one_task())
        self.until(future.done)
        left: list[dict[str, str]] = future.result(0)
        return left

    @contextmanager
    def pool_taken(self) -> Iterator[None]:
        """While this block runs, every thread of FastAPI's pool is taken; none where the loop is blocked."""
        import anyio.to_thread

        borrowers = [object() for _ in range(POOL_MOST)]

        async def take() -> int:
            limiter = anyio.to_thread.current_default_thread_limiter()
            taken = int(min(limiter.available_tokens, len(borrowers)))
            for borrower in borrowers[:taken]:
                limiter.acquire_on_behalf_of_nowait(borrower)
            return taken

        async def give_back(taken: int) -> None:
            for borrower in borrowers[:taken]:
                anyio.to_thread.current_default_thread_limiter().release_on_behalf_of(borrower)

        future = self.submit(take())
        taken = future.result() if self.until(future.done) is None else 0
        try:
            yield
        finally:
            self.submit(give_back(taken))

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the app's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call this on the app's loop."""
        self._loop.call_soon_threadsafe(callback)

    def settle(self) -> None:
        """Wait until the loop has run all that is ready, and no thread of the pool is at work. Timers do not count."""
        self.until(self.submit(self._idle()).done)

    async def _idle(self) -> None:
        import anyio.to_thread

        limiter, quiet, end = anyio.to_thread.current_default_thread_limiter(), 0, self._loop.time() + IDLE_SECONDS
        while quiet < IDLE_TURNS and self._loop.time() < end:
            await asyncio.sleep(IDLE_LOOK if limiter.borrowed_tokens else 0)
            quiet = 0 if self._loop.has_ready or limiter.borrowed_tokens else quiet + 1

    async def _theirs(self, what: str, work: Awaitable[Any], pending: Pending | None = None) -> Any:
        """Await what runs their code. An exception that FastAPI raises is theirs, too, though no line of theirs did."""
        try:
            return await work
        except (Exception, asyncio.CancelledError) as error:
            if pending and pending.given_up:
                raise
            if isinstance(error, BaseExceptionGroup | LearnerError):
                raise
            where = self._lines.where_raised(error.__traceback__)
            said, wanted, hint = f"{what} ended in {describe(error)}", "no exception", hint_for(error)
            if isinstance(error, TimeoutError | asyncio.CancelledError):  # a future gives these without their lines
                where = where or self._lines.where_defined(pending and pending.endpoint)
                raise BrokenOff(said, where, type(error).__name__, wanted=wanted) from error
            if where:
                self._raised.append(error)
                raise
            handler = pending and pending.endpoint
            where = where_not_awaited(error, self._lines, handler) or self._lines.where_validated(error, handler)
            where = where or self._lines.where_defined(handler)
            raise LearnerError(said, where, wanted=wanted, hint=hint) from error

    def drive(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        until_it_returns: bool = False,
        taken: Any = None,
        leaves_after: int | None = None,
        raises: bool = False,
        listen: Callable[[Driven], None] = lambda _: None,
    ) -> Driven:
        """Send without httpx, to see the answer leave the app message by message.

        A server has its answer with the last byte; `until_it_returns` waits for the app, which may raise after that.
        Each message waits for a model `taken`. The client leaves after so many turns of the loop, or by `leave`;
        with `raises` each `send` after that is an OSError. `listen` is called with the request before it is sent.
        """
        exchange = Exchange(method, path, headers, body)
        exchange.taken, exchange.leaves_after, exchange.raises = taken, leaves_after, raises
        exchange.noted = True
        return Driven(self, exchange, self.app if until_it_returns else self._serve, listen)

    def _send(self, method: str, path: str, **request: Any) -> Pending:
        import httpx

        if self._client is None:
            transport = httpx.ASGITransport(app=self._serve)
            self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost", trust_env=False)
        client = self._client
        return Pending(self, f"{method} {path}", lambda: client.request(method, path, **request))

    async def request(self, pending: Pending, send: Callable[[], Awaitable[Any]]) -> Any:
        """The coroutine behind a pending request."""
        REQUEST.set(pending)
        try:
            return await self._theirs(pending.asked, send(), pending)
        finally:
            self.moved()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the app as a server does: the answer is there with its last byte, though background tasks go on."""
        REQUEST.get().scope, REQUEST.get().arrived = scope, time.perf_counter()
        REQUEST.get().arrives()
        scope["state"] = self._state.copy()
        answered, status, sent = asyncio.Event(), 0, list[str]()

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            assert_bytes(message)
            sent.append("end" if _is_last(message) else message["type"])
            await send(message)
            status = message.get("status", status)
            # A 500 is sent before its exception is raised: that is what the learner wants to see.
            if _is_last(message) and status < 500:
                answered.set()

        serving = asyncio.ensure_future(self.app(scope, receive, sending))
        waiting = asyncio.ensure_future(answered.wait())
        try:
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pending = REQUEST.get()
            serving.add_done_callback(lambda task: pending.ends(cancelled=task.cancelled()))
            serving.cancel()
            raise
        finally:
            waiting.cancel()
        if serving.done():
            serving.result()
            if "end" not in sent:
                what = "the end of its answer" if sent else "an answer"
                raise Unanswered(
                    f"{REQUEST.get().asked}: the app returned without {what}",
                    wanted="every message passed on",
                    hint="In a middleware `await self.app(scope, receive, send)`, perhaps with a `send` of your own, "
                    "and in that one `await send(message)` for each message, whatever its type. Do not return a "
                    "response, but call it: `await response(scope, receive, send)`.",
                )

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        except BaseException as error:  # sys.exit in a handler ends the loop, and the test waits on another thread
            self._fatal = error
            self.watch.changed.set()


async def _tasks_left() -> int:
    """How many tasks are on this loop besides the one that asks. What has nothing more to do gets a few turns."""
    for _ in range(LAST_TURNS):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


def _modules(stack: Stack) -> set[str]:
    return {frame.f_globals.get("__name__", "") for frame, _ in stack}


def _is_last(message: MutableMapping[str, Any]) -> bool:
    """Whether an answer ends with this message."""
    return message["type"] == "http.response.body" and not message.get("more_body")
