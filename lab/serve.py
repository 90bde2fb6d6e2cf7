"""Starts the service as a deployment does: `python -m lab.serve`."""

APP = "lab.service:create_app"
"""The factory by its name: every worker process imports it and makes an app of its own."""


def main() -> None:
    """Run uvicorn on the factory `APP` until it is asked to stop (SIGTERM).

    The environment says where and how many: `HOST` (127.0.0.1), `PORT` (8000; 0 takes a free one, which uvicorn's own
    line names) and `WEB_CONCURRENCY`, the number of worker processes (1). After SIGTERM requests in flight get
    `Settings().drain_seconds` to finish, and no more.

    Example: `PORT=8080 WEB_CONCURRENCY=4 python -m lab.serve`
    """
    raise NotImplementedError("4.2: main")


if __name__ == "__main__":
    main()
