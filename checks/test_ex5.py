"""Exercise 5 - Docker.

The image is where your service meets a machine that is not yours. What counts is what it does there: where it listens,
how it ends, and whether it says the truth about its health. Begin with `Dockerfile`.
"""

import re
import shlex
import time
from collections import Counter

import pytest

from checks.harness.errors import Inconclusive, NotChecked
from checks.harness.grading.noise import blame_the_machine_unless
from checks.harness.processes.servers import just_one_process

DEADLINE = 900
"""Seconds for a checkpoint that may have to build the image first."""
FINE = {0, 128 + 15, -15}
"""Exit codes of a service that ended because it was asked to."""
WORK_SECONDS = 2.0
"""How long a request may take and still has to be finished by a service that was asked to end."""
CHEERFUL = 3
"""Health checks in a row that end well while nothing can answer: then they see nothing."""
SLOW = 4.0
"""Seconds for a command that does next to nothing, and takes a tenth of it: a health check has eight."""
NOT_FOR_AN_IMAGE = (".git", ".venv", "tests", "checks", "solutions")


@pytest.mark.checkpoint(
    "5.1",
    points=2,
    deadline=DEADLINE,
    hints=(
        "The order of a Dockerfile is the order of how often things change: base, then pyproject.toml and uv.lock and "
        "what they install, then lab/. A layer whose input has not changed is taken from the cache, and all before it.",
        "Two stages: the first has pip and uv and makes a virtual environment (`uv sync --locked --no-dev`), the "
        "second takes just that with `COPY --from=`. `USER` and HEALTHCHECK belong into the second.",
        "Python can ask for /health itself: `urllib.request.urlopen` raises for anything but a good answer.",
    ),
)
def test_image(files, image, show):
    """Small, and quick to rebuild.

    An image is built at every change and pulled by every machine. What it holds beyond the service costs time at each
    deployment, and is one more thing to attack; what it installs anew for each changed line costs minutes of somebody's
    day.
    """
    from checks.harness.containers.dockerfile_rules import (
        installs_again,
        installs_tests,
        leaves_cache,
        loose_base,
        missing_source,
        script,
        unusable,
    )

    recipe = files.recipe
    show.at("Dockerfile")
    if found := unusable(files.dockerfile):
        show.at(found[1])
        pytest.fail(f"Docker cannot build it: {found[0]}\nwanted: a Dockerfile that `docker build .` takes")
    last = recipe.last
    show.at(last.root.start.where)
    loose = loose_base(last.base)
    assert not loose, (
        f"the base is {last.base or 'a variable without a value'}: {loose}\n"
        "wanted: a slim base of a fixed minor version, python:3.12-slim say, or a digest"
    )
    context_is_small(files, show)
    if missing := missing_source(recipe, files.context, files.included):
        show.at(missing.where)
        pytest.fail(
            f"`{missing.text[:70]}` finds nothing in the context\n"
            "wanted: sources that are there, and that .dockerignore lets through"
        )
    seen = real_image(image, show)
    again = installs_again(recipe, files.context, files.included)
    if again:
        show.at(again[0].where)
    anew = script(again[0]) if again else seen.installs_again if seen else ""
    assert not anew, (
        f"after a change in lab/service.py `{anew[:60]}` runs again"
        + (f": line {again[1].line} has copied the file by then" if again else "")
        + "\nwanted: what installs comes before lab/ is copied\n"
        "try: `COPY pyproject.toml uv.lock ./`, install, and only then `COPY lab lab`."
    )
    cache = leaves_cache(recipe)
    if cache:
        show.at(cache[0].where)
    assert not (seen.caches if seen else cache), (
        (f"line {cache[0].line} leaves" if cache else f"a layer keeps, in {listed(seen.caches)},")
        + " what was downloaded: a later `rm` hides it, and it is pulled all the same\n"
        f"wanted: no cache of pip or uv in any layer\ntry: `{cache[1] if cache else '--no-cache'}` where it installs."
    )
    tests = installs_tests(recipe, files.context)
    if tests:
        show.at(tests[0].where)
    assert not (seen.has_locust if seen else tests), (
        (f"line {tests[0].line} brings" if tests else "`import locust` works in the image: something brings")
        + " Locust and all that only tests need into it\n"
        f"wanted: {tests[1] if tests else 'nothing but the dependencies of the service'}"
    )
    nobody_special(files.container, show)
    health_check(files.container, show)
    show.number(f"{len(files.included)} files to the engine", len(files.included))


