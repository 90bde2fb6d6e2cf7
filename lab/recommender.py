"""Given: a recommender built on your service, its stages timed with your `stage`.

    uv run uvicorn --factory lab.recommender:create_app

`POST /recommend` with `{"user_id": 7, "history": [12, 5, 12, 9]}` answers with the items that suit the user best.
"""

import asyncio

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from lab import service
from lab.timing import stage

PROFILE_SECONDS = 0.004
"""How long the store of the users' profiles takes to answer."""


class RecommendRequest(BaseModel):
    """Who asks, and the ids of the items that they have looked at, latest first."""

    user_id: int = Field(examples=[7])
    history: list[int] = Field(min_length=1, examples=[[12, 5, 12, 9]])


async def find_profile(user_id: int) -> float:
    """What is known of a user, as one number."""
    await asyncio.sleep(PROFILE_SECONDS)
    return user_id % 10 / 10


def distinct(history: list[int]) -> list[int]:
    """The items of a history, each of them once, in the order of the history."""
    items: list[int] = []
    for item in history:
        if item not in items:
            items.append(item)
    return items


async def recommend(body: RecommendRequest, request: Request) -> dict[str, list[int]]:
    """The ten items that come nearest to what the model says of this user."""
    with stage("profile"):
        profile = await find_profile(body.user_id)
    with stage("preprocess"):
        items = distinct(body.history)
    with stage("model"):
        score = await request.app.state.model.predict([profile, *items])
    with stage("rank"):
        best = sorted(items, key=lambda item: abs(item - score))[:10]
    return {"items": best}


def create_app() -> FastAPI:
    """Your own service, and the route `POST /recommend`."""
    app = service.create_app()
    app.post("/recommend")(recommend)
    return app
