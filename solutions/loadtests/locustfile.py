"""A load test of the inference service: who the users are, how many of them, and when the run has failed.

By hand, with Locust's web page or without:

    uv run locust -f loadtests/locustfile.py --host http://127.0.0.1:8000
    LOAD_STEPS=1 uv run locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless
"""

import json
import math
import os
import random
import time
from statistics import fmean

from locust import FastHttpUser, LoadTestShape, constant_pacing, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

PATH = os.environ.get("LOAD_PATH", "/predict")
PACE_SECONDS = float(os.environ.get("LOAD_PACE_SECONDS", "1.0"))
SLO_MS = float(os.environ.get("LOAD_SLO_MS", "300"))
DEADLINE_MS = float(os.environ.get("LOAD_DEADLINE_MS", "1000"))
STEPS = int(os.environ.get("LOAD_STEPS", "5"))
STEP_USERS = int(os.environ.get("LOAD_STEP_USERS", "4"))
STEP_SECONDS = float(os.environ.get("LOAD_STEP_SECONDS", "5"))

MAX_FAILURE_RATIO = 0.01


class InferenceUser(FastHttpUser):
    """A user who asks for one prediction after the other, at a fixed pace."""

    def wait_time(self) -> float:
        """Seconds to wait after an answer, so that requests start `PACE_SECONDS` apart (0: at once, a closed loop).

        The answer took some of that time already. A user who waits the whole pace on top of it sends less just when the
        service gets slow. One of Locust's functions may take this method's place: `wait_time = ...`.
        """
        return constant_pacing(PACE_SECONDS)(self)

    @task
    def predict(self) -> None:
        """`POST` random features to `PATH`, and mark the request as failed unless its answer is good.

        A good answer has status 200, the mean of these features as its prediction (but for the last digits of floating
        point), and came within `DEADLINE_MS`.
        """
        features = [random.uniform(-100, 100) for _ in range(random.randint(1, 8))]
        started = time.perf_counter()
        with self.client.post(PATH, json={"features": features}, catch_response=True) as response:
            took_ms = (time.perf_counter() - started) * 1000
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif not _is_mean(response.text, features):
                response.failure("not the mean of the features")
            elif took_ms > DEADLINE_MS:
                response.failure("later than the deadline")


class StepLoad(LoadTestShape):
    """Load that climbs in plateaus: step k of `STEPS` holds k x `STEP_USERS` users for `STEP_SECONDS`."""

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how many may come per second; `None` after the last step. Called once a second.

        `self.get_run_time()` is the time since the start in seconds. A step's users are there at once.

        With 5 steps of 4 users and 5 seconds: 4 users at 0 s, 8 at 5 s, 20 at 24.9 s, `None` at 25 s.
        """
        step = int(self.get_run_time() // STEP_SECONDS) + 1
        if step > STEPS:
            return None
        return step * STEP_USERS, step * STEP_USERS


@events.quitting.add_listener
def slo_gate(environment: Environment, **_: object) -> None:
    """Set `environment.process_exit_code`, which a pipeline reads: 1 when the run has failed, else 0.

    It has failed when the p95 of all requests is above `SLO_MS`, when more than 1 % of them failed, or when there were
    none. Locust's own exit code is 1 at any failure, and does not depend on an SLO. `environment.stats.total` has the
    numbers; in a distributed run only the master's has them. A worker (its `environment.runner` is a `WorkerRunner`)
    decides nothing: it leaves the exit code alone.
    """
    if isinstance(environment.runner, WorkerRunner):
        return
    total = environment.stats.total
    slow = total.get_response_time_percentile(0.95) > SLO_MS if total.num_requests else True
    environment.process_exit_code = 1 if slow or total.fail_ratio > MAX_FAILURE_RATIO else 0


def _is_mean(text: str, features: list[float]) -> bool:
    """Whether an answer's JSON holds the mean of the features."""
    try:
        prediction = json.loads(text)["prediction"]
        return math.isclose(prediction, fmean(features), rel_tol=1e-6, abs_tol=1e-6)
    except (ValueError, KeyError, TypeError):
        return False
