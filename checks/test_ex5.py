"""Exercise 5 - Docker.

With an image your service runs on a machine that is not yours. The checkpoints judge what it does there: where it
listens, how it ends, and whether its health check is right. Begin with `Dockerfile`.

PYTEST_DONT_REWRITE
"""

import pytest

DEADLINE = 900
"""Seconds for a checkpoint that may have to build the image first."""


@pytest.mark.checkpoint(
    "5.1",
    points=2,
    deadline=DEADLINE,
    hints=(
        "A builder takes a layer from its cache if the instruction, its files and all layers before it are unchanged. "
        "So put first what changes least: the base, then pyproject.toml and uv.lock and what they install, then lab/.",
        "Two stages: the first has pip and uv and makes a virtual environment (`uv sync --locked --no-dev`), the "
        "second copies only that with `COPY --from=`. `USER` and HEALTHCHECK belong into the second.",
        "Python can send the request itself: `urllib.request.urlopen` raises unless /health gives a good answer.",
    ),
)
def test_image(files, image, show):
    """The image is small and quick to rebuild.

    An image is built at every change, and every machine pulls it. Files that the service does not need slow down each
    deployment, and can be attacked. A build that installs all packages again for one changed line costs a developer
    minutes a day.
    """
    from checks.support.ex5 import image as expect

    recipe = files.recipe
    expect.assert_buildable(files)
    expect.assert_base_is_pinned_and_slim(recipe)
    expect.assert_context_is_small(files)
    expect.assert_inputs_exist(files)
    seen = expect.look_into(image, show)  # an engine looks into the image, else only the Dockerfile's text is read
    expect.assert_change_installs_nothing(files, seen)
    expect.assert_no_cache(files, seen)
    expect.assert_nothing_for_tests(files, seen)
    expect.assert_not_root(files)
    expect.assert_health_check(files)
    show.number(f"{len(files.included)} files to the engine", len(files.included))


@pytest.mark.checkpoint(
    "5.2",
    points=2,
    deadline=DEADLINE,
    hints=(
        "In a container 127.0.0.1 is the container itself. `python -m lab.serve` listens on the address in HOST: "
        "`ENV HOST=0.0.0.0` means all addresses.",
        'Exec form does not resolve variables: `[..., "--port", "$PORT"]` passes the five characters. `lab.serve` '
        "reads PORT and WEB_CONCURRENCY itself; a shell form needs `exec` before the command.",
        "The health check runs in the container, with its environment: let it read PORT, too.",
    ),
)
def test_listens_where_the_environment_says(deploy, rng, show):
    """It listens on all addresses, at PORT.

    The port and the number of workers depend on the machine: on another one the port may be taken, and the number of
    cores differs. An image with fixed values must be built again for each machine. And a service that listens on
    127.0.0.1 cannot be reached from outside its container.
    """
    from checks.harness.containers.startup import until_it_answers
    from checks.support.ex5 import listening as expect

    workers = rng.randint(3, 4)
    one, several = deploy(WEB_CONCURRENCY="1"), deploy(WEB_CONCURRENCY=str(workers))
    until_it_answers(one)
    until_it_answers(several)
    deploy.say("counts the workers")
    expect.assert_workers(several, workers)
    expect.assert_workers(one, 1)
    deploy.say("runs the health check")
    expect.assert_health_check_succeeds(one)
    expect.assert_health_check_succeeds(several)
    expect.assert_health_check_sees_a_frozen_service(one, deploy)
    show.number(f"1 and {workers} workers", workers)


@pytest.mark.checkpoint(
    "5.3",
    points=2,
    deadline=DEADLINE,
    hints=(
        "Process 1 gets the signal. In shell form, and in a script, that is a shell, which passes nothing on: use exec "
        'form, `CMD ["python", "-m", "lab.serve"]`, or end the script with `exec python -m lab.serve`.',
        "uvicorn waits LAB_DRAIN_SECONDS for its requests: this must be longer than the longest request.",
    ),
)
def test_ends_without_losing_requests(deploy, show):
    """It ends well: no request is lost.

    Every deployment ends the old version, several times a day. After SIGTERM a service accepts no new connections,
    finishes the requests in flight, shuts down its lifespan, and ends. One that does not get the signal is killed after
    the grace time, together with its requests.
    """
    from checks.support.ex5 import ending as expect

    service, seen = expect.while_at_work(deploy, workers=2)
    expect.assert_signal_is_heeded(service, seen)
    show.table(
        f"{deploy.container.stop_signal} while at work",
        ("process 1", "in flight", "got their 200", "ended after s", "exit code"),
        [(seen.first[:20], len(seen.answers), seen.answered, f"{seen.seconds:.1f}", seen.exit_code)],
    )
    expect.assert_all_are_answered(service, seen)
    expect.assert_new_connections_are_refused(service, seen)
    expect.assert_it_ends(service, seen)
    expect.assert_lifespan_ends(service, seen)
    show.number(f"{seen.answered} answered, {seen.seconds:.1f} s", seen.seconds)


