"""The page in a real browser: what a learner sees and does. Skipped where there is no Chromium or no Playwright.

`uv run --group browser pytest tests/guide/test_browser.py --exhaustive`; with `GUIDE_SCREENSHOTS=docs` it leaves
pictures there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from checks.harness import ROOT
from checks.harness.report.evidence import HockeyStick, Offered, Overload, Point, Served, Table, histogram, timeline
from checks.harness.report.results import Checkpoint, Exercise, Run, write
from tests.guide.opened import free_port, lab
from tests.waiting import SECONDS, until, upper_bound

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.exhaustive

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
PATIENCE = SECONDS * 1000
"""Milliseconds that a run of an exercise may take."""

BLOCKING = "answer = model.predict_blocking(body.features)"
AWAITED = "answer = await model.predict(body.features)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser of this machine."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("the page was not tried in a browser: no Chromium or Chrome on the PATH")
    api = pytest.importorskip("playwright.sync_api", reason="the page was not tried in a browser: no Playwright")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab that must not complain, nor ask any other machine for anything."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if "//127.0.0.1:" not in request.url[:20] else None)
    yield page
    context.close()
    # A server that is gone or refuses is no fault of the page, and the icon stands in the page itself.
    expected = (
        "Failed to load resource: net::ERR_",
        "Failed to load resource: the server responded with a status of 422",
        "data:",
    )
    assert [] == [text for text in said if not text.startswith(expected)]


def save(file: Path, before: str, after: str) -> None:
    """Replace the first of these in a file, as an editor does at a save."""
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def choose(page: Page, checkpoint: str) -> None:
    """Open the map at an exercise, and go to one of its checkpoints."""
    page.click(f'#map [data-k="e{checkpoint[0]}"]')
    page.click(f'#map [data-k="{checkpoint}"]')
    page.wait_for_selector(f"#card-title:has-text('{checkpoint} ')")


def shot(page: Page, name: str) -> None:
    """A picture for the README, where one is wanted."""
    if folder := os.environ.get("GUIDE_SCREENSHOTS"):
        page.screenshot(path=ROOT / folder / f"{name}.png")


def faults(page: Page) -> list[str]:
    """What axe-core finds that keeps people out."""
    page.evaluate(AXE.read_text())  # an inserted script would be against the page's policy
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:100]}" for one in serious for node in one["nodes"]]


def test_a_fresh_start(tab: Page, work: Path) -> None:
    """The map has all exercises, the first step is in hand, the lesson is beside it; nobody is kept out."""
    with lab(work) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tab.wait_for_selector("#lesson tr.here")

        assert "127.0.0.1" in tab.url
        assert "token" not in tab.url
        assert "0of 100 points" == tab.inner_text("#score .score").replace("\n", "").replace(" of", "of")
        assert 5 == tab.locator("#map > ul > li").count()
        assert "1.1" in tab.inner_text("#card-title")
        assert "checks/test_ex1.py" in tab.inner_text(".card .actions code")
        assert [] == tab.evaluate(CUT), "the drawing, and the table of the steps"
        for theme in ("light", "dark"):
            tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            assert [] == faults(tab), theme
        for width in (360, 800, 2560):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, width


CUT = """() => [...document.querySelectorAll('#lesson .drawing, #lesson .scroll')]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.innerText)"""
"""What of a lesson one sees only a part of, and has to scroll for."""

CLIPPED = """() => {
    const whole = document.documentElement, lesson = document.getElementById('lesson');
    const said = (one) => `${one.tagName}.${one.className}: ${one.innerText.slice(0, 40)}`;
    const seen = [...document.querySelectorAll('#lesson *, #content *, #status *')]
        .filter((one) => one.clientWidth > 1 && !(one instanceof SVGElement) && !one.closest('.sr'));
    const style = (one) => getComputedStyle(one);
    const wider = seen.filter((one) => one.scrollWidth > one.clientWidth + 1 && style(one).display !== 'inline');
    const lost = wider.filter((one) => style(one).overflowX !== 'auto' || one.tabIndex !== 0);
    const edge = lesson.getBoundingClientRect().right;
    const out = seen.filter((one) => one.closest('#lesson') && !one.closest('pre, .scroll')
        && one.getBoundingClientRect().right > edge + 1);
    return [...(whole.scrollWidth > whole.clientWidth ? ['the page itself'] : []), ...[...lost, ...out].map(said),
        ...wider.filter((one) => innerWidth >= 800 && one.matches('#lesson .scroll')).map(said)];
}"""
"""What is wider than its box and cannot be scrolled to by keyboard; in a window of 800 px also a table of a lesson."""

SIZES = (360, 800, 1280, 1440, 2560)


@pytest.mark.parametrize("exercise", range(1, 8))
def test_nothing_of_a_lesson_is_cut(tab: Page, solved: Path, exercise: int) -> None:
    """At each width: what is wider than its column is scrolled in a box of its own, which the Tab key reaches."""
    with lab(solved) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tell(tab, address, "/choose", {"checkpoint": f"{exercise}.1"})
        tab.wait_for_selector(f"#lesson .fill [data-field^='{exercise}.']")
        for width in SIZES:
            tab.set_viewport_size({"width": width, "height": 900})
            for fold in (False, True):
                tab.evaluate(
                    f"document.querySelectorAll('#lesson details').forEach((one) => {{ one.open = {fold:d}; }})"
                )
                assert [] == tab.evaluate(CLIPPED), width
        for theme in ("light", "dark"):
            tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            assert [] == faults(tab), theme


def tell(page: Page, address: str, path: str, what: dict[str, Any]) -> None:
    """Post something, as the page itself does."""
    home = address.partition("/?")[0]
    answer = page.context.request.post(home + path, data=what, headers={"Origin": home})
    assert answer.ok, answer.text()


def test_the_lesson_in_a_narrow_window(tab: Page, work: Path) -> None:
    """A button leads to it and one back, also by keyboard; the map stands beside it, and covers nothing."""
    with lab(work) as (_, address):
        tab.set_viewport_size({"width": 800, "height": 900})
        tab.goto(address)
        tab.wait_for_selector("#lesson tr.here")
        tab.click("[data-k=lesson]")

        assert "lesson" == tab.evaluate("document.activeElement.id")
        for _ in range(2):
            tab.mouse.move(500, 500)
            tab.mouse.wheel(0, 1500)
            tab.wait_for_timeout(100)
            rail, lesson, top = (tab.locator(name).bounding_box() for name in (".rail", "#lesson", ".ltop"))
            assert rail is not None
            assert lesson is not None
            assert top is not None
            assert rail["x"] + rail["width"] <= lesson["x"]
            assert 0 == top["y"], "its head stays"
        tab.focus(".ltop .back")
        tab.keyboard.press("Enter")
        assert "main" == tab.evaluate("document.activeElement.id")
        assert tab.locator("#card-title").is_visible()
        tab.keyboard.press("l")
        tab.keyboard.press("l")
        assert "main" == tab.evaluate("document.activeElement.id")
        for width in SIZES:
            tab.set_viewport_size({"width": width, "height": 900})
            assert [] == tab.evaluate(OUTSIDE), width


OUTSIDE = """() => [...document.querySelectorAll('.btn kbd, .map button > *')].filter((one) => {
    const [inner, outer] = [one, one.closest('button, a')].map((it) => it.getBoundingClientRect());
    return inner.left < outer.left - 0.5 || inner.right > outer.right + 0.5 || inner.bottom > outer.bottom + 0.5;
}).map((one) => one.closest('button, a').innerText)"""
"""The buttons out of which a part of them hangs."""


def test_a_measurement_is_shown_after_the_prediction(tab: Page, work: Path) -> None:
    """The lesson's own numbers are folded until something is predicted; a click shows them all the same."""
    with lab(work) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tell(tab, address, "/choose", {"checkpoint": "4.1"})
        tab.wait_for_selector("[data-field='4.0.0.1']")
        folds = tab.locator("#lesson details.measured")

        assert [False, False] == folds.evaluate_all("(all) => all.map((one) => one.open)")
        tab.focus("#lesson details.measured summary >> nth=1")
        tab.keyboard.press("Enter")
        assert [False, True] == folds.evaluate_all("(all) => all.map((one) => one.open)")
        assert "by hand" in tab.inner_text("#lesson .fill:has([data-field='4.0.0.4'])")
        assert "checks/test_ex4.py -k 4.2" in tab.inner_text("#lesson .by-hand")
        tab.fill("[data-field='4.0.0.1']", "inf")
        tab.click("text=Write down what I have filled in")
        tab.wait_for_selector("#lesson details.measured[open] >> nth=1")
        assert [True, True] == folds.evaluate_all("(all) => all.map((one) => one.open)")


