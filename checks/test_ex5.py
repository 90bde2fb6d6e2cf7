"""Exercise 5 - Docker.

The image is where your service meets a machine that is not yours. What counts is what it does there: where it listens,
how it ends, and whether it says the truth about its health. Begin with `Dockerfile`.
"""

import re
import shlex

import pytest

DEADLINE = 900
"""Seconds for a checkpoint that may have to build the image first."""
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
def test_image(files, show):
    """Small, and quick to rebuild.

    An image is built at every change and pulled by every machine. What it holds beyond the service costs time at each
    deployment, and is one more thing to attack; what it installs anew for each changed line costs minutes of somebody's
    day.
    """
    from checks.harness.layering import (
        installs_again,
        installs_tests,
        leaves_cache,
        loose_base,
        missing_source,
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
    if found := installs_again(recipe, files.context, files.included):
        again, brings = found
        show.at(again.where)
        pytest.fail(
            f"after a change in lab/service.py line {again.line} installs everything again: line {brings.line} has "
            "copied the file by then\n"
            "wanted: what installs comes before lab/ is copied\n"
            "try: `COPY pyproject.toml uv.lock ./`, install, and only then `COPY lab lab`."
        )
    if found := leaves_cache(recipe):
        show.at(found[0].where)
        pytest.fail(
            f"line {found[0].line} leaves what was downloaded in its layer: a later `rm` hides it, and it is pulled "
            f"all the same\nwanted: no cache of pip or uv in any layer\ntry: `{found[1]}` where it installs."
        )
    if found := installs_tests(recipe, files.context):
        show.at(found[0].where)
        pytest.fail(
            f"line {found[0].line} brings Locust and all that only tests need into the image\nwanted: {found[1]}"
        )
    nobody_special(files.container, show)
    health_check(files.container, show)
    show.number(f"{len(files.included)} files to the engine", len(files.included))


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


# -- 5.1 --------------------------------------------------------------------------------------------------------------


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
