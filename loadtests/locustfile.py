"""A load test of the inference service: who the users are, how many of them, and when the run has failed.

By hand, with Locust's web page or without:

    uv run locust -f loadtests/locustfile.py --host http://127.0.0.1:8000
    LOAD_STEPS=1 uv run locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless
"""

import os

from locust import FastHttpUser, LoadTestShape, events, task
from locust.env import Environment

PATH = os.environ.get("LOAD_PATH", "/predict")
PACE_SECONDS = float(os.environ.get("LOAD_PACE_SECONDS", "1.0"))
SLO_MS = float(os.environ.get("LOAD_SLO_MS", "300"))
DEADLINE_MS = float(os.environ.get("LOAD_DEADLINE_MS", "1000"))
STEPS = int(os.environ.get("LOAD_STEPS", "5"))
STEP_USERS = int(os.environ.get("LOAD_STEP_USERS", "4"))
STEP_SECONDS = float(os.environ.get("LOAD_STEP_SECONDS", "5"))


class InferenceUser(FastHttpUser):
    """A user who asks for one prediction after the other, at a fixed pace."""

    def wait_time(self) -> float:
        """Seconds to wait after an answer, so that requests start `PACE_SECONDS` apart (0: at once, a closed loop).

        The answer took some of that time already. A user who waits the whole pace on top of it sends less just when the
        service gets slow. One of Locust's functions may take this method's place: `wait_time = ...`.
        """
        raise NotImplementedError("3.3: InferenceUser.wait_time")

    @task
    def predict(self) -> None:
        """`POST` random features to `PATH`, and mark the request as failed unless its answer is good.

        A good answer has status 200, the mean of these features as its prediction (but for the last digits of floating
        point), and came within `DEADLINE_MS`.
        """
        raise NotImplementedError("3.1: InferenceUser.predict")


class StepLoad(LoadTestShape):
    """Load that climbs in plateaus: step k of `STEPS` holds k x `STEP_USERS` users for `STEP_SECONDS`."""

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how many may come per second; `None` after the last step. Called once a second.

        `self.get_run_time()` is the time since the start in seconds. A step's users are there at once.

        With 5 steps of 4 users and 5 seconds: 4 users at 0 s, 8 at 5 s, 20 at 24.9 s, `None` at 25 s.
        """
        raise NotImplementedError("3.4: StepLoad.tick")


@events.quitting.add_listener
def slo_gate(environment: Environment, **_: object) -> None:
    """Set `environment.process_exit_code`, which a pipeline reads: 1 when the run has failed, else 0.

    It has failed when the p95 of all requests is above `SLO_MS`, when more than 1 % of them failed, or when there were
    none. Locust's own exit code is 1 at any failure, and does not depend on an SLO. `environment.stats.total` has the
    numbers; in a distributed run only the master's has them. A worker (its `environment.runner` is a `WorkerRunner`)
    decides nothing: it leaves the exit code alone.
    """
    raise NotImplementedError("3.5: slo_gate")