@pytest.mark.checkpoint(
    "5.2",
    points=2,
    deadline=DEADLINE,
    hints=(
        "In a container 127.0.0.1 is the container itself. `ENV HOST=0.0.0.0` tells `python -m lab.serve` to listen on "
        "all addresses.",
        'Exec form knows no variables: `[..., "--port", "$PORT"]` hands over the five characters. `lab.serve` reads '
        "PORT and WEB_CONCURRENCY itself; a shell form needs `exec` before the command.",
        "The health check runs in the container, with its environment: let it read PORT, too.",
    ),
)
def test_listens_where_it_is_told(deploy, rng, show):
    """It listens on all addresses, where told.

    Port and number of workers belong to whoever runs the image: on another machine the port is taken, and there are
    other cores. An image that knows them better has to be built anew for each place. And one that listens on 127.0.0.1
    works on no machine but its own: nobody outside of the container can reach it.
    """
    from checks.harness.containers.deployed import until_it_answers, url
    from checks.harness.processes.workers import all_pids

    show.at(deploy.container.where)
    workers = rng.randint(3, 4)
    one, several = deploy(WEB_CONCURRENCY="1"), deploy(WEB_CONCURRENCY=str(workers))
    for service in (one, several):
        until_it_answers(service)
    found = len(all_pids(url(several), workers, 0 if just_one_process(several.output()) else 45))
    assert found == workers, (
        f"with WEB_CONCURRENCY={workers} workers that answer: {found}{reloads(several)}\n"
        f"wanted: {workers} different pids at /health: how many there are is told from outside"
    )
    found = len(all_pids(url(one), 2, 0 if just_one_process(one.output()) else 10))
    assert found == 1, (
        f"with WEB_CONCURRENCY=1 workers that answer: {found}\nwanted: 1: how many there are is told from outside"
    )
    healthy(one, deploy.container, show)
    healthy(several, deploy.container, show)
    show.number(f"1 and {workers} workers", workers)


@pytest.mark.checkpoint(
    "5.3",
    points=2,
    deadline=DEADLINE,
    hints=(
        "Process 1 gets the signal. In shell form, and in a script, that is a shell, which passes nothing on: use exec "
        'form, `CMD ["python", "-m", "lab.serve"]`, or end the script in `exec python -m lab.serve`.',
        "LAB_DRAIN_SECONDS, how long uvicorn waits for its requests, has to be longer than the longest of them.",
    ),
)
def test_ends_without_losing_anybody(deploy, show):
    """It ends well: nobody in flight is lost.

    Every deployment ends the old version, some times a day. Asked to (SIGTERM), a service takes no new connections,
    finishes what it has begun, shuts down its lifespan, and ends. One that never hears of it is killed after the grace
    time, with everybody who was waiting.
    """
    show.at(deploy.container.where)
    service, seen = while_at_work(deploy)
    first = service.first()
    show.table(
        "asked to end while at work",
        ("process 1", "in flight", "got their 200", "ended after s", "exit code"),
        [(first[:24], len(seen.answers), seen.answered, f"{seen.seconds:.1f}", seen.exit_code)],
    )
    at_work = len(seen.answers)
    others = Counter(answer for answer in seen.answers if answer != 200)
    who = f"the signal goes to `{first[:60]}`"
    assert seen.answered == at_work, (
        f"of {at_work} requests in flight {seen.answered} got their 200, the others {told(others)}, the first "
        f"{seen.lost_after or 0:.1f} s after the signal; {who}\n"
        f"wanted: a 200 for each, of up to {WORK_SECONDS:g} s: the server hears the signal, and finishes what it began"
        f"{cut_short(others)}"
    )
    assert seen.turned_away, (
        f"asked to end, it took all of {seen.asked} new connections while it finished the old ones; {who}\n"
        "wanted: at some moment a new connection gets no answer: the server heard the signal, and takes on no more work"
    )
    if seen.exit_code not in FINE:
        blame_the_machine_unless(lambda: service.grace / seconds_to_end(), 3, rounds=1)
    assert seen.exit_code in FINE, (
        f"it had to be killed after its grace time of {service.grace:g} s"
        if seen.exit_code in (None, 137, -9)
        else f"it ended with exit code {seen.exit_code}"
    ) + f"; {who}\nwanted: it ends of its own accord in that time, with exit code 0 or 143"
    silent = seen.servers == 0  # a service whose logs do not say when it starts does not say when it ends either
    assert silent or seen.started, (
        "uvicorn says that it started, and nothing of the app's startup\n"
        "wanted: the lifespan runs: `--lifespan off` skips it"
    )
    assert silent or seen.finished >= seen.started, (
        f"{seen.started} workers started the app's lifespan, {seen.finished} of them shut it down\n"
        "wanted: all of them: what is open is closed, what is buffered is written"
    )
    show.number(f"{seen.answered} answered, {seen.seconds:.1f} s", seen.seconds)


