"""The learner's app in a cell, as a checkpoint has it: the same as `cell/inprocess.py` gives of one beside it.

Requests go in as data and answers come out as data. What the cell says beside them may end a wait and explain.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from checks.harness.cell.batch_probe import BatchProbe
from checks.harness.cell.decoder_probe import DecoderProbe
from checks.harness.cell.given_routes import Given
from checks.harness.cell.inprocess import (
    ANSWER_SECONDS,
    START_SECONDS,
    causes_first,
    refuse_if_busy,
    refuse_unless_settled,
)
from checks.harness.cell.probe import Probe
from checks.harness.cell.routes import Route
from checks.harness.cell.stacks import Lines
from checks.harness.cell.standstill import LONGEST_ROUND, SPINNING, TIMER_HORIZON, Standstill
from checks.harness.cell.wire import Broken, decode, encode, no_things
from checks.harness.errors import Inconclusive, NoAnswer
from checks.harness.judge import kernel
from checks.harness.judge.cell import Cell
from checks.harness.judge.gate import Gate, lines_of
from checks.harness.judge.handles import Handle
from checks.harness.judge.raised import Place
from checks.harness.machine import FairClock
from checks.harness.source_lines import SourceLines

if TYPE_CHECKING:
    import httpx

ORIGIN = "http://localhost"

SOON = 0.02
"""Seconds within which most waits are over: a cell is not asked for advice before."""
TURN = 0.01
"""Seconds of one turn of a wait."""
LOOKS = 20
"""Looks of the kernel in a row at which all threads were asleep and none had run, after which nothing more comes."""
LOOK = 0.0025
"""Seconds between two of them."""
UNPROVED = 5.0
"""Seconds of a wait that go on, by this process's clock, where the kernel does not say what the cell says."""
GIVE_UP = 2.0
"""Seconds after a deadline in which the cell may still say how the wait ended there."""
EARLIEST = 0.8
"""Part of a deadline before which no cell is believed that it has passed."""
KINDS = ("settled", "blocked", "spinning", "ended", "late", "starved")


class Pending:
    """A request on its way. Times are `time.perf_counter()` seconds, taken here."""

    def __init__(self, app: App, number: int, method: str, path: str, sent: float) -> None:
        self.asked = f"{method} {path}"
        self.path = path
        self.sent = sent
        self.arrived: float | None = None
        """When word came that it had got to the app."""
        self.finished: float | None = None
        self.swallowed: bool | None = None
        """Whether the app kept a cancellation to itself, as the cell says; None until it has returned."""
        self.pieces: list[tuple[float, bytes]] = []
        """Of one that is driven: the pieces of its body so far, with the time at which word of each came."""
        self.status: int | None = None
        """Of one that is driven: the status of its answer, once that has begun."""
        self.endpoint: Place | None = None
        """Where the learner's function is defined that it was routed to, as the cell says."""
        self._app, self._number, self._method = app, number, method
        self._answer: httpx.Response | None = None
        self._raised: object = None

    @property
    def done(self) -> bool:
        """Whether it was answered, or failed."""
        return self.finished is not None

    @property
    def senders(self) -> list[tuple[str, Lines]]:
        """Of one that is driven, as the cell says: what each message was, and the lines that sent it."""
        return [(str(kind), lines_of(sent)) for kind, sent in self._app.messages(self._number)["senders"]]

    @property
    def receiver(self) -> Lines:
        """Of one that is driven, as the cell says: the lines that asked for a message last."""
        return lines_of(self._app.messages(self._number)["receiver"])

    def cancel(self) -> None:
        """Cancel the request's task where it waits, as a server does when the caller has left."""
        self._app.cancel(self._number)

    def leave(self) -> None:
        """Close the connection, as a client does that has gone."""
        self._app.leave(self._number)

    def begins(self, status: object) -> None:
        """Take that its answer has begun."""
        self.status = status if type(status) is int else None

    def returns(self, swallowed: object) -> None:
        """Take that the app has returned from it after it was cancelled."""
        self.swallowed = bool(swallowed)

    def leaves(self, piece: object) -> None:
        """Take a piece of its answer."""
        body = decode(piece, no_things)
        if type(body) is not bytes:
            raise Broken("no bytes")
        self.pieces.append((time.perf_counter(), body))

    def arrives(self) -> None:
        """Take that it has got to the app."""
        self.arrived = time.perf_counter()

    def ended(self, told: dict[str, Any]) -> None:
        """Take what came of it."""
        import httpx

        if self.done:
            raise Broken("two answers")
        self.endpoint = Cell.defined(told["endpoint"])
        if "raised" in told:
            self._raised = told["raised"]
        else:
            body = decode(told["body"], no_things)
            if type(told["status"]) is not int or type(body) is not bytes:
                raise Broken("no answer")
            fields = [(str(name).encode("latin-1"), str(value).encode("latin-1")) for name, value in told["fields"]]
            request = httpx.Request(self._method, ORIGIN + self.path)
            self._answer = httpx.Response(told["status"], headers=fields, content=body, request=request)
            self._answer.headers = httpx.Headers(fields)  # httpx has added a length
        self.finished = time.perf_counter()

    def answer(self, seconds: float = ANSWER_SECONDS) -> httpx.Response:
        """Wait for the answer. What the app raised is raised here; `NoAnswer` when none can come any more."""
        self._app.looked_at = self
        standstill = self._app.until(lambda: self.done, seconds, horizon=seconds)
        if standstill:
            refuse_if_busy(standstill)
            raise NoAnswer(self.asked, standstill.words, self._app.where_waiting())
        if self._answer is None:
            raise self._app.error(self._raised)
        return self._answer


