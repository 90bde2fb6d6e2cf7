"""4.4: a pool of connections to the feature store, and whose fault an error is."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import httpx
import pytest

from checks.harness.apps.feature_store import Store
from checks.harness.assertions.answers import close, content, is_number
from checks.harness.assertions.routed import routed
from checks.harness.cell.inprocess import InProcess, Pending
from checks.harness.cell.probe import NUMBERS, Probe
from checks.harness.errors import Failure, Inconclusive, LearnerError, cut
from checks.harness.grading.noise import EARLY, blame_the_machine_unless, holds_soon
from checks.harness.machine import fair_clock, load_in_words
from checks.harness.plain_words import describe
from checks.harness.report.evidence import Show
from checks.harness.workspace import Workspace
from checks.support.ex4.requests import all_done

LONG = 60.0
"""feature_store_seconds where no answer may be too slow, however busy the machine is."""
LIMIT = 0.4
"""feature_store_seconds where the store gives no answer."""
LIMITS_A_CALL = ("asyncio.timeout(", "wait_for(", "fail_after(")
"""What limits the time of a whole call of the store."""
POOL_LIMIT = 1.2
"""feature_store_seconds where callers wait longer than that for a connection."""
BETWEEN_PARTS, PARTS = 0.15, 10
"""Seconds between the parts of an answer, and their number: each read is short, all of them together are not."""
EXPIRES = 5.0
"""Seconds after which httpx gives up a connection that nobody uses, if nothing else is said (`keepalive_expiry`)."""
LOOKS = 50
"""Requests of the lab's own after which the store has seen every connection that was closed before."""
SOON = 10
"""Times as long as it should take, after which something hangs."""
AT_ONCE = 20
"""Requests between which the event loop gets its turn: a client for each of them takes long to make."""
BLOCKS = (
    "The calls go one after the other, each over a connection of its own: `httpx.get` and `requests.get` block the "
    "event loop. `await store.get(...)` of the one client does neither."
)
EACH_ITS_OWN = "Each call opens a connection of its own. Make one client, in the lifespan, and let all calls use it."
KEPT = "max_keepalive_connections"


def burst(app: InProcess, store: Store, users: Sequence[int], pool: int) -> dict[int, Pending]:
    """One request for each user, all on their way together; returns when all have ended."""
    store.seconds, calls = 0.1, dict[int, Pending]()
    for number, user in enumerate(users):
        calls[user] = app.post("/predict/enriched", {"user_id": user})
        if number % AT_ONCE == 0:
            app.until(lambda user=user: calls[user].arrived or calls[user].done)  # type: ignore[misc]
    waiting = max(1, len(users) - len(store.asked))
    store.seconds = min(0.1, 1.5 * pool / waiting)  # else the last would wait for many seconds
    app.until(lambda: all_done(calls.values()))
    return calls


def few_connections(
    app: InProcess, store: Store, users: Sequence[int], pool: int, model: Probe, show: Show, fetches: str | None
) -> None:
    """All callers at once use at most `pool` connections, and each gets its own answer.

    `fetches` is the line of what asks the store.
    """
    began = time.monotonic()
    calls = burst(app, store, users, pool)
    perhaps_renewed = pool * int((time.monotonic() - began) / EXPIRES)
    try:
        answers = {user: call.answer() for user, call in calls.items()}
    except LearnerError as error:
        if error.failure.wanted != NUMBERS or "coroutine" in error.failure.hint:
            raise
        raise AssertionError(no_features(error.failure.seen, fetches)) from None
    accepted = store.accepted
    show.number(f"{len(users)} calls, {accepted} connections", accepted)
    broken_off = sum(answer.status_code != 200 for answer in answers.values())
    if accepted <= pool + broken_off:  # each of those may have cost a connection, but the connections are not the cause
        not_called_slow(store, answers)
        all_answers_are_right(app, answers, {user: model.answer(features) for user, features in store.users.items()})
    one_by_one = store.most_open == 1 < accepted
    if store.most_open <= pool < accepted <= pool + perhaps_renewed:
        raise Inconclusive(
            f"this machine is too busy ({load_in_words()}): {accepted} connections were opened, at most "
            f"{store.most_open} at a time. httpx replaces one that was not used for {EXPIRES:g} s"
        )
    assert accepted <= pool, Failure(
        f"{len(users)} calls opened {accepted} connections to the store",
        f"at most {pool}, feature_store_connections, used again and again",
        hint := BLOCKS if one_by_one else why_so_many(app, store, users, pool),
        fetches if hint in (BLOCKS, EACH_ITS_OWN) else None,
    )


