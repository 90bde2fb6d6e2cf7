"""Starts the service as a deployment does: `python -m lab.serve`."""

import os

import uvicorn

from lab.settings import Settings

APP = "lab.service:create_app"
"""The factory by its name: every worker process imports it and makes an app of its own."""


def main() -> None:
    """Run uvicorn on the factory `APP` until it is asked to stop (SIGTERM).

    The environment says where and how many: `HOST` (127.0.0.1), `PORT` (8000; 0 takes a free one, which uvicorn's own
    line names) and `WEB_CONCURRENCY`, the number of worker processes (1). After SIGTERM requests in flight get
    `Settings().drain_seconds` to finish, and no more.

    Example: `PORT=8080 WEB_CONCURRENCY=4 python -m lab.serve`
    """
    uvicorn.run(
        APP,
        factory=True,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8000")),
        workers=int(os.environ.get("WEB_CONCURRENCY", "1")),
        timeout_graceful_shutdown=Settings().drain_seconds,
        timeout_worker_healthcheck=60,  # by default 5 s of silence kill a worker, also one that is just busy
    )


if __name__ == "__main__":
    main()
