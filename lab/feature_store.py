"""The feature store: another service, which holds the features of each user."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from lab.settings import Settings


@asynccontextmanager
async def open_feature_store(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """One client for the whole life of the service: `async with open_feature_store(settings) as store:`.

    Its base URL is `settings.feature_store_url`. It keeps at most `settings.feature_store_connections` open and uses
    them again and again. Connecting may take `settings.feature_store_seconds`, and so may each read, as httpx
    counts them. Waiting for one of our own connections to become free has no limit. At the end all connections are
    closed.
    """
    raise NotImplementedError("4.4: open_feature_store")
    yield httpx.AsyncClient()  # here the service runs; what comes behind it runs at its end


async def fetch_features(store: httpx.AsyncClient, user_id: int) -> list[float]:
    """`GET /features/{user_id}`: the store answers `{"features": [1.0, 2.0, 6.0]}`; returns `[1.0, 2.0, 6.0]`.

    An `HTTPException` says whose fault an error is: 404 for a user whom the store does not know; 502 when it
    cannot be reached, answers with any other status or with something else than features; 504 when it is too slow.
    """
    raise NotImplementedError("4.4: fetch_features")
