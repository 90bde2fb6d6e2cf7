"""Bodies of a request that are to be taken, and those that are to be refused."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from checks.harness.cell.inprocess import InProcess
from checks.harness.cell.probe import Probe
from checks.harness.errors import Failure, LearnerError, NoAnswer, cut
from checks.harness.workspace import Workspace

STRICT = 'By default pydantic turns "2" and true into numbers: `Annotated[float, Field(strict=True)]` does not.'
FINITE = "`Field(strict=True, allow_inf_nan=False)` refuses everything that is not a finite number."
NUMBERS = "`features` is a list of floats: `list[Annotated[float, Field(strict=True, allow_inf_nan=False)]]`."
LISTED = "The body is a pydantic model (`body: PredictRequest`), and its field `features` has no default."
BAD_BODIES = {
    '{"features": ["1"]}': STRICT,
    '{"features": [true]}': STRICT,
    '{"features": [null]}': NUMBERS,
    '{"features": [[1]]}': NUMBERS,
    '{"features": [NaN]}': FINITE,
    '{"features": [Infinity]}': FINITE,
    '{"features": [-Infinity]}': FINITE,
    '{"features": []}': "`Annotated[list[...], Field(min_length=1)]` refuses an empty list.",
    '{"features": "1"}': LISTED,
    '{"features": null}': LISTED,
    '{"features": {}}': LISTED,
    "{}": LISTED,
    "[1]": LISTED,
    "no JSON": LISTED,
}
"""Bodies that are to be refused, and what refuses each."""


OF_A_NUMBER = (STRICT, FINITE, NUMBERS)
"""Hints that are about a single number, and not about the list of them."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines that say what a body is: the field, and what says so of each number in it."""

    field: str | None
    number: str | None


def lines_of(kind: object, workspace: Workspace) -> Lines:
    """Where they are: the class itself, or the handler, where it has no such field."""
    field, number = workspace.where_field(kind, "features")
    field = field or workspace.where_defined(kind)
    return Lines(field, number or field)


def any_numbers_are_taken(app: InProcess, rng: Random, lines: Lines) -> None:
    """One feature alone, many of them, and numbers of any size are no reason for a 422. What else fails, others say."""
    many = [rng.uniform(-1, 1) for _ in range(300)]
    for what, question, where in (
        ("one feature alone", [rng.uniform(1, 9)], lines.field),
        ("a feature of 0", [0.0, 0], lines.number),
        ("a feature of a million million", [1e12, -1e12], lines.number),
        (f"a list of {len(many)} features", many, lines.field),
    ):
        answer = app.post("/predict", {"features": question}).answer()
        assert answer.status_code == 200, Failure(
            f"{what} gave {answer.status_code}: {cut(answer.text)}",
            wanted="200: a list of one or more finite numbers, however many and however large",
            hint="`Annotated[list[...], Field(min_length=1)]` is the only limit of the list. `Field(strict=True, "
            "allow_inf_nan=False)` is the only limit of a number.",
            where=where,
        )


def refuse(app: InProcess, body: str, probe: Probe, lines: Lines) -> None:
    """A bad body gets a 422, and the model is not called."""
    type_line = lines.number if BAD_BODIES[body] in OF_A_NUMBER else lines.field
    before, wanted = probe.asked, "422: features are a list of one or more finite JSON numbers"
    own = "`app.add_exception_handler(RequestValidationError, invalid_request)` in `create_app`"
    try:
        answer = app.post("/predict", content=body.encode()).answer()
    except (NoAnswer, NotImplementedError):
        raise
    except Exception as error:
        if probe.asked > before:
            raise LearnerError(f"{body} reached the model", type_line, wanted=wanted, hint=BAD_BODIES[body]) from None
        if "not JSON compliant" in str(error):
            raise LearnerError(
                f"{body} was refused, but the refusal could not be written: {str(error).partition(chr(10))[0]}",
                wanted="422",
                hint=f"FastAPI's own 422 repeats the NaN that it refuses, and JSON has no NaN. {own} replaces it.",
            ) from None
        raise
    if answer.status_code == 400:
        hint = f"422 is FastAPI's status for a body of the wrong form; {own} gives it."
        type_line = app.where_refused or app.where_routed or type_line
    else:
        hint = BAD_BODIES[body]
    assert answer.status_code == 422, Failure(
        f"{body} was answered with {answer.status_code}", wanted=wanted, hint=hint, where=type_line
    )
    assert probe.asked == before, Failure(
        f"the model was called with {body}", wanted="422 before the model is called", hint=hint, where=type_line
    )


def refuse_as_predict_does(app: InProcess, path: str) -> None:
    """What /predict refuses with a 422 is refused here as well. Whether it refuses enough, 1.2 judges."""
    for body in ('{"features": ["1"]}', '{"features": [NaN]}', '{"features": []}'):
        statuses = []
        for one in ("/predict", path):
            try:
                statuses.append(app.post(one, content=body.encode()).answer().status_code)
            except (NoAnswer, NotImplementedError):
                raise
            except Exception:
                statuses.append(500)
        assert statuses[0] != 422 or statuses[1] == 422, Failure(
            f"{body} was answered with {statuses[1]}; /predict refuses it with 422",
            wanted="422: the three routes take the same body",
            hint="The handler's body is a `PredictRequest`, as in `/predict`.",
            where=app.where_routed,
        )