@pytest.mark.checkpoint(
    "5.4",
    points=2,
    hints=(
        "`deploy: resources: limits:` takes `cpus` and `memory`. A reservation is a promise to the service, no limit.",
        "`stop_grace_period: 15s`: docker asks, waits so long, and then kills. Ten seconds are the default, and just "
        "as long as the drain.",
        "In a container localhost is the container. Services find each other by name: `--host http://api:8000`, "
        "`--master-host master`.",
        "The long form of depends_on waits: `depends_on: {api: {condition: service_healthy}}`.",
    ),
)
def test_stack(files, show):
    """Limits, and a load test beside it.

    Without limits one service that runs wild takes its neighbours with it. With them it is throttled or ended, alone.
    And a load test that starts with the stack is one that everybody runs.
    """
    stack = files.stack
    show.at("compose.yaml")
    assert "api" in stack.services, f"compose.yaml starts {listed(stack.services)}\nwanted: `api`, your service"
    api_is_built_here(files, stack.services["api"], show)
    limits(stack, show)
    grace(files, stack, show)
    load(files, stack, show)
    names = ("cpus", "memory MB", "grace s", "behind `load`")
    cpus, memory = limits_of(stack.services["api"])
    loaded = [name for name, one in stack.services.items() if "load" in (one.get("profiles") or ())]
    row = (cpus, int(memory) >> 20, f"{files.container.stop_grace_seconds:g}", ", ".join(loaded))
    show.table("the stack", names, [row])
    show.number(f"{len(stack.services)} services", len(stack.services))


