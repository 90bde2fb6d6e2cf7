"""The uid cell: what another user can do on this machine, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.walls import uid, users
from checks.harness.walls.choice import choose
from checks.harness.walls.closed import closed
from checks.harness.walls.users import become, processes, user_of
from checks.harness.walls.wall import NoCell, Room
from tests.runs import open_above
from tests.waiting import finished, until

as_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="changes to another user")
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
"""One that every user may start: that of the lab may be in the home of root."""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A folder for one run, which other users can reach, and an end of all that was started in it."""
    open_above(tmp_path)
    room = Room([], tmp_path / "7" / "home", 7)
    room.folder.mkdir(parents=True)
    yield room
    uid.Uid().end(room)


def told(program: str, room: Room) -> subprocess.CompletedProcess[str]:
    """What a program in Python prints in a uid cell."""
    behind = uid.Uid().around([PYTHON, "-c", program], room, {})
    return finished(behind.arguments, env=behind.environment, cwd=room.folder)


@as_root
def test_a_run_is_a_user_of_its_own(room: Room) -> None:
    """Without groups, capabilities or a way to get any; its home is its own, and its environment is new."""
    program = """
import json, os
masks = [line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')]
print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), os.environ['HOME'], sorted(os.environ), masks]))
"""
    seen = json.loads(told(program, room).stdout)
    user = user_of(7)

    assert seen[:3] == [[user] * 3, [user] * 3, []]
    assert seen[3] == str(room.folder)
    assert "USER" not in seen[4]
    assert all(int(mask, 16) == 0 for mask in seen[5])
    assert (room.folder.stat().st_uid, room.folder.stat().st_mode & 0o777) == (user, 0o700)


@as_root
@pytest.mark.parametrize(
    "act",
    [
        "os.setuid(0)",
        "open('/etc/shadow')",
        "os.listdir({other!r})",
        "open({above!r} + '/new', 'w')",
        "open({root!r} + '/checks/new.py', 'w')",
        "open({venv!r} + '/new.pth', 'w')",
        "os.kill({pid}, 9)",
        "os.listdir('/proc/{pid}/fd')",
        "open('/proc/{pid}/environ').read()",
    ],
)
def test_it_cannot_touch_what_is_not_its_own(act: str, room: Room) -> None:
    """Files of root, of another run, of the lab; the process that grades."""
    other = Room([], room.folder.parents[1] / "8" / "home", 8)
    other.folder.mkdir(parents=True)
    uid.Uid().around([], other, {})
    names = {"other": str(other.folder.parent), "above": str(room.folder.parent), "root": str(ROOT)}
    names |= {"venv": sys.prefix}
    done = told(f"import os\n{act.format(**names, pid=os.getpid())}", room)

    assert done.returncode == 1
    assert "PermissionError" in done.stderr, done.stderr


@as_root
def test_nothing_of_it_stays(room: Room) -> None:
    """A daemon in a session of its own that hides behind root and cannot be asked to end, and files in /tmp."""
    left = Path(f"/tmp/left-by-a-cell-{os.getpid()}")
    program = f"""
import ctypes, os, signal, time
os.mkdir({str(left)!r}); open({str(left / "file")!r}, "w").close()
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for end in (0, 1, 2): os.dup2(null, end)
        time.sleep(600)
"""
    assert told(program, room).returncode == 0
    until(lambda: len(processes(user_of(7))) == 3, "three daemons")

    uid.Uid().end(room)

    assert processes(user_of(7)) == []
    assert not left.exists()


@as_root
def test_what_goes_on_forking_ends_as_well(room: Room) -> None:
    """Whoever kills one by one is too late for processes that only fork and end."""
    written = room.folder / "written"
    program = """
import os, time
began, file = time.time(), os.open("written", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for end in (0, 1, 2): os.dup2(null, end)
        while time.time() - began < 60:
            os.write(file, b".")
            if os.fork(): os._exit(0)
"""
    assert told(program, room).returncode == 0
    until(lambda: written.stat().st_size > 100, "processes that fork")

    uid.Uid().end(room)
    size = written.stat().st_size
    time.sleep(1)

    assert written.stat().st_size == size
    assert processes(user_of(7)) == []


