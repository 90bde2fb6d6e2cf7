"""How the service is asked, and what must come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from statistics import fmean
from typing import Any

import httpx

from checks.harness.assertions.answers import close, content, is_number, short
from checks.harness.assertions.routed import routed
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import Call, Probe
from checks.harness.errors import Failure, LearnerError, Needs, cut
from checks.harness.fixtures import Service
from checks.harness.judge.handles import awaitable, awaited
from checks.harness.processes.single_requests import FEATURES
from checks.harness.source_lines import SourceLines

STREAMED = ("application/jsonl", "application/x-ndjson", "text/event-stream")
"""Media types of a stream, in which one answer is a line."""
NEVER_CALLED, DEPENDS = "the model was never called", "the route calls the model that Depends(get_model) gives it"
LOCAL = "Keep what belongs to one request in local variables: not on the module, the app or the model."


def handler_hint(path: str) -> str:
    """The two lines of the handler of one of the three prediction routes."""
    call = "await model.predict(body.features)" if path == "/predict" else "model.predict_blocking(body.features)"
    return (
        f"Two lines: `answer = {call}` and `return PredictResponse(prediction=answer)`. "
        "Take the model from the parameter `model: Model`: this checkpoint replaces it by a model of its own."
    )


def features(rng: Random) -> list[float]:
    """Random features, unlike any others."""
    return [rng.uniform(-100, 100) for _ in range(rng.randint(2, 8))]


def ask(app: InProcess, path: str, rng: Random, number: int) -> dict[tuple[float, ...], Pending]:
    """Send so many requests at once: the features of each, with its request."""
    questions = [features(rng) for _ in range(number)]
    return {tuple(question): app.post(path, {"features": question}) for question in questions}


def prediction(app: InProcess, answer: httpx.Response, where: str | None = None, *, any_name: bool = False) -> float:
    """The number in `{"prediction": ...}`; with `any_name` the only number in the object, whatever its name."""
    routed(app, answer)
    path, status, text = answer.url.path, answer.status_code, cut(answer.text)
    hint = {
        422: "The field is called `features`, and integers are numbers, too. A dependency is not part of the body.",
    }
    assert status == 200, Failure(f"{path} gave {status}: {text}", wanted="200", hint=hint.get(status, ""), where=where)
    fields = content(answer, "`return PredictResponse(prediction=answer)`: an object with one field.", where)
    number: Any = fields.get("prediction")
    service = app.lines.tree / "lab" / "service.py"
    if number is None and any_name and len(fields) == 1:
        number = next(iter(fields.values()))
    assert is_number(number), Failure(
        f"{path} answered {text}",
        wanted="{'prediction': a number}",
        hint="`return PredictResponse(prediction=answer)`, whose field has this name.",
        where=(app.lines.where_written(service, "class PredictResponse") if number is None else None) or where,
    )
    return float(number)


def number_in(request: Pending) -> float | None:
    """The only number in the answer to a request, if there is one."""
    with suppress(Exception):
        numbers = [value for value in content(request.answer()).values() if is_number(value)]
        return float(numbers[0]) if request.done and len(numbers) == 1 else None
    return None


def the_models_own(
    app: InProcess,
    request: Pending,
    question: Sequence[float],
    calls: Sequence[Call],
    lines: SourceLines,
    earlier: Sequence[Call] = (),
    others: Sequence[Call] = (),
) -> None:
    """The answer to `request` is what the model answered to `question`, in the one call that it got.

    `earlier` are calls of requests before it, `others` those of requests beside it.
    """
    answer = request.answer()
    where = app.where_routed
    _routes_at_all(app, answer)
    other_name = request.path != "/predict" and "prediction" not in answer.text and _is_named_so(app, answer)
    got = prediction(app, answer, where, any_name=other_name)
    media = answer.headers.get("content-type", "").partition(";")[0]
    assert media not in STREAMED, Failure(
        f"{request.path} answered a stream of JSON lines ({media})",
        wanted="one JSON object (application/json)",
        hint="`return` in the place of `yield`: FastAPI makes a stream of what a handler yields.",
        where=where,
    )
    if any(call.features == tuple(question) for call in earlier) and not calls:
        raise LearnerError(
            "the model was not called for a question that had been asked before",
            where,
            wanted="a call for each request",
            hint="No cache: an answer that was kept hides what a model call costs.",
        )
    if not calls:
        raise LearnerError(NEVER_CALLED, where, wanted=DEPENDS, hint=handler_hint(request.path))
    at = lines.where(*calls[-1].caller) or where
    assert len(calls) == 1, Failure(
        f"the model was called {len(calls)} times for one request",
        wanted="exactly once",
        hint="Call it once, and keep its answer in a variable: each call costs the model's whole time.",
        where=at,
    )
    assert calls[0].features == tuple(question), Failure(
        f"the model was given {short(calls[0].features)}",
        wanted=f"what was sent: {short(question)}",
        hint="Pass `body.features` to the model unchanged: the same numbers in the same order.",
        where=at,
    )
    mixed_up = any(close(got, call.answer or 0.0) for call in others if call.features != calls[0].features)
    assert close(got, calls[0].answer or 0.0) or not mixed_up, Failure(
        f"a caller got {got!r}, the model's answer to another caller's question",
        wanted=f"the answer to its own question, {calls[0].answer!r}",
        hint=LOCAL,
        where=where,
    )
    assert close(got, calls[0].answer or 0.0), Failure(
        f"the model answered {calls[0].answer!r}, the caller got {got!r}",
        wanted="the model's own answer",
        hint="Return the model's number as it is: not rounded, not converted, not kept from before.",
        where=where,
    )


def all_the_models_own(
    app: InProcess, calls: dict[tuple[float, ...], Pending], probe: Probe, lines: SourceLines
) -> None:
    """Each answer is the model's own, also to a question that comes once more."""
    strays = [call for call in probe.calls if call.features not in calls]
    for question, call in calls.items():
        own = [one for one in probe.calls if one.features == question]
        the_models_own(app, call, question, own, lines, others=probe.calls)
    assert not strays, Failure(
        f"the model was called with {short(strays[0].features)}, which no request had sent",
        wanted="one call for each request, with its own features",
        hint="Pass `body.features` to the model once, and unchanged.",
        where=lines.where(*strays[0].caller),
    )
    question, first = next(iter(calls.items()))
    earlier = [*probe.calls]
    again = app.post(first.path, {"features": [*question]})
    again.answer()
    the_models_own(app, again, question, probe.calls[len(earlier) :], lines, earlier)


