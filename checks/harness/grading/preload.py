"""What every checkpoint of a service imports, imported once, in the process from which theirs are forked."""

import anyio._backends._asyncio
import fastapi
import httpx
import pydantic.v1

__all__ = ["anyio", "fastapi", "httpx", "pydantic"]
