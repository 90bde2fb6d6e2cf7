"""The learner's app in a real server, around a decoder whose tokens are let out by requests to a route beside it."""

from __future__ import annotations

import importlib
import os

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from checks.harness.cell.decoder_probe import DecoderProbe
from checks.harness.cell.factory import held_decoder

ROUTE = "/held-decoder"


class Let(BaseModel):
    """A token for the stream with this prompt."""

    prompt: str
    token: str


class Known(BaseModel):
    """What the decoder knows: how many slots are held, and the prompts of the streams that wait for a token."""

    held: int
    asking: list[str]


def create_app() -> FastAPI:
    """The learner's app, with a decoder of `LAB_DECODER_SLOTS` slots."""
    app: FastAPI = importlib.import_module("lab.service").create_app()
    probe = DecoderProbe(int(os.environ["LAB_DECODER_SLOTS"]))
    app.state.decoder = held_decoder(probe.slots, probe)
    router = APIRouter()

    @router.get(ROUTE)
    async def known() -> Known:
        return Known(held=probe.holders, asking=[one.prompt for one in probe.decodings if one.asks])

    @router.post(ROUTE)
    async def let(body: Let) -> Known:
        for one in probe.of(body.prompt):
            if one.asks:
                probe.let(one, body.token)
        return await known()

    app.include_router(router)
    return app