def no_features(seen: str, fetches: str | None) -> Failure:
    """The model was given something else than the list that stands in the store's answer."""
    whole = "'features'" in seen or "'{" in seen
    return Failure(
        f"of the store's answer {seen}",
        'the list of numbers alone: the store answers `{"features": [1.0, 2.0, 6.0]}`',
        """Return the list, not the whole answer: `answer.json()["features"]`, after a check of what it is."""
        if whole
        else 'The features are the list at `"features"` in the JSON of the store\'s answer.',
        fetches,
    )


def all_connections_are_used(app: InProcess, store: Store, users: Sequence[int], pool: int) -> None:
    """While the store answers nobody, as many requests reach it as there may be connections."""
    store.most_working = 0
    with store.held():
        calls = [app.post("/predict/enriched", {"user_id": user}) for user in users]
        app.until(lambda: store.most_working >= pool or all_done(calls))
    app.until(lambda: all_done(calls))
    assert store.most_working >= pool, Failure(
        f"{len(users)} callers wait, and the store gets {store.most_working} requests at a time",
        f"{pool} together, feature_store_connections",
        "`max_connections=settings.feature_store_connections`, not a number of your own, and no lock around the calls.",
    )


def not_called_slow(store: Store, answers: dict[int, httpx.Response]) -> None:
    """No caller got a 504 for what the store was at work on: it takes 0.1 s, and may take a minute."""
    asked = {path.rpartition("/")[2] for path in store.asked}
    cut = [user for user, answer in answers.items() if answer.status_code == 504 and str(user) in asked]
    assert not cut, Failure(
        f"with feature_store_seconds={LONG:g} {len(cut)} of {len(answers)} callers got 504, although the store "
        "works only 0.1 s for a request",
        "200: the store may take as long as feature_store_seconds says",
        "`httpx.Timeout(settings.feature_store_seconds, pool=None)`: httpx takes seconds, too.",
    )


def why_so_many(app: InProcess, store: Store, users: Sequence[int], pool: int) -> str:
    """A hint: one client without limits, a client for each call, or connections that are not kept."""
    if store.most_open <= pool:
        return f"At most {store.most_open} were open together, but each is closed after its call: `{KEPT}` keeps them."
    before = store.accepted
    for user in users[:3]:
        app.post("/predict/enriched", {"user_id": user}).answer()
    if store.accepted == before:
        return (
            "The client is there, and keeps its connections. It may open as many as httpx allows (100): "
            f"`limits=httpx.Limits(max_connections=..., {KEPT}=...)`."
        )
    return EACH_ITS_OWN


def all_answers_are_right(app: InProcess, answers: dict[int, httpx.Response], right: dict[int, float]) -> None:
    """Each caller got the prediction of the features that the store holds of their user."""
    statuses = Counter(answer.status_code for answer in answers.values())
    other = next((answer for answer in answers.values() if answer.status_code != 200), None)
    if other is not None:
        routed(app, other)
    said = f": {cut(other.text)}" if other is not None else ""
    assert set(statuses) == {200}, Failure(
        f"{len(answers)} callers at once got {dict(statuses)}{said}",
        "200 for all: it is no error if a request waits for a connection of our own pool",
        "`httpx.Timeout(seconds, pool=None)`: waiting for our own pool has no limit." if 504 in statuses else "",
    )
    for user, answer in answers.items():
        got: Any = content(answer).get("prediction")
        assert is_number(got), Failure(
            f"/predict/enriched answered {cut(answer.text)}",
            "{'prediction': a number}",
            "Return a `PredictResponse`.",
            app.where_routed,
        )
        assert close(got, right[user]), Failure(
            f"a user whose prediction is {right[user]!r} got {got!r}",
            "the model's answer to the features of that user",
            "`await model.predict(features)` of all the features that this request has fetched, as they are.",
            app.where_routed,
        )