class Running:
    """The apps of a cell, and what they say."""

    def __init__(self, cell: Cell, lines: SourceLines) -> None:
        self.cell, self.lines, self.gate = cell, lines, Gate(cell)
        self.apps: list[App] = []
        self.requests: list[Pending] = []
        self.advice: dict[int, Standstill] = {}
        self.watches = 0
        cell.on("ended", lambda told: self.requests[_number(told["request"])].ended(told))
        cell.on("arrived", lambda told: self.requests[_number(told["request"])].arrives())
        cell.on("returned from", lambda told: self.requests[_number(told["request"])].returns(told["swallowed"]))
        cell.on("answering", lambda told: self.requests[_number(told["request"])].begins(told["status"]))
        cell.on("piece", lambda told: self.requests[_number(told["request"])].leaves(told["body"]))
        cell.on("slept", lambda told: self.apps[_number(told["app"])].slept(told["where"]))
        cell.on("still", self._still)
        cell.ask("spy")

    def _still(self, told: dict[str, Any]) -> None:
        if told["kind"] not in KINDS:
            raise Broken("no standstill")
        self.advice[_number(told["watch"])] = Standstill(told["kind"], busy=bool(told["busy"]))

    def app(
        self,
        probe: Probe | None,
        settings: dict[str, Any],
        *,
        own_way: bool = False,
        routes: Given | None = None,
        around: Sequence[Handle] = (),
        batch_model: BatchProbe | None = None,
        decoder: DecoderProbe | None = None,
    ) -> App:
        """The learner's app with these settings, started; the probes are in the place of its models.

        With `own_way` it stands at `app.state.model`, where the learner's own `get_model` finds it. `routes` are served
        beside the learner's; with `around`, a middleware of theirs and its metrics, they are all that it serves.
        """
        app = App(self, len(self.apps), probe or batch_model or decoder)
        number = None if probe is None else self.gate.add(probe)
        batch = None if batch_model is None else self.gate.add(batch_model)
        given = routes and {
            "name": routes.name,
            "gates": [self.gate.add(gate) for gate in routes.gates],
            "plan": dict(routes.plan),
        }
        things = [one._number for one in around]
        asked: dict[str, Any] = {
            "probe": number,
            "batch_probe": batch,
            "decoder": decoder and {"probe": self.gate.add(decoder), "slots": decoder.slots},
            "settings": settings,
            "own_way": own_way,
            "routes": given,
            "around": things,
        }
        self.apps.append(app)
        self.cell.ask("start", app=app.number, **asked)
        return app