def test_another_failure_closes_the_hints(tab: Page, solved: Path) -> None:
    """Those of a failure stay while it is the same, also where it has moved in the file."""
    file, right = solved / "lab/predictions.py", "math.ceil(requests / together[kind]) * seconds"
    with lab(solved) as (_, address):
        tab.goto(address)
        choose(tab, "1.8")

        def shown(before: str, after: str, words: str) -> int:
            save(file, before, after)
            tab.wait_for_selector(f'.card .fields:has-text("{words}")')
            tab.wait_for_selector("#status:has-text('Watching')")
            hints: int = tab.locator(".card .hint").count()
            return hints

        assert 0 == shown(right, "requests // together[kind] * seconds", "('threaded', 41")
        tab.keyboard.press("h")
        tab.keyboard.press("h")
        assert 2 == tab.locator(".card .hint").count()
        assert 2 == shown("import math", "import math\n\n# a line more", "predictions.py:10")
        assert 0 == shown("requests // together[kind] * seconds", "requests * seconds", "('async', 60")
        tab.keyboard.press("h")
        choose(tab, "1.2")
        choose(tab, "1.8")
        assert 1 == tab.locator(".card .hint").count()


def test_the_status_is_about_this_moment(tab: Page, solved: Path) -> None:
    """While a run goes on nothing is said of the one before; then it is named, with when it was judged."""
    with lab(solved) as (_, address):
        tab.goto(address)
        choose(tab, "1.8")
        tab.keyboard.press("c")
        tab.wait_for_selector("#status:has-text('1.8 judged at')")
        tab.evaluate(STATUSES)
        tab.keyboard.press("r")
        tab.wait_for_selector("#status:has-text('Running exercise 1')")
        tab.wait_for_selector("#status:has-text('exercise 1 judged at')")
        said: list[str] = tab.evaluate("window.said")
        running = [one for one in said if "Running" in one]

        assert any("of 9 judged" in one for one in running), said
        assert not any("judged at" in one for one in running), said
        states = tab.evaluate(DOING)
        assert states == [
            ["Running 1.4", ""],
            ["Saved: this run ends, and a new one begins", None],
            ["Saved, not judged yet", "1.4 judged at"],
            ["Watching your files", "1.4 stopped: 0 of 1 judged"],
            ["Watching your files", "1.4, begun at"],
        ]