def is_an_app_of_its_own(app: InProcess, service: Service, rng: Random) -> None:
    """A second app with a model of its own takes nothing away from the first."""
    question, other = features(rng), Probe(held=False, seconds=0)
    service(model=other)
    app.post("/predict", {"features": question}).answer()
    assert not other.asked, Failure(
        "`create_app(...)` was called twice, and a request to the first app reached the model of the second app",
        wanted="a new app at each call",
        hint="`app = FastAPI(...)` belongs in `create_app`: all calls share an object of the module.",
    )


def one_call_each(service: Service, question: list[float], lines: SourceLines) -> None:
    """Two requests with one question, at the same time, are two calls of the model."""
    probe = Probe()
    app = service(model=probe)
    requests = [app.post("/predict", {"features": question}) for _ in range(2)]
    app.until(lambda: probe.inside == 2)
    probe.open()
    app.until(lambda: all(request.done for request in requests))
    if len(probe.calls) < 2:
        raise LearnerError(
            "the model was called once for two requests with the same question",
            lines.where_defined(requests[0].endpoint),
            wanted="a call for each request",
            hint="A request shares no call, no task and no answer with another one.",
        )


def title_of(app: InProcess) -> object:
    """The title of an app, from the page that FastAPI makes of all routes; None without that page."""
    page = app.get("/openapi.json").answer()
    about = content(page).get("info") if page.status_code == 200 else None
    return about.get("title") if isinstance(about, dict) else None