def where_in_the_file(workspace: Workspace, *texts: str) -> str | None:
    """The line of lab/feature_store.py that holds the first of these texts that is there; None where none is."""
    file = workspace.tree / "lab" / "feature_store.py"
    return next(filter(None, (workspace.where_written(file, text) for text in texts)), None)


def waiting_for_our_own_pool(
    app: InProcess, store: Store, users: Sequence[int], pool: int, workspace: Workspace
) -> None:
    """A request waits for a connection as long as it takes, also where the store keeps all of them busy for long.

    The store answers in parts: each read is well within feature_store_seconds, all of them together are not.
    """
    before = len(store.asked)
    with fair_clock() as clock:
        store.seconds, store.parts = BETWEEN_PARTS, PARTS
        calls = {user: app.post("/predict/enriched", {"user_id": user}) for user in users}
        app.until(lambda: len(store.asked) - before >= pool or all_done(calls.values()))
        store.seconds, store.parts = 0, 1  # from here on it is quick: what has waited is served at once
        app.until(lambda: all_done(calls.values()))
    got = {user: status_or_timeout(call) for user, call in calls.items()}
    if set(got.values()) == {200}:
        return
    limit_at = where_in_the_file(workspace, *LIMITS_A_CALL)
    began = {user for user in users if any(path.endswith(f"/{user}") for path in store.asked[before:])}
    never = [one for user, one in got.items() if one != 200 and (user not in began or one == "PoolTimeout")]
    if never:
        failure = Failure(
            f"{len(never)} of {len(users)} callers who waited for one of our {pool} connections got {never[0]}",
            "200: waiting for a connection of our own pool is no error, however long it takes",
            "`httpx.Timeout(seconds, pool=None)`: a plain number limits the wait for the pool, too. A limit around the "
            "whole call limits it as well.",
            limit_at,
        )
    else:
        failure = Failure(
            f"the store's answer came in parts, one every {BETWEEN_PARTS} s: callers got "
            f"{sorted({str(one) for one in got.values()} - {'200'})}",
            f"200: connecting may take feature_store_seconds={POOL_LIMIT}, and so may each read, as httpx counts them",
            "Give the limit to httpx: `timeout=httpx.Timeout(seconds, pool=None)`. It counts each read anew.",
            limit_at,
        )
    # All connections were open and served what they began: no other time can have been over than that of our own pool.
    proved = never and len(began) >= pool and all(got[user] == 200 for user in began)
    if not proved and "PoolTimeout" not in never:
        in_doubt = "whether waiting for a connection of our own pool is an error"
        blame_the_machine_unless(lambda: reads_in_parts(store, users[0]), 1, clock, in_doubt, likely=failure)
    raise AssertionError(failure)


def status_or_timeout(call: Pending) -> int | str:
    """The status that a caller got, or the name of the timeout of httpx's in which the learner's code ended."""
    try:
        return int(call.answer().status_code)
    except (NotImplementedError, Inconclusive):
        raise
    except Exception as error:
        if not of_httpx(error, httpx.TimeoutException):
            raise
        return type(error).__name__


def reads_in_parts(store: Store, user: int) -> float:
    """1 if the lab's own client gets such an answer, 0 if a part of it takes too long."""
    store.seconds, store.parts = BETWEEN_PARTS, PARTS
    try:
        httpx.get(f"{store.url}/features/{user}", timeout=POOL_LIMIT, trust_env=False)
    except httpx.TimeoutException:
        return 0
    finally:
        store.seconds, store.parts = 0, 1
    return 1


def no_user_id_is_refused(app: InProcess) -> None:
    """A body without a user id gets a 422."""
    bodies = ["{}", '{"user_id": null}', '{"user_id": "seven"}', '{"user_id": 1.5}', '{"user_id": [7]}', "no JSON"]
    for body in [*bodies, '{"user_id": "7"}', '{"user_id": true}']:
        status = app.post("/predict/enriched", content=body.encode()).answer().status_code
        assert status == 422, Failure(
            f"/predict/enriched answered {body} with {status}",
            "422",
            "`user_id: Annotated[int, Field(strict=True)]` takes integers only: text and true are not integers.",
        )