STATUSES = """() => {
    window.said = [];
    new MutationObserver(() => window.said.push(document.getElementById('status').innerText))
        .observe(document.getElementById('status'), { childList: true });
}"""

DOING = """async () => {
    const { doing } = await import('/page/status.js');
    const last = { started: '2026-01-01T10:00:00+00:00', seconds: 2, finished: true, ids: ['1.4'], judged: 1 };
    const cut = { ...last, finished: false, judged: 0 }, running = { exercise: 1, only: ['1.4'] };
    const one = { connected: true, exercises: [{ number: 1, ids: ['1.1', '1.4'] }], last };
    return [{ running, changed: true }, { running, changed: true, ending: true }, { changed: true },
        { last: cut, ended: { stopped: true } }, { last: cut }].map((more) => {
        const { words, more: about } = doing({ ...one, ...more });
        return [words, about && about.replace(/ at .*/, ' at')];
    });
}"""
"""What the status line says in states that do not last."""

TOGETHER = """() => [...document.querySelectorAll('.card .fig tbody')].map((body) => {
    const rows = [...body.rows].map((row) => [2, 3].map((n) => Number(row.cells[n].textContent)));
    return Math.max(...rows.map(([at]) => rows.filter(([work, end]) => work <= at && at < end).length));
})"""
"""Of each picture, the most requests that were in the model at one moment: read from the same as a table."""