@as_root
def test_grades_and_answers_are_closed_while_a_class_is_graded(room: Room) -> None:
    """What was open to all is open again afterwards, but for the grades, which stay root's."""
    out, submission = room.folder.parents[1] / "grades", room.folder.parents[1] / "class"
    (out / "ada").mkdir(parents=True)
    (out / "ada" / "results.json").write_text("{}")
    submission.mkdir()
    submission.chmod(0o755)
    paths = [out / "ada", submission, ROOT / "solutions", ROOT / "tests"]
    program = f"import os; print([os.access(name, os.R_OK | os.X_OK) for name in {[str(path) for path in paths]!r}])"

    with uid.Uid().hiding(out, [submission]):
        assert told(program, room).stdout == "[False, False, False, False]\n"
    assert told(program, room).stdout == "[False, True, True, True]\n"


@as_root
def test_the_last_of_two_gradings_opens_what_both_have_closed(room: Room) -> None:
    """As the first one found it; and the next one does so after one that was killed."""
    open_to_all = room.folder.parents[1] / "class"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    seen = []
    with ExitStack() as first, ExitStack() as second:
        for stack in (first, second):
            stack.enter_context(closed(open_to_all))
        for stack in (first, second):
            stack.close()
            seen.append(open_to_all.stat().st_mode & 0o777)
    if (child := os.fork()) == 0:
        stack.enter_context(closed(open_to_all))
        os._exit(0)
    os.waitpid(child, 0)
    seen.append(open_to_all.stat().st_mode & 0o777)
    with closed(open_to_all):
        pass
    seen.append(open_to_all.stat().st_mode & 0o777)

    assert seen == [0o700, 0o755, 0o700, 0o755]


@as_root
def test_grades_where_no_other_user_gets_to_are_refused(tmp_path: Path) -> None:
    """The runs have to reach their folders among them: a sentence names the folder that is in the way."""
    tmp_path.chmod(0o700)
    (tmp_path / "grades").mkdir()

    with pytest.raises(NoCell, match="is closed to other users"), uid.Uid().hiding(tmp_path / "grades", []):
        pass


@as_root
def test_a_container_with_few_users_has_some_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where only the usual 65,536 are mapped, a run is one of these."""
    assert user_of(3) >= users.FIRST_UID
    assert user_of(3) != user_of(4)
    monkeypatch.setattr(users, "_mapped", lambda number: number < 65_536)
    assert users.NARROW_UID <= user_of(3) < users.NARROW_UID + users.NARROW
    assert user_of(3) != user_of(4)


@as_root
def test_without_root_there_is_none() -> None:
    """A sentence says so."""
    look = "from checks.harness.walls import uid; print(uid.missing())"
    command = [*become(user_of(5)), PYTHON, "-c", look]
    done = finished(command, env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
    if done.returncode:
        pytest.skip("this checkout is not to be read by every user, or its Python is too old")

    assert done.stdout == "the uid cell needs root, which alone can become another user\n"


@as_root
def test_an_interpreter_that_others_cannot_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the home of root starts all the same, and takes the library of another one: it is not taken for a cell."""
    monkeypatch.setattr(sys, "base_prefix", "/root/python")
    uid._examine.cache_clear()
    try:
        with pytest.raises(NoCell, match="no other user can"):
            choose("uid")
    finally:
        uid._examine.cache_clear()


@as_root
def test_without_setpriv_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    monkeypatch.setenv("PATH", "/nowhere")
    uid._examine.cache_clear()
    try:
        with pytest.raises(NoCell, match="install util-linux"):
            choose("uid")
    finally:
        uid._examine.cache_clear()
