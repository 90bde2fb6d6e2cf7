"""Given: the answer to a request with an invalid body."""

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json


async def invalid_request(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature is FastAPI's
    """422 with every mistake in `detail`, like FastAPI's own handler, which cannot write a NaN back and makes a 500."""
    assert isinstance(error, RequestValidationError)
    content = to_json({"detail": error.errors()}, inf_nan_mode="strings", fallback=str)
    return Response(content, status_code=422, media_type="application/json")
