"""The learner's apps in a cell. The judge asks for one, sends it requests, and is told what became of them.

What it is told decides nothing by itself: an answer is data, which the judge compares, and all else explains.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from checks.harness.cell.exchange import Exchange
from checks.harness.cell.factory import app_around, app_with, enter_lifespan, held_decoder, make_app
from checks.harness.cell.gate import BatchProbe, DecoderPort, Gate, Probe, Tell
from checks.harness.cell.given_routes import ROUTES
from checks.harness.cell.inprocess import Driven, InProcess, Pending
from checks.harness.cell.sleep_spy import SLEEPS
from checks.harness.cell.stacks import Stack
from checks.harness.cell.wire import Broken, decode, encode, no_things
from checks.harness.errors import LearnerError, Unanswered
from checks.harness.source_lines import SourceLines

Describe = Callable[[BaseException], dict[str, Any]]
Defined = Callable[[Any], list[Any] | None]


class Apps:
    """What runs in this cell. `describe` makes data of an exception, `defined` of a function: its file and line."""

    def __init__(self, tell: Tell, describe: Describe, defined: Defined) -> None:
        self._tell, self._describe, self._defined = tell, describe, defined
        self._gate = Gate(tell)
        self._apps: dict[int, InProcess] = {}
        self._requests: dict[int, Pending] = {}
        self._driven: dict[int, Driven] = {}
        """Those whose pieces are told, also when they have ended."""
        self._watches: dict[int, threading.Event] = {}
        self._taken = ExitStack()
        self._sleepers: set[int] = set()
        self.lines = SourceLines(Path())
        """Names the learner's lines."""

    # -- asked by the judge, one after the other

    def asked(self, message: dict[str, Any]) -> Any:
        """Do what a message says; the data that it gives."""
        match message["do"]:
            case "spy":
                self._spy()
            case "create":
                make_app(importlib.import_module("lab.service"), self.lines)
            case "lifespan":
                enter_lifespan(importlib.import_module("lab.service"))
            case "start":
                self._start(message)
            case "stop":
                self._apps[message["app"]].stop(message["seconds"])
            case _:
                return self._say(self._apps[message["app"]], message["what"], message["with"])
        return None

    def _spy(self) -> None:
        """Notice every `time.sleep` of the learner's code, which is not loaded yet."""
        SLEEPS.install()
        SLEEPS.noticed = self._slept

    def _start(self, message: dict[str, Any]) -> None:
        """Start the app of the learner's `create_app` with these settings, and with these probes for its models.

        With `own_way` the probe stands at `app.state.model`, where the learner's own `get_model` finds it. `routes` of
        the lab's own are served as well. With `around`, a middleware and its metrics, these routes are all there is.
        """
        model = None if message["probe"] is None else Probe(self._gate, message["probe"])
        batch_model = None if message["batch_probe"] is None else BatchProbe(self._gate, message["batch_probe"])
        decoder = message["decoder"] and DecoderPort(self._gate, message["decoder"]["probe"])
        routes = message["routes"] and self._routes(**message["routes"])
        if message["around"]:
            middleware, metrics = message["around"]
            running = app_around(middleware, metrics, routes, self.lines)
        else:
            service, given = importlib.import_module("lab.service"), importlib.import_module("lab.settings")
            models: dict[str, Any] = {
                "model": None if message["own_way"] else model,
                "batch_model": batch_model,
                "decoder": decoder and held_decoder(message["decoder"]["slots"], decoder),
            }
            running = app_with(service, given.Settings(**message["settings"]), self.lines, routes=routes, **models)
        self._apps[message["app"]] = running
        running.start()
        if message["own_way"]:  # a lifespan may warm its model up, which must not be held
            running.app.state.model = model

    def _routes(self, name: str, gates: list[int], plan: dict[str, Any]) -> Any:
        return ROUTES[name](importlib.import_module("lab.timing"), [Probe(self._gate, gate) for gate in gates], plan)

    def _say(self, running: InProcess, what: str, given: Any) -> Any:
        match what:
            case "waits":
                return running.where_waiting()
            case "messages":
                driven = self._driven[given]
                return {"senders": driven.senders, "receiver": driven.receiver}
            case "responding":
                return running.where_responding()
            case "locked":
                return running.where_locked()
            case "keeps":
                return running.where_kept(given)
            case "held up":
                return running.where_held_up(given)
            case "refused":
                return running.where_refused
            case "still runs":
                return running.still_runs()
            case "raised":
                return None if running.raised is None else self._describe(running.raised)
            case "their model":
                return running.use_their_model()
            case "plain dependency":
                found = running.plain_dependency
                return found and [*found[:2], *(self._defined(found[2]) or ["", 1])[:2]]
            case "threads":
                return running.threads()
            case "contexts":
                return running.contexts(*given)
            case "tasks left":
                return running.tasks_left
            case "pool":
                return running.pool_threads_in_use()
            case "settle":
                return running.settle()
            case "take the pool":
                return self._taken.enter_context(running.pool_taken())
            case "give the pool back":
                return self._taken.close()
            case _:
                return [
                    [sorted(one.methods), one.path, self._named(one.handler), [*map(self._named, one.beside.values())]]
                    for one in running.routes
                ]

    def _named(self, function: Any) -> list[Any]:
        return [function.__name__, *(self._defined(function) or ["", 1])[:2]]

    # -- told by the judge, on the thread that reads: none of this waits or writes

    def told(self, message: dict[str, Any]) -> None:
        """Do what needs no reply."""
        match message["tell"]:
            case "send":
                self._send(message)
            case "cancel":
                if pending := self._requests.get(message["request"]):
                    pending.cancel()
            case "leave":
                if isinstance(driven := self._requests.get(message["request"]), Driven):
                    driven.leave()
            case "go":
                self._gate.go(message["call"], message)
            case "watch":
                over = self._watches[message["watch"]] = threading.Event()
                threading.Thread(target=self._watch, args=(message, over), name="watch", daemon=True).start()
            case "enough":
                if over_now := self._watches.pop(message["watch"], None):
                    over_now.set()

    def _send(self, message: dict[str, Any]) -> None:
        app = self._apps[message["app"]]
        headers = [(name, value) for name, value in message["headers"]]
        request, body = message["request"], decode(message["body"], no_things)
        taken = None if message["taken"] is None else Probe(self._gate, message["taken"])

        def listen(pending: Driven) -> None:
            pending.arrives = lambda: self._tell("arrived", request=request)
            pending.returns = lambda: self._tell("returned from", request=request, swallowed=pending.swallowed)
            if message["pieces"]:
                self._driven[request] = pending
                pending.moves = partial(self._left, request, pending, [])
            self._requests[request] = pending

        how = {name: message[name] for name in ("until_it_returns", "leaves_after", "raises")} | {
            "taken": taken,
            "listen": listen,
        }
        pending = app.drive(message["method"], message["path"], headers, body, **how)
        pending.when_done(lambda outcome: self._ended(request, pending, outcome))

    # -- told to the judge

    def _ended(self, request: int, pending: Pending, outcome: Future[Exchange]) -> None:
        """On the app's loop."""
        del self._requests[request]
        if outcome.cancelled():  # what comes of it is told when the app returns
            return None
        endpoint = self._defined(pending.endpoint) if pending.endpoint else None
        error = outcome.exception()
        if error is None and outcome.result().status is None:
            error = Unanswered(f"{pending.asked}: its client had left before the answer began")
        if error is None:
            got = outcome.result()
            fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in got.fields]
            try:
                data = {"status": got.status, "fields": fields, "body": encode(got.body, no_things)}
                return self._tell("ended", request=request, endpoint=endpoint, **data)
            except Broken:
                error = LearnerError(f"{pending.asked} was answered with {len(got.body):,} bytes")
        return self._tell("ended", request=request, endpoint=endpoint, raised=self._describe(error))

    def _left(self, request: int, pending: Driven, told: list[bytes]) -> None:
        """On the app's loop: tell of the status and the pieces that have left it meanwhile."""
        if not told:
            self._tell("answering", request=request, status=pending.status)
        for _, piece in pending.pieces[len(told) :]:
            told.append(piece)
            self._tell("piece", request=request, body=encode(piece, no_things))

    def _watch(self, message: dict[str, Any], over: threading.Event) -> None:
        app = self._apps[message["app"]]
        app.watch.held_by = lambda thread: message["held"] and self._gate.holds(thread)
        standstill = app.watch.until(
            over.is_set, lambda: (app.moves, self._gate.moves), message["seconds"], message["horizon"]
        )
        app.note(standstill)
        self._watches.pop(message["watch"], None)
        if standstill:
            self._tell("still", watch=message["watch"], kind=standstill.kind, busy=standstill.busy)

    def _slept(self, stack: Stack, thread: int) -> None:
        """The first of an app is told: word of each would keep the judge waiting for as long as a loop naps."""
        for number, app in [*self._apps.items()]:
            if number not in self._sleepers and (where := app.slept_at(stack, thread)):
                self._sleepers.add(number)
                self._tell("slept", app=number, where=where)
