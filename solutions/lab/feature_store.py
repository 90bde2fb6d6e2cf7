"""The feature store: another service, which holds the features of each user."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import HTTPException
from pydantic import BaseModel, Field, ValidationError

from lab.settings import Settings

Feature = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _StoredFeatures(BaseModel):
    """What the store answers: `{"features": [1.0, 2.0, 6.0]}`, at least one, each a finite number."""

    features: Annotated[list[Feature], Field(min_length=1)]


@asynccontextmanager
async def open_feature_store(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """One client for the whole life of the service: `async with open_feature_store(settings) as store:`.

    Its base URL is `settings.feature_store_url`. It keeps at most `settings.feature_store_connections` open and uses
    them again and again. Connecting may take `settings.feature_store_seconds`, and so may each read, as httpx
    counts them. Waiting for one of our own connections to become free has no limit. At the end all connections are
    closed.
    """
    connections = settings.feature_store_connections
    async with httpx.AsyncClient(
        base_url=settings.feature_store_url,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=httpx.Timeout(settings.feature_store_seconds, pool=None),
    ) as store:
        yield store


async def fetch_features(store: httpx.AsyncClient, user_id: int) -> list[float]:
    """`GET /features/{user_id}`: the store answers `{"features": [1.0, 2.0, 6.0]}`; returns `[1.0, 2.0, 6.0]`.

    An `HTTPException` says whose fault an error is: 404 for a user whom the store does not know; 502 when it
    cannot be reached, answers with any other status or with something else than features; 504 when it is too slow.
    """
    try:
        answer = await store.get(f"/features/{user_id}")
    except httpx.TimeoutException as error:
        raise HTTPException(504, "the feature store is too slow") from error
    except httpx.HTTPError as error:
        raise HTTPException(502, "the feature store cannot be reached") from error
    if answer.status_code == 404:
        raise HTTPException(404, f"no features of user {user_id}")
    if answer.status_code != 200:
        raise HTTPException(502, f"the feature store answered {answer.status_code}")
    try:
        return _StoredFeatures.model_validate_json(answer.content).features
    except ValidationError as error:
        raise HTTPException(502, "the feature store answered something else than features") from error
