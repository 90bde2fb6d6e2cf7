"""Python's own errors, and its libraries', in plain words, with a hint for each where one is known."""

from __future__ import annotations

import builtins
import re
from typing import NamedTuple

from checks.harness import missing

_AWAIT = (
    "An `async def` gives a coroutine: put `await` in front of the call, where the name gets its value. A plain `def` "
    "cannot await: there call the blocking function, `model.predict_blocking(...)`."
)
_RETURN = "The value is None: a function ended without `return`."
_CONTEXTMANAGER = "A function under `@contextmanager` needs exactly one `yield`, on every way through it."
_ROUTE = "A parameter that is not part of the request comes from a dependency: `model: Model`, or `= Depends(...)`."


class Known(NamedTuple):
    """An exception whose name and words match `pattern`.

    `plain` is what it means, where its own words do not say so. In `hint` `\\1` is the first group of the match. With
    `instead` the plain words stand in the place of the exception's own, which are about something else.
    """

    pattern: str
    plain: str
    hint: str
    instead: bool = False


KNOWN = (
    Known(
        r"<coroutine object",
        "a coroutine was given where a value is wanted: an `await` is missing",
        _AWAIT,
        instead=True,
    ),
    Known(
        r"cannot reuse already awaited coroutine",
        "",
        "A coroutine can be awaited once: call the `async def` each time.",
    ),
    Known(
        r"'coroutine' object does not support the asynchronous context manager",
        "`async with` was given a coroutine, but only `await` takes one",
        "Await a coroutine, do not enter it: `async with asyncio.timeout(...)` limits a block, `await "
        "asyncio.wait_for(...)` limits one call.",
    ),
    Known(
        r"'async_generator' object does not support the (asynchronous )?context manager",
        "`@asynccontextmanager` is missing above the function",
        "Put `@asynccontextmanager` above it, from `contextlib`.",
    ),
    Known(
        r"'generator' object does not support the (asynchronous )?context manager",
        "`@contextmanager` is missing above the function",
        "Put `@contextmanager` above it, or `@asynccontextmanager`.",
    ),
    Known(
        r"'function' object does not support the (asynchronous )?context manager",
        "it is not called",
        "`with` takes what the function returns: call it, `with name(...):`.",
    ),
    Known(
        r"does not support the asynchronous context manager",
        "",
        "`async with` takes an object with `__aenter__`, such as `asyncio.Lock()`. For other objects use a plain "
        "`with`, which an `async def` may contain, too.",
    ),
    Known(
        r"'(Lock|Semaphore|BoundedSemaphore|Condition|Timeout)' object does not support the context manager",
        "",
        "asyncio's \\1 takes `async with`.",
    ),
    Known(
        r"does not support the context manager",
        "",
        "`with` takes an object with `__enter__`: is `@contextmanager` above it?",
    ),
    Known(
        r"object is not an iterator|generator didn't yield",
        "a function under `@contextmanager` needs one `yield`",
        _CONTEXTMANAGER,
    ),
    Known(r"generator didn't stop", "a function under `@contextmanager` may `yield` only once", _CONTEXTMANAGER),
    Known(
        r"'coroutine' object|of type 'coroutine'|: 'coroutine' and|and 'coroutine'|not 'coroutine'|not coroutine",
        "a coroutine, not its value: an `await` is missing",
        _AWAIT,
    ),
    Known(
        r"InvalidStateError: invalid state",
        "a future that already has a result was given another one",
        "A future takes only one result: check `if not future.done():` before you set it.",
    ),
    Known(
        r"async_generator can't be used in 'await' expression",
        "an `async def` with a `yield` in it is a generator, which `await` does not take",
        "`return` gives the answer of an `async def`, where there is no `yield` in it.",
    ),
    Known(
        r"can't be used in 'await' expression",
        "",
        "`await` takes a coroutine, a task or a future, such as `await asyncio.sleep(...)`. For a plain value "
        "leave out the `await`.",
    ),
    Known(
        r"__call__\(\) missing 2 required positional arguments",
        "add_middleware wants the class, not an object",
        "`app.add_middleware(TheMiddleware, name=value)`.",
        instead=True,
    ),
    Known(
        r"'Probe' object has no attribute '(\w+)'",
        "the model has no `\\1`",
        "A model has two methods, `await model.predict(features)` and `model.predict_blocking(features)`, and "
        "nothing else that a route may use: a checkpoint replaces the model by one of its own.",
        instead=True,
    ),
    Known(
        r"'(?:Probe|SimulatedModel)' object is not callable|object (?:Probe|SimulatedModel) can't be used in 'await'",
        "the model itself is not a function",
        "`await model.predict(features)`, or `model.predict_blocking(features)` in a plain `def`.",
    ),
    Known(
        r"'(\w+Request)' object is not (?:subscriptable|iterable)",
        "",
        "The body is an object: its fields are attributes, such as `body.features`.",
    ),
    Known(
        r"'(?:float|int)' object is not (?:subscriptable|iterable)",
        "",
        "It is a single number: use it as it is. A model returns one number.",
    ),
    Known(
        r"must be real number, not (list|tuple)",
        "",
        "Put a limit for one number, such as `allow_inf_nan`, on the items of the list, not on the list: "
        "`list[Annotated[float, Field(...)]]`. A function of `math` takes one number as well.",
    ),
    Known(
        r"'State' object has no attribute '(\w+)'",
        "",
        "Nothing has set `app.state.\\1`. Compare the name with those that `create_app` and the lifespan set. If it is "
        "not there, set it there.",
    ),
    Known(
        r"'NoneType' object|: 'NoneType' and|and 'NoneType'|not 'NoneType'|not NoneType",
        "",
        _RETURN + " Or nothing was given, and the default is None: `settings = settings or Settings()`.",
    ),
    Known(
        r"ResponseValidationError.*'missing'.*'response', '(\w+)'",
        "the answer has no key of that name",
        "The answer needs the key `\\1`: `return PredictResponse(prediction=...)` has it.",
    ),
    Known(
        r"'input': <(?:built-in function|function|bound method) ([\w.]+)",
        "a function was given where its value is wanted",
        "`\\1` is the function itself: call it, `\\1()`.",
    ),
    Known(
        r"ValidationError.*PredictResponse.*prediction",
        "",
        "The field is called `prediction`: `return PredictResponse(prediction=...)`.",
    ),
    Known(r"'input': None", "an answer of None: a `return` is missing", _RETURN, instead=True),
    Known(
        r"ResponseValidationError.*valid dictionary",
        "",
        "The route's return type is a model: return `PredictResponse(prediction=...)`.",
    ),
    Known(
        r"Invalid args for response field",
        "FastAPI takes a parameter for a part of the body: its `Depends(...)` is missing",
        _ROUTE,
        instead=True,
    ),
    Known(
        r"not JSON compliant",
        "",
        "JSON has no NaN: `app.add_exception_handler(RequestValidationError, invalid_request)` replaces FastAPI's "
        "422, which repeats the NaN, by the lab's.",
    ),
    Known(r"is not JSON serializable", "", "JSON knows numbers, strings, booleans, null, lists and dictionaries."),
    Known(
        r"asyncio\.run\(\) cannot be called|event loop is already running",
        "",
        "Inside a running event loop use `await`. A blocking function does not need asyncio: `time.sleep`.",
    ),
    Known(
        r"NoEventLoopError",
        "",
        "anyio's limiter belongs to an event loop, and none runs in `create_app` or at import. In `lifespan`, before "
        "the `yield`, one does.",
    ),
    Known(
        r"^HTTPException",
        "",
        "FastAPI makes an answer of an HTTPException that a route or a dependency raises. A middleware stands outside "
        "of that: there `await JSONResponse(..., status_code=503)(scope, receive, send)`.",
    ),
    Known(
        r"no running event loop",
        "",
        "asyncio's calls need a running loop: make them in an `async def`, not at import or on a thread.",
    ),
    Known(
        r"is bound to a different event loop",
        "",
        "An asyncio object belongs to the loop that used it first: make it in the lifespan, not at import.",
    ),
    Known(r"partially initialized module", "", "Two files import each other: move what both need into a third one."),
    Known(
        r"got multiple values for argument '(\w+)'", "", "`\\1` is given twice, by place and by name: leave one out."
    ),
    Known(
        r"takes \d+ positional arguments? but \d+ (was|were) given",
        "",
        "Compare the call with the `def` line. A method's first parameter is `self`.",
    ),
    Known(r"unexpected keyword argument '(\w+)'", "", "The `def` line has no parameter `\\1`: compare the two."),
    Known(
        r"missing \d+ required (positional|keyword-only) argument",
        "",
        "The `def` line has a parameter that the call does not give.",
    ),
    Known(
        r"'(\w+)' object is not callable",
        "",
        "The name of a function now holds a value (\\1): is it assigned anywhere?",
    ),
    Known(
        r"unhashable type: '(\w+)'",
        "",
        "A \\1 cannot be a key of a dictionary, or an argument of a function under `functools.cache` or `lru_cache`. "
        "No answer has to be kept here: leave the cache out.",
    ),
    Known(
        r"not supported between instances of '(?:collections\.)?(deque|list|dict|set)' and 'int'",
        "",
        "A \\1 is not a number, but its length is: `len(...)`.",
    ),
    Known(
        r"(min|max)\(\) .*is (?:an )?empty",
        "",
        "`\\1(..., default=None)` gives None where there is nothing to choose from.",
    ),
    Known(
        r"^PicklingError: .*\bProbe\b|cannot pickle .*\bProbe\b",
        "the lab's model cannot go to another process",
        "Each process of a pool needs a model of its own. Here one is enough: `await model.predict(...)` of the model "
        "that the route is given.",
        instead=True,
    ),
    Known(
        r"Can't (?:get|pickle) local object|Can't pickle <function",
        "",
        "What goes to another process must have a name at the top of a module: a lambda and a local function have "
        "none. A call of the model needs no process: `await model.predict(...)`.",
    ),
    Known(r"maximum recursion depth", "", "A function calls itself without end."),
    Known(r"'await' outside (async )?function", "", "`await` stands only in an `async def`."),
    Known(r"expected an indented block", "", "A `def` without a body takes `...` or `pass`."),
    Known(
        r"IndentationError|TabError|unindent does not match",
        "",
        "Begin the line with as many spaces as the other lines of its block, and no tabs.",
    ),
)
"""The first that matches is taken."""


