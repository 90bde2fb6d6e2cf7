"""Where what a function returned was made, and where an admission control lets wait: the lines that explain."""

from __future__ import annotations

from checks.harness.cell import turns
from checks.harness.judge.handles import beside
from checks.harness.judge.made import where_constant, where_made
from tests.judge.conftest import Learner

HELPED = """
LIMIT = 0.2
SECONDS = 1000


def ranked(samples, q):
    return below(sorted(samples), q)


def below(ordered, q):
    if not ordered:
        raise ValueError
    return ordered[int(q)]


def doubled(number):
    return 2 * below([number], 0)


def is_near(share):
    return share <= LIMIT
"""

CONTROL = """
import asyncio


class Control:
    def __init__(self, app, max_in_flight, max_queue, queue_seconds):
        self.app, self.free, self.queue, self.seconds = app, max_in_flight, [], queue_seconds

    async def __call__(self, scope, receive, send):
        if await self.got_a_slot():
            await self.app(scope, receive, send)
            self.hand_on()

    async def got_a_slot(self):
        if self.free:
            self.free -= 1
            return True
        turn = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        asyncio.get_running_loop().call_later(self.seconds, self.give_up, turn)
        return await turn

    def hand_on(self):
        self.queue.pop().set_result(True)

    def give_up(self, turn):
        turn.set_result(False)
"""


def test_a_value_that_was_handed_on_was_made_below(learner: Learner) -> None:
    """The innermost `return` that gave it; of a value that was changed on the way, the one that changed it."""
    thing = learner.wrote(HELPED)

    assert "lab/thing.py:13 in below\n    return ordered[int(q)]" == where_made(
        learner.workspace, thing.ranked, [20.5, 10.5], 1
    )
    assert "lab/thing.py:17 in doubled" in (where_made(learner.workspace, thing.doubled, 4.5) or "")
    assert where_made(learner.workspace, thing.ranked, [], 1) is None


def test_a_constant_is_named_if_the_right_one_mends_all_calls(learner: Learner) -> None:
    """It alone, and it keeps its value."""
    thing, calls = learner.wrote(HELPED), [(0.1,), (0.18,), (0.3,)]

    assert "lab/thing.py:2\n    LIMIT = 0.2" == where_constant(
        learner.workspace, thing.is_near, calls, [True, False, False], 0.15
    )
    assert where_constant(learner.workspace, thing.is_near, calls, [False, True, True], 0.15) is None
    assert thing.is_near(0.18) is True


def test_an_admission_control_shows_its_lines(learner: Learner) -> None:
    """What calls the app, where a second request waits, what hands a slot on, and what ends a wait."""
    thing = learner.wrote(CONTROL)
    found = beside(thing.Control, turns).turns(thing.Control)
    names = {kind: [name for _, _, name in lines] for kind, lines in found.items()}

    assert ["__call__"] == names["passes"][:1]
    assert "got_a_slot" == names["waits"][-1]
    assert ["__call__", "got_a_slot"] == names["decides"]
    assert ["hand_on"] == names["hands"][:1]
    assert ["give_up"] == names["leaves"][:1]
    assert [] == names["together"]


def test_a_wait_that_was_over_too_early_is_looked_at_again(learner: Learner) -> None:
    """On a busy machine more time passes than a request may wait, before anyone has looked."""
    slow = "        if self.seconds < 0.1:\n            time.sleep(0.1)\n        return await turn"
    late = CONTROL.replace("        return await turn", slow).replace("import", "import time, ")
    thing = learner.wrote(late)
    found = beside(thing.Control, turns).turns(thing.Control)

    assert "got_a_slot" == found["waits"][-1][2]
    assert ["__call__", "got_a_slot"] == [name for _, _, name in found["decides"]]