@pytest.mark.checkpoint(
    "5.5",
    points=2,
    deadline=DEADLINE,
    hints=(
        "A health check asks the service a question and wants its answer: `urllib.request.urlopen(..., timeout=2)` on "
        "/health raises where there is none, and Python then ends with exit code 1.",
        "What only installs belongs into a stage of its own: the final image copies the virtual environment from it.",
        "`docker run --read-only --tmpfs /tmp` shows what wants to write; nothing here has to.",
    ),
)
def test_real_container(deploy, image, show):
    """The real container lives and ends well.

    A machine that knows nothing of your service decides by its health check whether it lives. A check that asks only
    whether a process is there, or a port open, calls a service healthy that hangs, and all traffic keeps going to it.
    """
    from checks.harness.containers.deploy import TIMING
    from checks.harness.containers.deployed import last_lines, until_it_answers
    from checks.harness.containers.docker_service import until_health

    built = image()
    assert built.added_mb < 200, (
        f"the image adds {built.added_mb:.0f} MB to its base of {built.base_size / 1e6:.0f} MB\n"
        "wanted: under 200 MB: what the service needs (`uv sync --no-dev`), and not what installed it"
    )
    assert deploy.container.health, "there is no health check\nwanted: HEALTHCHECK, or a `healthcheck` in compose.yaml"
    at_work = deploy.real({"WEB_CONCURRENCY": "1", "LAB_INFERENCE_SECONDS": str(WORK_SECONDS)})
    frozen = deploy.real({}, read_only=True, health=TIMING)
    until_it_answers(frozen)
    uid = frozen.uid()
    assert uid != "0", "the service runs as root\nwanted: a user of its own: `USER` in the last stage"
    said = until_health(frozen, "healthy", 60)
    if said != "healthy":
        quick_enough(frozen)
    assert said == "healthy", (
        f"it answers, and the engine calls it {said}: {last_check(frozen)}\nwanted: a health check that finds /health"
    )
    started = time.monotonic()
    frozen.freeze()
    cheerful = checks_while_frozen(frozen)
    assert cheerful < CHEERFUL, (
        f"with every process frozen {cheerful} health checks in a row still said healthy\n"
        "wanted: unhealthy: a check that waits for an answer of /health, and fails when none comes"
    )
    quick_enough(frozen)
    unhealthy = time.monotonic() - started
    until_it_answers(at_work)
    service, seen = while_at_work(deploy, at_work)
    assert seen.answered == len(seen.answers), (
        f"`docker stop`: of {len(seen.answers)} requests in flight {seen.answered} got their 200; process 1 was "
        f"`{service.first()[:60]}`{last_lines(service)}\nwanted: a 200 for each: see 5.3"
    )
    assert seen.turned_away, (
        f"`docker stop`: it took all of {seen.asked} new connections, and was killed in the end\n"
        "wanted: the server itself is process 1 and hears the signal: see 5.3"
    )
    show.table(
        "the real container",
        ("MB on its base", "base MB", "built in s", "unhealthy after s", "stopped after s"),
        [
            (
                f"{built.added_mb:.0f}",
                f"{built.base_size / 1e6:.0f}",
                f"{built.seconds:.1f}",
                f"{unhealthy:.0f}",
                f"{seen.seconds:.1f}",
            )
        ],
    )
    show.number(f"{built.added_mb:.0f} MB on its base", built.added_mb)


# -- 5.1 --------------------------------------------------------------------------------------------------------------


def real_image(image, show):
    """What the engine says of the image; None where only the Dockerfile's text can tell."""
    from checks.harness.containers.image_contents import inspect

    if not image.possible:
        return None
    try:
        return inspect(image)
    except NotChecked as error:
        show.table("judged by its text", ("why",), [(str(error)[:70],)])
        return None


def context_is_small(files, show):
    """What lies around in a working copy does not reach the engine."""
    where = ".dockerignore"
    found = [name for name in NOT_FOR_AN_IMAGE if any(path.startswith(f"{name}/") for path in files.included)]
    caches = [path for path in files.included if "cache" in path]
    found += sorted({re.sub(r"(.*cache\w*)/.*", r"\1", path) for path in caches})
    if found:
        show.at(where)
    assert not found, (
        f"a build is sent {listed(found)}\n"
        "wanted: none of .git, .venv, tests, checks, solutions and caches: they slow a build, and end up in images\n"
        "try: A line each in .dockerignore; `**/__pycache__` is found at any depth."
    )


def nobody_special(container, show):
    """At the end it is not root that runs."""
    show.at(container.user_at or container.where)
    assert container.user, (
        "the service runs as root\nwanted: a user of its own: who breaks into the service is then nobody special\n"
        "try: `USER` in the last stage: one of the build stage ends with it."
    )