def test_a_blocking_call_and_its_repair(tab: Page, solved: Path) -> None:
    """A save with a blocking call fails 1.4 with its line and, asked for, its hint; the repaired file passes."""
    with lab(solved) as (_, address):
        tab.goto(address)
        choose(tab, "1.4")
        save(solved / "lab/service.py", AWAITED, BLOCKING)
        tab.wait_for_selector(".card .chip.failed")
        tab.wait_for_selector(".src .here")

        assert "predict_blocking" in tab.inner_text(".src .here")
        assert "1 of 60" in tab.inner_text(".card .big")
        assert 0 == tab.locator(".card .hint").count()
        tab.keyboard.press("h")
        assert "await model.predict" in tab.inner_text(".card .hint")
        assert [] == faults(tab)
        shot(tab, "page-failing")
        save(solved / "lab/service.py", BLOCKING, AWAITED)
        tab.wait_for_selector(".card .chip.passed")
        tab.wait_for_selector("#status:has-text('Watching')")
        assert "1.4" in tab.inner_text("#card-title")
        assert "60 of 60" in tab.inner_text(".card .big")
        titles = tab.locator(".card .fig h3").all_inner_texts()
        assert ["Before", "Now"] == [title.partition(":")[0] for title in titles]
        assert "1 of 60" in titles[0]
        assert [1, 60] == tab.evaluate(TOGETHER), "a staircase, and a wall"
        assert [] == faults(tab)


def test_what_a_learner_prints_is_text(tab: Page, solved: Path) -> None:
    """Markup in a message or in a file is shown as it is, and runs nowhere."""
    with lab(solved) as (_, address):
        tab.goto(address)
        choose(tab, "1.8")
        evil = "<img src=x onerror=document.title='owned'><b id=owned>"
        (solved / "lab/predictions.py").write_text(f'def burst_seconds(*_):\n    raise KeyError("{evil}")\n')
        tab.wait_for_selector(".card .chip.failed")
        tab.wait_for_selector(".src .here")

        assert "<img src=x" in tab.inner_text(".card")
        assert 0 == tab.locator("#owned").count()
        assert "Inference latency lab" == tab.title()


def test_two_tabs_and_a_server_that_comes_back(tab: Page, work: Path) -> None:
    """Both tabs show one run; without a server they say so and keep what they show, and find it when it is back."""
    port = free_port()  # other tests beside this one would take the usual one meanwhile
    with lab(work, "--port", port) as (process, address):
        tab.goto(address)
        choose(tab, "1.8")
        other = tab.context.new_page()
        other.goto(address)
        other.wait_for_selector("#card-title:has-text('1.8')")
        tab.keyboard.press("c")
        for page in (tab, other):
            page.wait_for_selector(".card .chip.not_started")
        other.close()
        process.terminate()
        tab.wait_for_selector(".note.bad:has-text('Not connected')")

        assert tab.locator(".card .chip.not_started").is_visible()
    with lab(work, "--port", port) as (_, again):
        assert address == again
        tab.wait_for_selector(".note.bad", state="hidden")
        tab.wait_for_selector("#status:has-text('Watching')")