@pytest.mark.checkpoint(
    "5.4",
    points=2,
    hints=(
        "`deploy: resources: limits:` takes `cpus` and `memory`. A reservation promises a minimum, and limits nothing.",
        "`stop_grace_period: 15s`: docker sends the signal, waits so long, and then kills. The default is 10 s, as "
        "long as the drain.",
        "In a container localhost is the container. Services reach each other by name: `--host http://api:8000`, "
        "`--master-host master`.",
        "The long form of depends_on waits for health: `depends_on: {api: {condition: service_healthy}}`.",
    ),
)
def test_stack(files, lab, show):
    """The stack has limits and a load test.

    Without limits a faulty service takes the CPU and the memory of its neighbours. With limits only that service is
    slowed down, or killed. And people run a load test more often if one command starts it.
    """
    from checks.harness.containers import stack_rules
    from checks.support.ex5 import stack as expect

    stack = files.stack
    expect.assert_api_is_built_here(files, stack)
    expect.assert_limits(stack)
    container = expect.container_of(files)
    expect.assert_grace_is_longer_than_drain(container, stack, lab.settings.Settings().drain_seconds)
    expect.assert_locust_stands_by(stack, container.port)
    cpus, memory = stack_rules.limits(stack.services["api"])
    loaded = [name for name, one in stack.services.items() if "load" in (one.get("profiles") or ())]
    row = (cpus, int(memory) >> 20, f"{container.stop_grace_seconds:g}", ", ".join(loaded))
    show.table("the stack", ("cpus", "memory MB", "grace s", "behind `load`"), [row])
    show.number(f"{len(stack.services)} services", len(stack.services))


@pytest.mark.checkpoint(
    "5.5",
    points=2,
    deadline=DEADLINE,
    hints=(
        "A health check sends a request to /health and waits for the answer: `urllib.request.urlopen(..., timeout=2)` "
        "raises without one, and Python then ends with exit code 1.",
        "Install in a stage of its own. The last stage only copies the virtual environment from it.",
        "`docker run --read-only --tmpfs /tmp` shows whether the service writes to the disk. It does not need to.",
    ),
)
def test_real_container(deploy, image, show):
    """The real container lives and ends well.

    Only the health check shows a machine whether a service works. If it tests only that a process exists, or that a
    port is open, a service that hangs counts as healthy, and keeps getting requests.
    """
    from checks.harness.containers.deploy import TIMING
    from checks.harness.containers.startup import until_it_answers
    from checks.support.ex5 import ending
    from checks.support.ex5 import real as expect

    built = image()
    expect.assert_small(built, deploy.container.argv_at)
    expect.assert_has_a_health_check(deploy.container)
    at_work = deploy.real({"WEB_CONCURRENCY": "1", "LAB_INFERENCE_SECONDS": str(ending.WORK_SECONDS)})
    frozen = deploy.real({}, read_only=True, health=TIMING)
    until_it_answers(frozen)
    expect.assert_not_root(frozen)
    deploy.say("waits for its health check")
    expect.assert_becomes_healthy(frozen)
    deploy.say("waits for its health check, with every process frozen")
    unhealthy = expect.assert_unhealthy_when_frozen(frozen)
    until_it_answers(at_work)
    service, seen = ending.while_at_work(deploy, 1, at_work)
    expect.assert_stops_well(service, seen)
    columns = ("MB on its base", "base MB", "built in s", "unhealthy after s", "stopped after s")
    numbers = (f"{built.added_mb:.0f}", f"{built.base_size / 1e6:.0f}", f"{built.seconds:.1f}", f"{unhealthy:.0f}")
    show.table("the real container", columns, [(*numbers, f"{seen.seconds:.1f}")])
    show.number(f"{built.added_mb:.0f} MB on its base", built.added_mb)