def health_check(container, show):
    """There is a health check, and it needs nothing that the image has only for it."""
    show.at(container.where)
    assert container.health, (
        "there is no health check\nwanted: HEALTHCHECK, or a `healthcheck` in compose.yaml: without one nobody notices "
        "a process that is there and answers nobody"
    )
    show.at(container.health.where)
    words = " ".join(container.health.test)
    program = re.search(r"\b(curl|wget|nc)\b", words)
    assert not program, (
        f"the health check calls {program and program[1]}, which a slim image does not have\n"
        "wanted: one that needs nothing else: Python is there\n"
        "try: `python -c \"import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)\"`."
    )


# -- 5.2 --------------------------------------------------------------------------------------------------------------


def reloads(service):
    """What `--reload` does to workers, where it is used."""
    return "; `--reload` starts no workers, and is for your desk" * ("Started reloader process" in service.output())


def healthy(service, container, show):
    """Its own health check finds it; one that is none is another checkpoint's business."""
    if not container.health:
        return
    show.at(container.health.where)
    for _ in range(3):  # its own time limit may be short for a busy machine
        ended = service.run(shell_or_not(container.health.test), 60)
        if ended.code == 0:
            return
    lines = ended.output.strip().splitlines() or ["it printed nothing"]
    pytest.fail(
        f"with PORT={service.told} its health check ends with exit code {ended.code}: {lines[-1][:150]}\n"
        "wanted: 0: it asks for /health, at the port that the service was told"
    )


def shell_or_not(test):
    """The command of a health check as Docker writes it: with CMD, or with CMD-SHELL."""
    kind, *words = test
    return ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words


# -- 5.4 --------------------------------------------------------------------------------------------------------------


def listed(names):
    """Names in a sentence."""
    return ", ".join(names) or "nothing"


def api_is_built_here(files, api, show):
    """`docker compose up` builds and starts it, whatever the profile."""
    show.at(files.stack.line("api", "build", "image"))
    context = (api.get("build") or {}).get("context", "")
    assert context, "`api` is not built here\nwanted: `build: .`, so that what is started is what you changed"
    assert context == str(files.tree), f"`api` is built in {context}\nwanted: `build: .`, beside compose.yaml"
    show.at(files.stack.line("api", "profiles"))
    assert not api.get("profiles"), (
        f"`api` is started only with the profile {listed(api['profiles'])}\nwanted: always: it is what the stack is for"
    )