PICTURES = (
    timeline([(f"#{n}", n / 100, n / 90, n / 80 + 0.1) for n in range(60)], "sixty requests", "a note"),
    histogram([0.01 + 0.001 * (n % 17) for n in range(500)], "five hundred requests"),
    Overload(
        "capacity 30/s",
        [
            Offered(times, 30 * times, lasted, Served(min(30 * times, 29), 200.0), Served(30 / times**2, p95))
            for times, lasted, p95 in ((1, 1, 300.0), (2, 3, None), (3, 1, None))
        ],
        30.0,
        500.0,
        1000.0,
    ),
    HockeyStick("users", [Point(n, 40.0 * min(n, 8), 20.0 + n**2) for n in (1, 2, 4, 8, 16)], 100.0, 320.0, 8, 8),
    HockeyStick("few users", [Point(n, 40.0 * n, 100.0) for n in (1, 2, 3)], 320.0, 320.0, None, 3),
    Table(
        "caller",
        ["the store", "wanted", "got", ""],
        [["is down", "502", "502", ""], ["is slow", "504", "502", "<- wrong"]],
    ),
)


def test_pictures_can_be_asked(tab: Page, work: Path) -> None:
    """Each picture is a sentence, a drawing whose keys read out one part, and a table; ten thousand rows are drawn."""
    passed = Checkpoint("3.9", "a title", 2, verdict="passed", points=2, evidence=[*PICTURES])
    run = Run(
        "it", "0" * 12, 1, "2100-01-01T10:00:00+00:00", {}, [Exercise(3, "Load", "", [passed])]
    )  # after the stubs
    write(run, work / ".lab/last-run.json")
    with lab(work) as (_, address):
        tab.add_init_script(DRAWN)
        tab.goto(address)
        choose(tab, "3.9")
        tab.locator(".fig canvas").nth(5).wait_for(state="attached")

        assert 2 == tab.locator("svg.picture").count()
        assert 5 == tab.locator(".fig details table").count()
        assert "← wrong" == tab.inner_text(".fig >> nth=5 >> .marked")
        assert [] == tab.evaluate(OVERLAPPING)
        until(lambda: tab.evaluate("window.drawn.at(-1)") == "300", "the last label of the last chart")
        assert [] == [text for text in tab.evaluate("window.drawn") if "." in text], "a number of users is whole"
        assert "60 requests" in tab.inner_text(".fig .read >> nth=0")
        tab.focus("svg.picture >> nth=0")
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        assert tab.inner_text(".fig .read >> nth=0").startswith("#1, due at 10 ms: waited 1.1 ms")
        tab.focus("svg.picture >> nth=1")
        tab.keyboard.press("ArrowRight")
        assert "of 500 requests took" in tab.inner_text(".fig .read >> nth=1")
        assert "29/s with admission control and 3.3/s without" in tab.inner_text(".fig >> nth=2")
        assert "lasted 3 s, 3 " in tab.inner_text(".fig >> nth=2")
        tab.focus(".fig >> nth=2 >> .two")
        tab.keyboard.press("End")
        tab.keyboard.press("ArrowLeft")
        assert "without 7.5/s in time, p95 more than 1.00 s: callers gave up" in tab.inner_text(".fig .read >> nth=2")
        assert "It breaks at 8 users" in tab.inner_text(".fig >> nth=3")
        over = tab.locator(".fig >> nth=3 >> .u-over").first
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        assert box is not None
        over.hover(position={"x": box["width"] - 2, "y": 20})
        assert tab.inner_text(".fig .read >> nth=3").startswith("16 users: 320 requests/s")
        assert [] == faults(tab)
        shot(tab, "page-pictures")


DRAWN = """
    window.drawn = [];
    const fill = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
        window.drawn.push(text);
        return fill.call(this, text, ...more);
    };
"""
"""Keeps the words that are drawn on a canvas."""

