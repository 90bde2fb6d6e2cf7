"""What every checkpoint of a service imports, imported once, in the process from which theirs are forked."""

import anyio._backends._asyncio
import fastapi
import httpcore  # httpx imports it for its first client
import httpx
import pydantic.v1
import structlog

__all__ = ["anyio", "fastapi", "httpcore", "httpx", "pydantic", "structlog"]
