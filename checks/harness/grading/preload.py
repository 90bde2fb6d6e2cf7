"""What every checkpoint of a service imports: done once, in the process that all of theirs are forked from."""

import anyio._backends._asyncio
import fastapi
import httpx
import pydantic.v1

__all__ = ["anyio", "fastapi", "httpx", "pydantic"]