OVERLAPPING = """() => [...document.querySelectorAll('svg.picture')].flatMap((picture) => {
    const all = [...picture.querySelectorAll('text')].map((one) => [one.textContent, one.getBoundingClientRect()]);
    return all.flatMap(([name, a], n) => all.slice(n + 1)
        .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3).map(([other]) => `${name} / ${other}`));
})"""
"""The words of pictures that stand in one another."""


def test_ten_thousand_requests_are_drawn_at_once(tab: Page, work: Path) -> None:
    """In under 0.3 s; a frame of scrolling takes a small part of that; the last row and the table can be asked."""
    with lab(work) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        drawn, scrolled = tab.evaluate(MANY)
        print(f"10,000 rows: drawn in {drawn:.0f} ms, the longest of 60 frames of scrolling took {scrolled:.1f} ms")
        tab.focus("#many .rows-view")
        tab.keyboard.press("End")

        assert "request 10000, due at 10.00 s: waited 5.0 ms" in tab.inner_text("#many .read")
        assert 0 == tab.locator("#many table").count()
        tab.click("#many summary")
        tab.wait_for_selector("#many tbody tr", state="attached")  # it is made when it is opened
        assert 10_000 == tab.locator("#many tbody tr").count()
        with upper_bound():
            assert drawn < 300
            assert scrolled < 50


MANY = """async () => {
    const { picture } = await import('/page/pictures.js');
    const rows = Array.from({ length: 10000 }, (_, n) => ({ label: '', wait: n, work: n + 5, end: n + 9 }));
    const began = performance.now();
    const holder = document.createElement('div');
    holder.id = 'many';
    holder.append(picture({ kind: 'timeline', title: 'many', rows, unit: 'ms', left_out: 0 }));
    document.getElementById('content').append(holder);
    holder.getBoundingClientRect();
    const drawn = performance.now() - began;
    const view = holder.querySelector('.rows-view');
    let longest = 0;
    for (let n = 1; n <= 60; n += 1) {
        await new Promise(requestAnimationFrame);
        const from = performance.now();
        view.scrollTop = n * 600;
        view.dispatchEvent(new Event('scroll'));
        await new Promise(requestAnimationFrame);
        view.getBoundingClientRect();
        longest = Math.max(longest, performance.now() - from);
    }
    return [drawn, longest];
}"""
"""Draws ten thousand requests, then scrolls through them; gives the milliseconds of both."""


def measure(page: Page, **fields: str) -> None:
    """Fill the bench's form in, and measure to the end."""
    for name, value in fields.items():
        if name in ("path", "load"):
            page.check(f"input[name={name}][value='{value}']")
        else:
            page.fill(f"#{name}", value)
    page.click("[data-k=measure]")
    page.wait_for_selector(".results .chip.running")
    page.wait_for_selector(".results [data-run]")


def test_the_bench_wants_a_prediction_first(tab: Page, solved: Path) -> None:
    """Without one it says so; with one it measures live in all tabs, and says how far the prediction was off."""
    with lab(solved) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tab.keyboard.press("b")
        tab.check("input[name=path][value='/predict/blocking']")
        tab.fill("#connections", "12")
        other = tab.context.new_page()
        other.goto(f"{address.partition('/?')[0]}/#bench")
        other.wait_for_selector(".bench-form")
        tab.click("[data-k=measure]")
        tab.wait_for_selector("[role=alert]:has-text('Write down what you expect first')")
        assert not (solved / ".lab/bench").exists()
        measure(tab, last_s="0.12", per_second="100")

        other.wait_for_selector(".results [data-run]")
        assert "12" in tab.inner_text(".results tbody >> nth=0")
        assert [] == tab.evaluate(OVERLAPPING)
        off = tab.locator(".guess .error").all_inner_texts()
        assert off[0].endswith("% too low.")
        assert off[1].endswith("% too high.")
        assert 12 == tab.locator(".results .fig tbody >> nth=1").locator("tr").count()
        assert "" == tab.input_value("#last_s"), "the next run has a prediction of its own"
        tab.evaluate("scrollTo(0, 0)")
        shot(tab, "page-bench")
        tab.fill("#explained", "One at a time: they wait in <b>line</b>.")
        tab.click("[data-k=explain]")
        tab.wait_for_selector("[data-k=explain]:has-text('again')")
        assert [] == faults(tab)
        measure(tab, path="/predict", connections="6", last_s="0.12")  # from one field straight into the next
        tab.click(".kept [data-k^=with-]")
        tab.wait_for_selector("#compared-title")
        assert [] == faults(tab)
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert [] == faults(tab)
        for width in (360, 800, 2560):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, width
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        saved = tab.context.request.get(f"{address.partition('/?')[0]}/bench").json()
        assert ["One at a time: they wait in <b>line</b>.", ""] == [run["explained"] for run in saved]


