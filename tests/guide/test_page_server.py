"""The page's server: who may talk to it, what it serves, and one real run from a save to its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from checks.harness import ROOT
from lab_guide import lessons, rendering
from lab_guide.app import PAGE, create_app
from lab_guide.fields import HEADING
from lab_guide.place import Place, find_place
from lab_guide.serving import PortTaken, listen
from lab_guide.state import Guide, Selection
from tests.exercises import EXERCISES
from tests.guide.opened import LAB, connected, events, free_port, lab
from tests.waiting import ended

PORT, TOKEN = 8460, "t" * 43
HOME = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def guide(work: Path) -> Guide:
    """The guide of the stubs; nothing is watched."""
    return Guide(find_place(work))


@pytest.fixture
async def stranger(guide: Guide) -> AsyncIterator[httpx.AsyncClient]:
    """A client without the token."""
    transport = httpx.ASGITransport(create_app(guide, PORT, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
        yield client


@pytest.fixture
async def page(stranger: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that has opened the address."""
    welcome = await stranger.get("/", params={"token": TOKEN})
    assert 303 == welcome.status_code
    stranger.headers["Origin"] = HOME
    return stranger


async def test_the_token_is_exchanged_for_a_cookie(page: httpx.AsyncClient) -> None:
    """The cookie is for no script and for no other site, and its name has the port."""
    welcome = await page.get("/", params={"token": TOKEN})

    cookie = welcome.headers["set-cookie"]
    assert cookie.startswith(f"lab_{PORT}={TOKEN}; HttpOnly;")
    assert "SameSite=strict" in cookie
    assert 200 == (await page.get("/")).status_code


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/events",
        "/page/main.js",
        "/source?file=lab/service.py&line=1",
        "/lesson/1",
        "/bench",
        "/journal/1",
        "/export",
    ],
)
async def test_without_the_token_nothing_is_shown(stranger: httpx.AsyncClient, path: str) -> None:
    """Another user of this machine, who knows the port, gets nothing."""
    assert 403 == (await stranger.get(path)).status_code
    assert 403 == (await stranger.get("/", params={"token": "wrong"})).status_code