class Case(NamedTuple):
    """What the store did, what our caller must get, and what it did get."""

    what: str
    wanted: int
    got: int | Exception
    call: Pending

    @property
    def row(self) -> str:
        """What the store did, in the few words of a table."""
        return self.what.removeprefix("the store ").replace(" with nonsense:", ",")

    @property
    def is_followed(self) -> bool:
        """Whether a redirect was taken for an answer."""
        return "302" in self.what and self.got == 200

    @property
    def hint(self) -> str:
        """What mends exactly this."""
        if of_httpx(self.got, httpx.HTTPStatusError):
            return (
                "`raise_for_status` raises the same exception for each status: look at `answer.status_code`. The "
                "store's 404 is a 404, and any other but 200 is a 502."
            )
        if of_httpx(self.got):
            return "`except httpx.TimeoutException` for a 504, then `except httpx.HTTPError` for a 502."
        if isinstance(self.got, Exception):
            return (
                "Look at the status first. Then parse the body with a pydantic model, and answer 502 at "
                "`ValidationError`."
            )
        match self.wanted, self.got:
            case 404, _:
                return "The store does not know that user. That is the caller's mistake: a 404."
            case 502, 404:
                return "Only the store's 404 is a 404. Compare with that status alone."
            case 502, 200 if self.is_followed:
                return (
                    "A redirect is not an answer: compare with 200, `answer.status_code != 200`, and leave "
                    "`follow_redirects` off."
                )
            case 502, 200 if "nonsense" in self.what:
                return "Check the body before you use it: a list of one or more finite numbers."
            case 502, 200:
                return "Look at `answer.status_code` before you read the features."
            case 504, 502:
                return (
                    "`except httpx.TimeoutException` stands before `except httpx.HTTPError`: a TimeoutException "
                    "is an HTTPError, too."
                )
        return "404: an unknown user. 504: httpx.TimeoutException. 502: whatever else goes wrong at the store."


class Errors:
    """Collects what our caller gets for each thing that the store does, in one table."""

    def __init__(self, workspace: Workspace, store: Store, opens: str) -> None:
        self.workspace, self.store, self.opens = workspace, store, opens
        self.cases: list[Case] = []

    def add(self, app: InProcess, user: int, wanted: int, what: str) -> Pending:
        """Send a request for this user, and note what came back."""
        call = app.post("/predict/enriched", {"user_id": user})
        app.until(lambda: call.done, horizon=30)
        reached = any(path.endswith(f"/{user}") for path in self.store.asked)
        if not call.done and not reached and what.startswith("the store answers"):
            raise AssertionError(
                Failure(
                    f"{what}, and our caller gets nothing: the request does not reach the store. Earlier answers that "
                    "were not 200 keep their connections",
                    "each answer gives its connection back, whatever its status",
                    "`await store.get(...)` reads an answer to its end. Close an answer of `stream=True` in "
                    "`finally:`, `await answer.aclose()`.",
                )
            )
        if not call.done:
            seen = f"{what}, and our caller gets nothing: no time limit ends the request"
            hint = "`timeout=httpx.Timeout(settings.feature_store_seconds, pool=None)` for the client."
            raise AssertionError(Failure(seen, f"{wanted} after feature_store_seconds", hint, self.opens))
        try:
            got: int | Exception = call.answer().status_code
        except (NotImplementedError, Inconclusive):
            raise
        except Exception as error:
            got = error
        self.cases.append(Case(what, wanted, got, call))
        return call

    def judge(self, show: Show) -> None:
        """Show the table, and fail with the first case in which our caller got something else than wanted."""
        wrong = [case for case in self.cases if case.got != case.wanted]
        if not wrong:
            return
        rows = [(one.row, one.wanted, _short(one.got), "<- wrong" if one in wrong else "") for one in self.cases]
        show.table("what the store does, and what our caller gets", ("the store", "wanted", "got", ""), rows)
        first = wrong[0]
        if isinstance(first.got, LearnerError):  # such as a model that was given what is no list of numbers
            failure = first.got.failure
            where = failure.where or self.workspace.where_raised(first.got.__traceback__)
            raise LearnerError(f"{first.what}, and {failure.seen}", where, wanted=str(first.wanted), hint=first.hint)
        if isinstance(first.got, Exception):
            where = self.workspace.where_raised(first.got.__traceback__)
            if where is None:
                raise first.got
            seen = f"{first.what}, and your code raised {describe(first.got)}"
            raise LearnerError(seen, where, wanted=str(first.wanted), hint=first.hint)
        more = f" ({len(wrong)} of {len(self.cases)} cases are wrong)" if len(wrong) > 1 else ""
        where = where_in_the_file(self.workspace, "follow_redirects=True") if first.is_followed else None
        raise AssertionError(
            Failure(f"{first.what}, and our caller gets {first.got}{more}", str(first.wanted), first.hint, where)
        )