def test_streams_on_the_bench(tab: Page, solved: Path) -> None:
    """The form has what streams need; each is a row of ticks that can be asked, and goodput over load is a curve."""
    with lab(solved) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tab.keyboard.press("b")
        tab.check("input[name=path][value='/generate']")

        assert "8" == tab.input_value("#connections"), "as many as suit the path"
        assert tab.locator("#workers").is_hidden()
        measure(tab, load="open", seconds="3", rate="6", max_tokens="8", goodput="6", slots_held="2", ttft_p95_ms="400")
        assert 3 == tab.locator(".guess .error").count()
        assert tab.evaluate(FILLED), "no part of the row of predictions is empty"
        assert "Streams, token by token" in tab.inner_text(".results .fig h3 >> nth=0")
        tab.focus(".results svg.picture >> nth=0")
        tab.keyboard.press("ArrowDown")
        said = tab.inner_text(".results .read >> nth=0")
        assert said.startswith("stream 1, due at"), said
        assert "7 more at TPOT" in said
        assert "Your service counts:" in tab.inner_text(".results")
        tab.evaluate("scrollTo(0, 0)")
        shot(tab, "page-streams")
        assert [] == faults(tab)
        measure(tab, load="sweep", seconds="1", goodput_2x="4")
        tab.locator(".results .fig canvas").nth(1).wait_for(state="attached")
        tab.focus(".results .two")
        tab.keyboard.press("End")
        assert "the capacity, " in tab.inner_text(".results .read >> nth=0")
        tab.click(".kept [data-k^=with-]")
        tab.wait_for_selector("#compared-title")
        for theme in ("light", "dark"):
            tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            assert [] == faults(tab), theme
        for width in (360, 800, 2560):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, width
        tab.check("input[name=path][value='/predict']")
        assert tab.is_checked("input[name=load][value=open]"), "which has no such load"


FILLED = """() => {
    const row = document.querySelector('.guesses').getBoundingClientRect();
    const cells = [...document.querySelectorAll('.guess')].map((one) => one.getBoundingClientRect());
    const area = cells.reduce((sum, cell) => sum + cell.width * cell.height, 0);
    return area > 0.98 * row.width * row.height;
}"""