def limits_of(api):
    """The limits of cpu and memory: cores as a number, bytes."""
    told = ((api.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    cpus, memory = told.get("cpus") or api.get("cpus") or 0, told.get("memory") or api.get("mem_limit") or 0
    return max(float(cpus), 0), max(float(memory), 0)


def limits(stack, show):
    """It cannot take the whole machine."""
    show.at(stack.line("api", "limits", "reservations", "cpus", "mem_limit"))
    cpus, memory = limits_of(stack.services["api"])
    missing = [name for name, value in (("cpu", cpus), ("memory", memory)) if not value]
    assert not missing, (
        f"`api` has no limit of {listed(missing)}\n"
        "wanted: limits for both, `deploy: resources: limits:` or `cpus` and `mem_limit`: a reservation is none"
    )


def grace(files, stack, show):
    """The engine waits longer than the service takes to finish its work."""
    show.at(stack.line("api", "stop_grace_period"))
    container = files.container
    drain = drain_seconds(container)
    assert container.stop_grace_seconds > drain, (
        f"docker kills `api` {container.stop_grace_seconds:g} s after asking it to end, and it takes up to {drain:g} s "
        "to finish its work (LAB_DRAIN_SECONDS)\n"
        "wanted: a `stop_grace_period` longer than the drain; the default is 10 s, just like the drain's"
    )


def drain_seconds(container):
    """How long the service waits for its requests at the end: uvicorn's option, the environment, lab/settings.py."""
    from lab.settings import Settings

    option = re.search(r"--timeout-graceful-shutdown[= ](\d+)", " ".join(container.argv))
    told = option[1] if option else container.environment.get("LAB_DRAIN_SECONDS", "")
    return float(told) if told.isdecimal() else float(Settings.model_fields["drain_seconds"].default)


def load(files, stack, show):
    """Behind the profile `load` Locust is ready: a master, and workers as many as asked."""
    behind = {name: one for name, one in stack.services.items() if "load" in (one.get("profiles") or ())}
    show.at("compose.yaml")
    roles = {role: [name for name, one in behind.items() if is_locust(one, role)] for role in ("master", "worker")}
    for role, names in roles.items():
        assert len(names) == 1, (
            f"behind the profile `load` are {listed(behind)}, and {listed(names)} is a Locust {role}\n"
            f"wanted: one service with `--{role}`: a master tells its workers what to do, and adds up what they saw"
        )
    (master,), (worker,) = roles.values()
    one = behind[worker]
    show.at(stack.line(worker, "container_name", "ports"))
    published = [str(port.get("published") or "") for port in one.get("ports") or ()]
    fixed = [port for port in published if port.isdecimal() and port != "0"]  # a range is for several of them
    assert not one.get("container_name"), (
        f"`{worker}` has a container_name\nwanted: none: of two containers only one can have it, and workers are scaled"
    )
    assert not fixed, (
        f"`{worker}` wants port {listed(fixed)} of the machine for itself\nwanted: none: a second worker cannot have it"
    )
    port = files.container.port
    for name in (master, worker):
        host = option(behind[name], ("--host", "-H"), "LOCUST_HOST").rstrip("/")
        show.at(stack.line(name, "host", "HOST", "command"))
        by_master = name == worker and not host  # a master tells its workers, at every start
        assert by_master or host == f"http://api:{port}", (
            f"`{name}` loads {host or 'no host at all'}\n"
            f"wanted: http://api:{port}: the service by its name, at the port inside of its container; localhost is "
            "the container itself"
        )
    told = option(one, ("--master-host",), "LOCUST_MASTER_NODE_HOST") or "127.0.0.1, the default,"
    known = {master, *names_of(behind[master])}
    show.at(stack.line(worker, "master-host", "MASTER_NODE_HOST", "command"))
    assert told in known, f"`{worker}` looks for its master at {told}\nwanted: `--master-host {master}`"
    for name in (master, worker):
        show.at(stack.line(name, "depends_on", "links"))
        assert "links" not in stack.services[name], (
            f"`{name}` has `links`\nwanted: none: services of a stack know each other by name without"
        )
        assert waits_for_health(stack.services, name), (
            f"`{name}` starts before `api` is healthy\n"
            "wanted: depends_on in its long form, `condition: service_healthy`, directly or through the master: a list "
            "waits for the container, not for the service"
        )
    targets = [one.get("target") for one in stack.services["api"].get("ports") or ()]
    show.at(stack.line("api", "ports"))
    assert not targets or port in targets, (
        f"`api` publishes port {listed(map(str, targets))}, and listens on {port}\nwanted: the latter"
    )


def names_of(service):
    """The names that others can call it by, beside its own."""
    networks = (service.get("networks") or {}).values()
    aliases = [name for network in networks for name in (network or {}).get("aliases") or ()]
    return [service.get("container_name"), service.get("hostname"), *aliases]


def words_of(service):
    """All words of its command, those that it hands to a shell among them."""
    found = [str(word) for part in ("entrypoint", "command") for word in service.get(part) or ()]
    try:
        return [word for one in found for word in (shlex.split(one) if " " in one else [one])]
    except ValueError:  # quotes that do not end
        return [word for one in found for word in one.split()]


def is_locust(service, role):
    """Whether it is a Locust in that role."""
    told = str((service.get("environment") or {}).get(f"LOCUST_MODE_{role.upper()}") or "")
    return f"--{role}" in words_of(service) or told.lower() in ("1", "true", "yes")


def option(service, names, variable):
    """What a Locust is told by an option of its command, or else by a variable of its environment; "" if nothing."""
    words = words_of(service)
    for number, word in enumerate(words):
        name, given, value = word.partition("=")
        if name in names:
            return value if given else words[number + 1] if number + 1 < len(words) else ""
    return str((service.get("environment") or {}).get(variable) or "")


def waits_for_health(services, name, seen=()):
    """Whether it starts only once `api` is healthy: it waits for that, or for a service that does."""
    for other, told in (services[name].get("depends_on") or {}).items():
        if other == "api" and told.get("condition") == "service_healthy":
            return True
        if other not in ("api", *seen) and other in services and waits_for_health(services, other, (*seen, name)):
            return True
    return False


# -- 5.3 and 5.5 ------------------------------------------------------------------------------------------------------


def while_at_work(deploy, ready=None):
    """A service, and what happened when it was asked to end in the middle of its work."""
    from checks.harness.containers.deployed import until_it_answers, url
    from checks.harness.containers.graceful_stop import TooLate, farewell
    from checks.harness.processes.workers import all_pids

    for seconds in (WORK_SECONDS, 3 * WORK_SECONDS):  # the longer one for a machine on which all takes long
        workers = 1 if ready else 2
        service = ready or deploy(WEB_CONCURRENCY=str(workers), LAB_INFERENCE_SECONDS=str(seconds))
        ready = None
        until_it_answers(service)
        workers = len(all_pids(url(service), workers, 0 if just_one_process(service.output()) else 15))
        try:
            seen = farewell(service, seconds, workers)
        except TooLate:
            continue
        lost = seen.lost_after is not None
        if lost and WORK_SECONDS <= seen.lost_after < seen.left:
            continue  # it had to finish less than that
        told_enough = seen.turned_away or seen.seconds > service.grace  # or it never heard
        if lost or seconds > WORK_SECONDS or (told_enough and seen.left > 0.85 * WORK_SECONDS):
            return service, seen
    raise Inconclusive("the requests were answered before it could be asked to end")


def told(others):
    """What came in place of an answer, in words."""
    words = {"RemoteDisconnected": "a closed connection", "ConnectionResetError": "a closed connection"}
    return ", ".join(f"{words.get(what, what)} ({number})" for what, number in others.items())


def cut_short(others):
    """What to try where the server heard the signal, and gave up on its requests too soon."""
    return (
        "\ntry: a longer drain: uvicorn cancels what is not finished then, and it ends in a 500."
        if 500 in others
        else ""
    )


def seconds_to_end():
    """How long the lab's own service takes to end, on this machine, now."""
    from checks.harness.fixtures import CONTROL, ROOT
    from checks.harness.processes.servers import server, uvicorn_command

    with server(uvicorn_command(CONTROL, factory=True), env={"LAB_INFERENCE_SECONDS": "0"}, cwd=ROOT):
        started = time.monotonic()
    return time.monotonic() - started


# -- 5.5 --------------------------------------------------------------------------------------------------------------


def last_check(service):
    """The last health check's exit code and last line."""
    _, log = service.health()
    if not log:
        return "no check has ended yet"
    lines = log[-1]["Output"].strip().splitlines() or ["it printed nothing"]
    return f"exit code {log[-1]['ExitCode']}, {lines[-1][:150]}"


def checks_while_frozen(service):
    """How many checks said healthy since it was frozen: 0 once the engine calls it unhealthy, or enough of them."""
    before = {check["Start"] for check in service.health()[1]}
    ended, deadline = {}, time.monotonic() + 120
    while time.monotonic() < deadline:
        status, log = service.health()
        ended |= {check["Start"]: check["ExitCode"] for check in log if check["Start"] not in before}
        since = [*ended.values()][1:]  # the first may have begun before
        if status == "unhealthy" and len(since) > 1 and all(since[-2:]):
            return 0
        if (fine := since.count(0)) > CHEERFUL:
            return fine
        time.sleep(0.2)
    raise Inconclusive("in two minutes the engine said neither healthy nor unhealthy of a frozen container")


def quick_enough(service):
    """Go on only if a command in the container takes no longer than it should: else its checks fail for that alone."""
    started = time.monotonic()
    service.run(["python", "-c", "import urllib.request"], 60)
    took = time.monotonic() - started
    if took > SLOW:
        raise Inconclusive(f"too busy a machine: a command in the container took {took:.1f} s")