def what_health_lacks(fields: dict[str, Any]) -> str:
    """The hint for an answer of /health that is not the one that is wanted."""
    pid = fields.get("pid")
    if fields.get("status") != "ok":
        return 'The answer needs `"status": "ok"`, spelled like this.'
    if pid is None:
        return '`"pid"` is missing: `return {"status": "ok", "pid": os.getpid()}`.'
    if not isinstance(pid, int):
        return "`os.getpid()` gives a number: put it there as it is, not as text."
    return "Call `os.getpid()` for each answer: a value from before a fork belongs to another process."


def _routes_at_all(app: InProcess, answer: httpx.Response) -> None:
    """Leave it to 1.1 if the app has no routes."""
    looked_at = app.looked_at
    if answer.status_code == 404 and app.get("/health").answer().status_code == 404:
        raise Needs("1.1", "GET /health gives 404, too")
    app.looked_at = looked_at


def _is_named_so(app: InProcess, answer: httpx.Response) -> bool:
    """Whether /predict names its number like this answer: 1.2 reports that."""
    looked_at = app.looked_at
    with suppress(Exception):
        return content(app.post("/predict", content=FEATURES).answer()).keys() == content(answer).keys()
    app.looked_at = looked_at
    return False


def reached(
    app: InProcess, probe: Probe, calls: dict[tuple[float, ...], Pending], service: Service | None = None
) -> None:
    """Go on only if the model was called at all: if not, the first answer says why.

    With `service` a single request is tried as well: if that does not reach the model either, 1.2 reports it.
    """
    if probe.calls:
        return
    if service is not None:
        other = Probe(held=False, seconds=0)
        _single(service(model=other))
        if not other.calls:
            raise Needs("1.2", "a single request does not reach the model either")
    answer = next(iter(calls.values())).answer()
    _routes_at_all(app, answer)
    prediction(app, answer, app.where_routed)
    raise LearnerError(NEVER_CALLED, app.where_routed, wanted=DEPENDS, hint=handler_hint(answer.url.path))


def _single(app: InProcess) -> None:
    """One request to /predict, whatever comes of it; a stub still says what it is."""
    try:
        app.post("/predict", content=FEATURES).answer()
    except NotImplementedError:
        raise
    except Exception:
        return


def own_answers(
    app: InProcess,
    calls: dict[tuple[float, ...], Pending],
    where: str | None,
    *,
    right: Callable[[Sequence[float]], float] = fmean,
    first: str = "",
) -> None:
    """Each of these requests gets the answer that it gets alone. `right` is the model's answer to a question.

    `first` reports what fails alone, too.
    """

    def alone(question: Sequence[float]) -> float:
        return prediction(app, app.post("/predict", {"features": question}).answer(), any_name=True)

    answers = {}
    for question, call in calls.items():
        try:
            answers[question] = prediction(app, call.answer(), app.where_routed, any_name=True)
        except NotImplementedError:
            raise
        except Exception:
            if first and _fails(partial(alone, question)):
                raise Needs(first, "a single request fails in the same way") from None
            raise
    for question, got in answers.items():
        if close(got, right(question)):
            continue  # else it is wrong, but is it another caller's? 1.2 judges what is wrong for a single request, too
        expected = alone(question)
        others = any(close(got, right(other)) for other in answers)
        whose = ", the answer to another caller's question" if others else ""
        assert close(got, expected), Failure(
            f"a caller got {got!r}{whose}", wanted=f"{expected!r}, as for a single request", hint=LOCAL, where=where
        )
    if len({*answers.values()}) == 1:
        if len({alone(question) for question in [*answers][:3]}) == 1:
            raise Needs("1.2", "single requests all get the same answer, too")
        raise LearnerError(
            f"{len(answers)} different questions got one answer",
            where,
            wanted="a different answer for each question",
            hint=LOCAL,
        )


def _fails(work: Callable[[], object]) -> bool:
    with suppress(Exception):
        work()
        return False
    return True


def must_be_awaitable(model: Any) -> None:
    """The learner's own predict can be awaited, and does not raise: else 1.3 reports it."""
    try:
        call = model.predict([1.0])
        if awaitable(call):
            awaited(call)
            return
        reason = "cannot be awaited"
    except NotImplementedError:
        raise
    except Exception as error:
        reason = f"raises {type(error).__name__}"
    raise Needs("1.3", f"the model's predict {reason}")
