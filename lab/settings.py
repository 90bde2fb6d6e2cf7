"""Given: the settings of the service, read from the environment (`LAB_INFERENCE_SECONDS=0.2`)."""

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

THREAD_POOL_SIZE = 40
"""Threads that `def` endpoints share in one process: what anyio, and so FastAPI, starts with."""


class Settings(BaseSettings):
    """Everything about the service that a deployment may want to change. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="LAB_")

    inference_seconds: NonNegativeFloat = 0.1
    thread_pool_size: PositiveInt = THREAD_POOL_SIZE
    latency_window: PositiveInt = 1000

    max_in_flight: PositiveInt = 8
    max_queue: NonNegativeInt = 16
    queue_seconds: NonNegativeFloat = 1.0

    feature_store_url: str = "http://127.0.0.1:9000"
    feature_store_connections: PositiveInt = 10
    feature_store_seconds: PositiveFloat = 1.0

    drain_seconds: NonNegativeInt = 10

    max_batch: PositiveInt = 8
    batch_window: NonNegativeFloat = 0.005
    batch_base_seconds: NonNegativeFloat = 0.08
    batch_item_seconds: NonNegativeFloat = 0.0025

    decoder_slots: PositiveInt = 4
    decoder_queue: NonNegativeInt = 8
    prefill_seconds: NonNegativeFloat = 0.2
    token_seconds: NonNegativeFloat = 0.02