class App:
    """A running app. `post` and `get` send and return at once; `answer()` of what they return waits."""

    def __init__(self, running: Running, number: int, probe: Probe | BatchProbe | DecoderProbe | None) -> None:
        self.number = number
        self.looked_at: Pending | None = None
        """The request whose answer was asked for last."""
        self._running, self._cell = running, running.cell
        self._probe = probe
        self.progress: Callable[[], object] = lambda: None
        """Returns a value that differs when something happened beside the answers: what a store was asked."""
        self._slept: str | None = None

    @property
    def pid(self) -> int:
        """The id of the process that it runs in."""
        return self._cell.pid

    @property
    def endpoint(self) -> Place | None:
        """Where the function is defined that the request looked at last was routed to."""
        return self.looked_at.endpoint if self.looked_at else None

    @property
    def lines(self) -> SourceLines:
        """Names lines of the learner's."""
        return self._running.lines

    @property
    def where_routed(self) -> str | None:
        """The `def` line of that function."""
        return self.lines.where_defined(self.endpoint)

    @property
    def where_refused(self) -> str | None:
        """The `def` line of the handler that answers a body of the wrong form, if it is the learner's."""
        return self._line("refused")

    @property
    def routes(self) -> list[Route]:
        """The routes that the learner wrote, in their order, as the cell says."""
        return [
            Route(
                frozenset(map(str, methods)), str(path), _place(handler), {str(one[0]): _place(one) for one in beside}
            )
            for methods, path, handler, beside in self._ask("routes")
        ]

    @property
    def plain_dependency(self) -> tuple[str, str, Place] | None:
        """The learner's dependency of /predict that needs a thread, as the cell says: its name, what it is, where."""
        if (told := self._ask("plain dependency")) is None:
            return None
        name, kind, path, line = told
        return str(name), str(kind), Place(str(path), int(line), str(name))

    def use_their_model(self) -> None:
        """Give the learner's own model to their routes again."""
        self._probe = None
        self._ask("their model")

    def post(self, path: str, body: object = None, *, content: bytes | None = None) -> Pending:
        """`POST` a JSON body (or `content` as it is)."""
        data = json.dumps(body).encode() if content is None else content
        length = ("content-length", str(len(data)))
        return self._send("POST", path, [("content-type", "application/json"), length], data)

    def get(self, path: str) -> Pending:
        """`GET` a path."""
        return self._send("GET", path, [], b"")

    def drive(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        until_it_returns: bool = False,
        taken: Probe | None = None,
        leaves_after: int | None = None,
        raises: bool = False,
    ) -> Pending:
        """Send, and see the answer leave the app piece by piece. `until_it_returns` waits for more than its end.

        Each message waits for a model `taken`, as for a server that has not taken the one before. The client leaves
        after so many turns of the app's loop, or by `leave`; with `raises` each `send` after that is an OSError.
        """
        number = None if taken is None else self._running.gate.add(taken)
        how = {"until_it_returns": until_it_returns, "taken": number, "leaves_after": leaves_after, "raises": raises}
        return self._send(method, path, [*headers], body, pieces=True, **how)

    def leave(self, request: int) -> None:
        """Have the client of a request leave."""
        self._cell.tell("leave", request=request)

    def settle(self) -> None:
        """Wait until the app's loop has run all that is ready, and no thread of its pool is at work.

        What the cell has told before is known then. Timers do not count.
        """
        self._ask("settle")

    def cancel(self, request: int) -> None:
        """Cancel a request."""
        self._cell.tell("cancel", request=request)

    def _send(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, **how: object) -> Pending:
        requests = self._running.requests
        pending = Pending(self, len(requests), method, path, time.perf_counter())
        requests.append(pending)
        headers = [("host", "localhost"), ("accept", "*/*"), ("user-agent", "lab"), *headers]
        data: dict[str, Any] = {"method": method, "path": path, "headers": headers, "body": encode(body, no_things)}
        usual = {"pieces": False, "until_it_returns": False, "taken": None, "leaves_after": None, "raises": False}
        self._cell.tell("send", app=self.number, request=len(requests) - 1, **data, **usual | how)
        return pending

    def until(
        self, done: Callable[[], object], seconds: float = ANSWER_SECONDS, horizon: float = TIMER_HORIZON
    ) -> Standstill | None:
        """Wait until `done()`; `None` then, else why it will not. Timers that are due within `horizon` count.

        The cell may say that nothing more will come. Then the kernel is looked at, and if that does not agree, the wait
        goes on for a while by this process's own clock.
        """
        watch: int | None = None
        clock, waited, last = FairClock(), 0.0, time.monotonic()
        burnt, seen = kernel.computed(self._cell.pid), self.progress()
        try:
            while not done():
                self._cell.turn(TURN)
                if done():
                    break
                clock.seconds()
                now = time.monotonic()
                waited, last = waited + min(now - last, LONGEST_ROUND), now
                if watch is None:
                    watch, seen = self._watch(seconds, horizon) if waited > SOON else None, self.progress()
                    continue
                standstill = self._running.advice.pop(watch, None)
                if standstill is None and waited > seconds + GIVE_UP:
                    return Standstill("late", busy=clock.busy)
                if standstill is None:
                    continue
                if standstill.kind == "starved":
                    raise Inconclusive(f"{standstill.words} in {seconds:g} s")
                if standstill.kind == "ended":
                    self._ask("still runs")
                moved = seen != self.progress() or self._cell.timers
                late = standstill.kind == "late" and waited > EARLIEST * seconds
                if late or (not moved and self._agrees(standstill, burnt, done)):
                    return None if done() else standstill
                watch, seen = self._watch(seconds, horizon), self.progress()
        finally:
            if watch is not None:
                self._cell.tell("enough", watch=watch)
        return None

    def go_on_until(self, done: Callable[[], object], horizon: float = TIMER_HORIZON) -> None:
        """Wait until `done()`, or until nothing happens any more. A loop that is blocked or never idle is a failure."""
        refuse_unless_settled(self.until(done, horizon=horizon), self.where_waiting)

    @contextmanager
    def causes_first(self) -> Iterator[None]:
        """If this block fails and the learner's code raised, report that exception: it is the cause."""
        with causes_first(lambda: (told := self._ask("raised")) and self.error(told), self.lines):
            yield

    def _watch(self, seconds: float, horizon: float) -> int:
        """Ask the cell to say why nothing more will come; the number that it says it with."""
        self._running.watches += 1
        number, held = self._running.watches, self._probe is not None and self._probe.held
        self._cell.tell("watch", watch=number, app=self.number, seconds=seconds, horizon=horizon, held=held)
        return number

    def _agrees(self, standstill: Standstill, burnt: float, done: Callable[[], object]) -> bool:
        """Whether the kernel agrees that nothing moves, or nothing came for long enough. False once something comes."""
        if not kernel.can_look():
            return True
        if standstill.kind == "spinning" and kernel.computed(self._cell.pid) - burnt >= SPINNING / 2:
            return True
        family, before, same, end = kernel.family(self._cell.pid), None, 0, time.monotonic() + UNPROVED
        seen = self.progress()
        while same < LOOKS and time.monotonic() < end:
            if self._cell.turn(LOOK) or self.progress() != seen or done():
                return bool(done())
            now = kernel.look(family)
            same = same + 1 if now.asleep and now == before else 0
            before = now
        return True

    def finish(self, calls: Sequence[Pending], seconds: float) -> None:
        """Wait until these calls have ended, at most so many seconds."""
        self.until(lambda: all(call.done for call in calls), seconds)

    def threads(self) -> int:
        """How many threads the cell has now, as the kernel says; where it does not, the cell."""
        return kernel.threads(self._cell.pid) or int(self._ask("threads"))

    @property
    def tasks_left(self) -> int:
        """How many tasks of the app's loop were left when its lifespan had ended, as the cell says."""
        return int(self._ask("tasks left"))

    def slept(self, where: object) -> None:
        """Take where `time.sleep` was called on the event loop's thread."""
        self._slept = self._slept or str(where)

    def where_waiting(self) -> str | None:
        """The learner's line that the loop's thread is in, else one where a task or another thread waits."""
        return self._line("waits")

    def where_responding(self) -> str | None:
        """The learner's outermost line of a request that waits, which the framework has called."""
        return self._line("responding")

    def where_locked(self) -> str | None:
        """The learner's line where a task waits for a lock."""
        return self._line("locked")

    def where_kept(self, text: str) -> str | None:
        """The learner's function that keeps this text, with something around it."""
        return self._line("keeps", text)

    def messages(self, request: int) -> Any:
        """Of a request that is driven: the lines that sent each message, and that asked for one last."""
        return self._ask("messages", request)

    def where_held_up(self, number: int) -> str | None:
        """The learner's line at which most calls wait that are not in the model, at most `number` of them."""
        return self._line("held up", number)

    def where_slept(self) -> str | None:
        """The learner's line that called `time.sleep` on the event loop's thread, if one did."""
        return self._slept

    def pool_threads_in_use(self) -> int:
        """How many threads of FastAPI's pool are in use now, as the cell says; 0 where the loop cannot say."""
        return int(self._ask("pool"))

    @contextmanager
    def pool_taken(self) -> Iterator[None]:
        """While this block runs, every thread of FastAPI's pool is taken; none where the loop is blocked."""
        self._ask("take the pool")
        try:
            yield
        finally:
            self._ask("give the pool back")

    def stop(self, seconds: float = START_SECONDS) -> None:
        """Run the app's lifespan to its end, which an idle machine would do in so many seconds."""
        self._cell.ask("stop", app=self.number, seconds=seconds)

    def error(self, told: object) -> BaseException:
        """The exception that a request ended in."""
        return self._cell.raised(told)

    def contexts(self, paths: Sequence[str], caller: str) -> list[dict[str, str]]:
        """Requests to these paths in one task: what each of them has left bound to the context, as text.

        `caller` was bound before the first of them.
        """
        left = self._ask("contexts", [list(paths), caller])
        return [{str(name): str(value) for name, value in one.items()} for one in left]

    def _ask(self, what: str, given: object = None) -> Any:
        return self._cell.ask("app", app=self.number, what=what, **{"with": given})

    def _line(self, what: str, given: object = None) -> str | None:
        line = self._ask(what, given)
        return line if type(line) is str else None


def _place(told: Any) -> Place:
    name, path, line = told
    return Place(str(path), int(line), str(name))


def _number(told: object) -> int:
    """An index that a cell tells."""
    if type(told) is not int or told < 0:
        raise Broken("no number")
    return told