async def test_another_name_for_this_machine_is_refused(page: httpx.AsyncClient) -> None:
    """A name that somebody else lets point here does not get in, whatever cookie comes with it."""
    for host in ("evil.example:8460", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8460"):
        assert 400 == (await page.get("/", headers={"Host": host})).status_code, host
    assert 200 == (await page.get("/page/main.js", headers={"Host": f"127.0.0.1:{PORT}"})).status_code


async def test_another_page_cannot_start_a_run(page: httpx.AsyncClient, guide: Guide) -> None:
    """What changes something needs this page's own origin, and JSON, which no form sends."""
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{PORT + 1}", ""):
        answer = await page.post("/run", json={"exercise": 1}, headers={"Origin": origin})
        assert 403 == answer.status_code, origin
    plain = await page.post("/run", content='{"exercise": 1}', headers={"Content-Type": "text/plain"})
    assert 415 == plain.status_code
    assert guide._wanted == []


async def test_every_answer_has_the_policy(page: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    """Refused or not: no script but the page's own, nothing from elsewhere, in no frame."""
    for answer in (await page.get("/"), await page.get("/nowhere"), await stranger.get("/", headers={"Host": "x"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


async def test_only_what_there_is_can_be_run(page: httpx.AsyncClient, guide: Guide) -> None:
    """Exercises and checkpoints are looked up; a word that pytest would take for an option is none."""
    for wanted in ({"exercise": 9}, {"exercise": 1, "only": ["1.4 or --pdb"]}, {"exercise": 1, "only": ["2.1"]}, {}):
        assert 422 == (await page.post("/run", json=wanted)).status_code, wanted
    assert 422 == (await page.post("/choose", json={"checkpoint": "x"})).status_code
    assert guide._wanted == []

    assert 202 == (await page.post("/run", json={"exercise": 1, "only": ["1.4"]})).status_code
    assert [Selection(1, ("1.4",))] == guide._wanted


async def test_source_is_the_learners_and_escaped(page: httpx.AsyncClient, work: Path) -> None:
    """Lines of the learner's files only; what stands in them never becomes markup."""
    (work / "lab/service.py").write_text("x = '<img src=x onerror=alert(1)>'\n")
    (work / ".env").write_text("KEY=secret\n")
    (work / "lab/link.py").symlink_to(ROOT / "pyproject.toml")

    shown = (await page.get("/source", params={"file": "lab/service.py", "line": 1})).json()

    assert "<img" not in shown["lines"][0]["html"]
    assert "&lt;img" in shown["lines"][0]["html"]
    for file in (
        "../pyproject.toml",
        "/etc/passwd",
        ".env",
        "lab/link.py",
        "lab/../.env",
        "lab",
        ".lab/token",
        "none.py",
    ):
        assert (await page.get("/source", params={"file": file, "line": 1})).json() is None, file
    assert (await page.get("/source", params={"file": "lab/service.py", "line": 99})).json() is None
    for name in ("../app.py", "%2e%2e/app.py", "%2e%2e%2fapp.py", "none.js"):
        assert 404 == (await page.get(f"/page/{name}")).status_code, name


async def test_a_stub_comes_with_its_task(page: httpx.AsyncClient, work: Path) -> None:
    """A line in a stub brings what the stub's docstring wants; one in other code does not."""
    lines = (work / "lab/service.py").read_text().splitlines()
    stub = next(n for n, line in enumerate(lines, 1) if "1.2: POST /predict" in line)

    assert "One prediction, awaited" in (await page.get(f"/source?file=lab/service.py&line={stub}")).json()["task"]
    assert "" == (await page.get("/source?file=lab/service.py&line=1")).json()["task"]


@pytest.mark.parametrize("number", EXERCISES)
async def test_lessons_are_rendered(page: httpx.AsyncClient, number: int) -> None:
    """Every section of a lesson is there, with its tables and its code."""
    sections = (await page.get(f"/lesson/{number}")).json()

    work = next(s["html"] for s in sections if s["title"] == "The work")
    assert "<table>" in work
    assert "<script" not in str(sections)
    assert " style=" not in str(sections), "the page's policy forbids it"
    assert 404 == (await page.get("/lesson/9")).status_code


@pytest.mark.parametrize(("number", "folds"), [(1, 0), (2, 0), (3, 1), (4, 2), (5, 1), (6, 1), (7, 1)])
def test_what_a_lesson_has_measured_is_folded(number: int, folds: int) -> None:
    """Each pair of marks is one fold, in the section of the predictions, and no mark is shown."""
    sections = rendering.lesson(lessons.lesson(ROOT, number))
    found = {one.title: one.html.count('<details class="measured">') for one in sections}

    assert folds == sum(found.values()) == found[HEADING]
    assert not any("measured --" in one.html for one in sections)


def test_a_save_runs_what_it_touches(guide: Guide) -> None:
    """The chosen checkpoint first, then its exercise; of a slow exercise the checkpoint only; a file decides which."""
    guide.choose("1.4")

    assert [Selection(1, ("1.4",)), Selection(1)] == guide.selections({"lab/service.py"})
    assert [Selection(3, ("3.1",))] == guide.selections({"loadtests/locustfile.py"})
    assert [Selection(5, ("5.1",)), Selection(5)] == guide.selections({"Dockerfile"})
    assert [Selection(1, ("1.4",)), Selection(1)] == guide.selections({"lab/helper_of_my_own.py"})


def test_the_page_is_small() -> None:
    """All that a browser loads, and the charting library brings its licence."""
    files = [path for path in PAGE.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < 200_000
    assert "MIT" in (PAGE / "vendor/uPlot.LICENSE").read_text()


def test_a_port_in_use() -> None:
    """A port that was asked for is named if it is taken; without one the next free port is found."""
    with listen(None) as first, listen(None) as second:
        ports = [one.getsockname()[1] for one in (first, second)]
        with pytest.raises(PortTaken, match=f"Port {ports[0]} is taken"):
            listen(ports[0])

    assert ports[0] < ports[1]


def test_what_cannot_be_written_goes_elsewhere(work: Path) -> None:
    """Where `.lab` cannot be a folder the results go to a temporary one, and pytest is told so."""
    (work / ".lab").write_text("")

    place = find_place(work)

    assert work not in place.folder.parents
    assert str(place.folder) in place.note
    assert ["--results", str(place.results)] == place.command(1)[3:5]
    shutil.rmtree(place.folder)


# -- for real --------------------------------------------------------------------------------------------------------


@pytest.mark.cost(8)
def test_from_a_save_to_the_verdict(work: Path) -> None:
    """A save starts the run of the command line; its results come as they are written; Ctrl-C ends all at once."""
    with lab(work) as (process, address), connected(address) as client, closing(events(client)) as told:
        name, state = next(told)
        assert ("state", "1.1") == (name, state["chosen"])
        assert 202 == client.post("/choose", json={"checkpoint": "1.8"}).status_code
        shutil.copy(ROOT / "solutions/lab/predictions.py", work / "lab/predictions.py")
        seen: list[tuple[str, dict[str, Any]]] = []
        while [name for name, _ in seen].count("ended") < 2:
            seen.append(next(told))
        names = [name for name, _ in seen if name not in ("chosen", "run")]
        runs = [data for name, data in seen if name == "run"]

        assert ["saved", "running", "ended", "running", "ended"] == names
        assert {"files": ["lab/predictions.py"], "again": {}} == dict(seen)["saved"]
        assert ["1.8"] == [c["id"] for c in runs[0]["exercises"][0]["checkpoints"]]
        assert json.loads((work / ".lab/last-run.json").read_text()) == runs[-1]
        assert (False, True) == (runs[0]["finished"], runs[-1]["finished"])
        verdicts = {c["id"]: c["verdict"] for c in runs[-1]["exercises"][0]["checkpoints"]}
        assert ("passed", "not_started") == (verdicts["1.8"], verdicts["1.1"])
        again = client.get(f"/runs/{seen[-1][1]['runs'][-1]}").json()
        assert runs[-1] == again
        process.send_signal(signal.SIGINT)
        assert [] == [name for name, _ in told]
        assert 0 == ended(process)
        assert not (work / ".lab/guide.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that can be caught")
def test_a_page_that_is_terminated_leaves_no_address(work: Path) -> None:
    """SIGTERM, which `uv run` passes on, ends the page as Ctrl-C does: nothing says that it is open still."""
    with lab(work) as (process, address), connected(address):
        assert (work / ".lab/guide.json").exists()
        process.terminate()
        ended(process)

        assert not (work / ".lab/guide.json").exists()


@pytest.mark.exhaustive
def test_a_run_that_hangs_is_ended_by_the_next_save(work: Path) -> None:
    """A newer save ends the run that is under way, however stuck the learner's code is; nothing of it goes on."""
    with lab(work) as (_, address), connected(address) as client, closing(events(client)) as told:
        next(told)
        client.post("/choose", json={"checkpoint": "1.8"})
        stuck = "import os, pathlib, time\npathlib.Path(__file__).parents[1]\nwhile True: time.sleep(1)\n"
        (work / "lab/predictions.py").write_text(stuck)
        while next(told)[0] != "running":
            pass
        shutil.copy(ROOT / "solutions/lab/predictions.py", work / "lab/predictions.py")
        seen: list[tuple[str, dict[str, Any]]] = []
        while not seen or seen[-1][0] != "ended" or seen[-1][1]["stopped"]:
            seen.append(next(told))
        run = next(data for name, data in reversed(seen) if name == "run")

        assert any(data["stopped"] for name, data in seen if name == "ended")
        assert run["finished"]
        assert not next(data for name, data in seen if name == "run")["finished"]
        assert "passed" == run["exercises"][0]["checkpoints"][0]["verdict"]


@pytest.mark.exhaustive
def test_a_second_start_names_the_first(work: Path) -> None:
    """The page of a place is served once; another start prints its address and ends."""
    with lab(work) as (first, address), connected(address), lab(work) as (second, other):
        assert address == other
        assert 0 == ended(second)
        assert first.poll() is None


@pytest.mark.exhaustive
def test_a_page_finds_the_server_that_comes_back(work: Path) -> None:
    """After a new start on the same place the cookie of before is still good."""
    port = free_port()
    with lab(work, "--port", port) as (process, address), connected(address) as client:
        process.send_signal(signal.SIGINT)
        ended(process)
        with lab(work, "--port", port) as (_, again), connected(again):
            assert address == again
            assert 200 == client.get("/").status_code


def test_a_port_of_ones_own(work: Path) -> None:
    """`--port` with a taken one says so, and exits with 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [LAB, "--port", str(port), "--workspace", work], capture_output=True, text=True, check=False
        )

    assert 2 == done.returncode
    assert f"Port {port} is taken" in done.stderr


def test_place_of_the_lab_itself() -> None:
    """In the lab's own folder the page starts exactly what the README has."""
    place = Place(ROOT, ROOT, ROOT / ".lab")

    assert ["checks/test_ex1.py", "-k", "1.4"] == place.command(1, ("1.4",))