def test_batches_on_the_bench(tab: Page, solved: Path) -> None:
    """Each batch can be asked who was in it; the law stands beside the numbers, and over the rate as a line."""
    with lab(solved) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tab.keyboard.press("b")
        measure(tab, path="/predict/batched", load="open", seconds="1", batch_mean="3", mean_ms="100")

        assert 2 == tab.locator(".guess .bars span:has-text('the law')").count()
        assert "Your service counts batches by size" in tab.inner_text(".results")
        tab.focus(".results svg.picture >> nth=0")
        tab.keyboard.press("ArrowDown")
        assert tab.inner_text(".results .read >> nth=0").startswith("batch 1: ")
        tab.evaluate("scrollTo(0, 0)")
        shot(tab, "page-batches")
        assert [] == faults(tab)
        measure(tab, load="sweep", seconds="1", batch_mean_80="6")
        tab.locator(".results .fig canvas").nth(1).wait_for(state="attached")
        tab.focus(".results .two")
        tab.keyboard.press("End")
        assert "by the law" in tab.inner_text(".results .read >> nth=0")
        shot(tab, "page-law")
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert [] == faults(tab)
        tab.set_viewport_size({"width": 360, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_stub_on_the_bench(tab: Page, work: Path) -> None:
    """What is still a stub is not measured: the page has its words and its line, and the prediction is kept."""
    with lab(work) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tab.click("[data-k=bench]")
        measure(tab, last_s="1")

        assert "still a stub" in tab.inner_text(".results .chip >> nth=0")
        assert "create_app" in tab.inner_text(".results .fields")
        tab.wait_for_selector(".results .src .here")
        assert "There is no measurement." in tab.inner_text(".guess")
        assert [] == faults(tab)


def test_the_tables_of_a_lesson_are_filled_in(tab: Page, solved: Path) -> None:
    """A prediction by hand, one measured on the bench, a sentence: all are there after a reload and in the export."""
    with lab(solved) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#lesson .fill input")
        tab.fill("[data-field='1.0.0.1']", "0.1")
        tab.click("text=Write down what I have filled in")
        tab.wait_for_selector("#lesson .fill:has-text('0.1') input[data-what=measured]")
        tab.fill("[data-field='1.0.3.3']", "0.1")
        tab.click("[data-k='1.0.3.3-bench']")
        tab.wait_for_selector(".bench-form")
        assert ("60", "0.1") == (tab.input_value("#connections"), tab.input_value("#last_s"))
        tab.click("[data-k=measure]")
        tab.wait_for_selector(".results [data-run]")
        assert tab.evaluate("document.querySelector('.results').getBoundingClientRect().top") >= 0, "it is in view"
        tab.click("[data-k=bench]")
        tab.wait_for_selector("#lesson .fill:has-text('% too low')")
        tab.fill("#table-explained", "They wait for each other.")
        tab.click("#lesson .explain button >> nth=1")
        tab.wait_for_selector(".note:has-text('in your journal')")
        tab.click("[data-k=alone]")
        tab.wait_for_selector(".card .chip.passed")
        tab.wait_for_selector("#status:has-text('Watching')")
        assert [] == faults(tab)
        tab.reload()
        tab.wait_for_selector("#lesson .fill:has-text('% too low')")
        with tab.expect_download() as download:
            tab.click("[data-k=export]")
        exported = Path(solved / "lab.html")
        download.value.save_as(exported)
    context = tab.context.browser.new_context() if tab.context.browser else None
    assert context is not None
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(exported.as_uri())
    text = page.inner_text("body")

    assert [exported.as_uri()] == asked, "it needs nothing else"
    for said in ("1.1", "requests: 60", "They wait for each other.", "too low", "60 requests at once"):
        assert said in text, said
    assert [] == faults(page)
    context.close()


def test_by_keyboard_alone(tab: Page, work: Path) -> None:
    """Keys go from checkpoint to checkpoint, do not fire while they are switched off, and focus survives events."""
    with lab(work) as (_, address):
        tab.goto(address)
        tab.wait_for_selector("#card-title")
        tab.keyboard.press("j")
        tab.wait_for_selector("#card-title:has-text('1.2')")
        tab.focus('#map [data-k="1.3"]')
        tab.keyboard.press("c")
        tab.wait_for_selector(".card .chip.not_started")
        tab.wait_for_selector("#status:has-text('Watching')")

        assert "1.3" == tab.evaluate("document.activeElement.dataset.k")
        tab.keyboard.press("?")
        tab.wait_for_selector("dialog[open]")
        tab.uncheck("#single-keys")
        tab.keyboard.press("Escape")
        tab.keyboard.press("j")
        assert "1.2" in tab.inner_text("#card-title")