def _short(got: int | Exception) -> str:
    if isinstance(got, LearnerError):
        return "an exception"
    return type(got).__name__ if isinstance(got, Exception) else str(got)


def answers_of_the_store(errors: Errors, app: InProcess, store: Store, rng: random.Random) -> None:
    """Whatever the store answers is neither the caller's fault nor ours."""
    nonsense = ["no JSON", "[]", "null", "{}", '{"features": []}', '{"features": ["a"]}', '{"features": [null]}']
    nonsense += ['{"features": 1}', '{"features": [NaN]}', '{"features": [1e999]}', '{"features": "123"}', ""]
    cases: list[tuple[int, tuple[int, str], str]] = [(404, (404, "{}"), "the store answers 404")]
    cases += [
        (502, (status, '{"features": [1.0]}'), f"the store answers {status}") for status in (500, 429, 302, 204, 206)
    ]
    cases += [(502, (200, body), f"the store answers 200 with nonsense: {body or 'nothing'}") for body in nonsense]
    for wanted, reply, what in cases:
        user = rng.randrange(10**6, 10**7)
        store.replies[user] = reply
        errors.add(app, user, wanted, what)


def silence_of_the_store(errors: Errors, app: InProcess, store: Store, user: int) -> Callable[[], None]:
    """The store gives no answer; returns what judges how long our caller waited."""
    store.replies[user] = None
    with fair_clock() as clock:
        call = errors.add(app, user, 504, "the store does not answer")
    took = (call.finished or call.sent) - call.sent

    def in_time() -> None:
        wanted = f"after feature_store_seconds={LIMIT}"
        hint = "`httpx.Timeout(settings.feature_store_seconds, pool=None)`, not a number of your own."
        assert took >= LIMIT - EARLY, Failure(f"504 after {took:.2f} s", f"{wanted}, not before", hint)
        if took > SOON * LIMIT:
            in_doubt = "how long a caller waits for a 504"
            blame_the_machine_unless(lambda: SOON * LIMIT / seconds_of_a_timeout(store, user), 1, clock, in_doubt)
        assert took <= SOON * LIMIT, Failure(f"504 after {took:.1f} s", wanted, hint)

    return in_time


def seconds_of_a_timeout(store: Store, user: int) -> float:
    """How long the lab's own client waits for an answer that does not come."""
    started = time.perf_counter()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{store.url}/features/{user}", timeout=LIMIT, trust_env=False)
    return time.perf_counter() - started


def of_httpx(error: object, base: type[Exception] = httpx.HTTPError) -> bool:
    """Whether it is such an error of httpx. One from a cell has the name of its class, and not the class."""
    kind = getattr(httpx, type(error).__name__, None)
    return isinstance(kind, type) and issubclass(kind, base)


def all_connections_are_closed(store: Store, apps: Sequence[Any]) -> None:
    """After the apps have ended, no connection to the store is open."""
    for app in apps:
        app.stop()
    left = connections_left(store)
    if left == 1:  # it may be the lab's own
        holds_soon(lambda: not store.open, 5, "whether a connection stays open")
        left = store.open
    assert not left, Failure(
        f"{left} connections to the store are still open when the service has ended",
        "all closed",
        "`async with httpx.AsyncClient(...) as store: yield store` closes them when the lifespan ends.",
    )


def connections_left(store: Store) -> int:
    """The fewest connections that were open while the lab's own client came and went.

    No clock: each answer of the store shows that it has seen what was closed before.
    """
    fewest = store.open
    for _ in range(LOOKS):
        if fewest == 0:
            break
        httpx.get(f"{store.url}/features/0", timeout=LONG, trust_env=False)
        time.sleep(0.02)
        fewest = min(fewest, store.open)
    return fewest