def describe(error: BaseException) -> str:
    """An exception in one line: its name and the first line of what it says, in plain words where those are known.

    Of pydantic's errors also which field, and why.
    """
    name, lines = type(error).__name__, str(error).strip().splitlines()
    known, match = _known(error)
    plain = _filled(known.plain, match) if known and match else ""
    if known and known.instead:
        return f"{name}: {plain}"
    said = ": ".join(
        filter(None, [name, " ".join(line.strip() for line in lines[: 3 if "ValidationError" in name else 1])])
    )
    return f"{said} ({plain})" if plain else said


def hint_for(error: BaseException) -> str:
    """What mends an exception of this kind; empty where nothing general does. One from a cell brings it along."""
    if isinstance(told := getattr(error, "hint", None), str):
        return told
    if isinstance(error, NameError | ModuleNotFoundError):
        return missing.hint_for(error)
    known, match = _known(error)
    return _filled(known.hint, match) if known and match else missing.hint_for(error)


def hint_for_printed(raised: str) -> str:
    """What mends an exception of another process, given as Python prints it; empty where nothing general does."""
    kind, _, words = raised.partition(": ")
    known = getattr(builtins, kind, None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        return ""
    if issubclass(known, NameError | ImportError):
        return hint_for(known(words, name="".join(re.findall(r"(?:name|variable|module named) '([\w.]+)'", words)[:1])))
    try:
        return hint_for(known(words))
    except TypeError:  # an exception that takes more than words
        return ""


def is_explained(error: BaseException) -> bool:
    """Whether its cause is known, and not only what mends errors of its kind in general."""
    known, _ = _known(error)
    return isinstance(error, NameError | ImportError) or (known is not None and bool(known.plain))


def lacks_await(error: BaseException) -> bool:
    """Whether it says that a coroutine was taken for its value."""
    known, _ = _known(error)
    return known is not None and known.hint == _AWAIT


def _filled(words: str, match: re.Match[str]) -> str:
    return re.sub(r"\\(\d)", lambda group: match[int(group[1])] or "", words)


def _known(error: BaseException) -> tuple[Known | None, re.Match[str] | None]:
    said = f"{type(error).__name__}: {error}"
    for known in KNOWN:
        if match := re.search(known.pattern, said, re.DOTALL):
            return known, match
    return None, None
