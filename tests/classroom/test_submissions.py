"""Submissions as they come in: found, unpacked and copied; of a bad one a line that says what is wrong."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from checks.harness import ROOT
from checks.harness.classroom.submissions import NoClass, Refused, Submission, find, prepare

SOLUTIONS = ROOT / "solutions"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A class of one, right."""
    return shutil.copytree(SOLUTIONS, tmp_path / "class" / "ada", ignore=shutil.ignore_patterns("__pycache__"))


def hash_of(submission: Submission, tmp_path: Path) -> str:
    """Prepared in a folder that is there for nothing else."""
    return prepare(submission, tmp_path / "prepared" / submission.name)[1]


def packed(folder: Path, to: Path, around: str = "") -> Path:
    """A zip of a folder, with another folder around everything."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{around}{path.relative_to(folder).as_posix()}")
    return to


def bundled(folder: Path, to: Path) -> Path:
    """A git bundle of a folder."""
    author = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "done"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    subprocess.run(["git", "bundle", "create", "-q", to, "HEAD"], cwd=folder, check=True, capture_output=True)
    return to


def test_a_folder_a_zip_and_a_bundle_of_the_same_files_have_one_hash(good: Path, tmp_path: Path) -> None:
    """It is the files that are judged, whichever way they came."""
    packed(good, good.parent / "bob.zip")
    packed(good, good.parent / "eve.zip", around="eve-main/")
    copy = shutil.copytree(good, tmp_path / "copy")
    bundled(copy, tmp_path / "dan.bundle")
    (tmp_path / "class.csv").write_text("name,bundle\ndan,dan.bundle\n")

    found = [*find(good.parent), *find(tmp_path / "class.csv")]

    assert [(one.name, one.kind) for one in found] == [
        ("ada", "folder"), ("bob", "zip"), ("eve", "zip"), ("dan", "bundle"),
    ]  # fmt: skip
    assert len({hash_of(one, tmp_path) for one in found}) == 1


def test_a_copy_can_be_read_by_every_user(good: Path, tmp_path: Path) -> None:
    """Whatever modes a learner's files have; a script stays executable."""
    (good / "lab" / "model.py").chmod(0o600)
    (good / "start.sh").write_text("#!/bin/sh\n")
    (good / "start.sh").chmod(0o700)
    tree, _ = prepare(find(good.parent)[0], tmp_path / "prepared")

    assert stat.S_IMODE((tree / "lab" / "model.py").stat().st_mode) == 0o644
    assert stat.S_IMODE((tree / "start.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree / "lab").stat().st_mode) == 0o755


def test_names_are_told_apart_and_can_be_shown(tmp_path: Path) -> None:
    """Two that only differ in case or kind get a number; control characters and bytes that are no text are spelled."""
    for name in (b"Ada", b"ada", b"b\xffd", b"red\x1b[31m"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    packed(SOLUTIONS / "lab", tmp_path / "ada.zip")

    names = [one.name for one in find(tmp_path)]

    assert names == ["Ada", "ada (2)", "ada (3)", "b-udcffd", "red-x1b[31m"]


def test_there_has_to_be_a_class(tmp_path: Path) -> None:
    """One sentence for a path that is nothing, an empty folder, a CSV of something else."""
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("nowhere", "is neither a folder"),
        ("empty", "holds no submission"),
        ("other.csv", "needs the columns"),
        ("binary.csv", "is no CSV"),
    ):
        with pytest.raises(NoClass, match=says):
            find(tmp_path / name)


def refused(folder: Path, tmp_path: Path) -> str:
    """Why the only submission in a folder is refused: one line, and nothing is left of it."""
    with pytest.raises(Refused) as caught:
        prepare(find(folder)[0], tmp_path / "prepared")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "prepared" / "unpacked").exists()
    assert str(tmp_path) not in str(caught.value)
    return str(caught.value)


def test_what_is_no_submission_is_named(tmp_path: Path) -> None:
    """A file, an empty folder, a folder without `lab`, a link to nothing and one to itself."""
    for name, says in (
        ("file", "it is neither a folder nor a zip"),
        ("empty", "it is empty"),
        ("other", "it holds no folder `lab`"),
        ("broken", "it is a link to nothing"),
        ("loop", "it is a link to nothing"),
    ):
        folder = tmp_path / f"class-{name}"
        folder.mkdir()
        match name:
            case "file":
                (folder / name).write_text("my homework")
            case "empty":
                (folder / name).mkdir()
            case "other":
                (folder / name / "src").mkdir(parents=True)
            case "broken":
                (folder / name).symlink_to("nowhere")
            case "loop":
                (folder / name).symlink_to(name)
        assert refused(folder, tmp_path) == says


def test_links_names_and_sizes_are_looked_at(good: Path, tmp_path: Path) -> None:
    """A link loop, a link that leaves, a name that is no text, a file of 2 GB, thousands of files."""
    lab = good / "lab"

    def only(says: str) -> None:
        assert says in refused(good.parent, tmp_path)

    (lab / "again").symlink_to("..", target_is_directory=True)
    only("lab/again is a link that leads nowhere, or to itself")
    (lab / "again").unlink()
    (lab / "self").symlink_to("self")
    only("lab/self is a link that leads nowhere, or to itself")
    (lab / "self").unlink()
    (lab / "passwd").symlink_to("/etc/passwd")
    only("lab/passwd is a link that leads out of the workspace")
    (lab / "passwd").unlink()
    odd = os.path.join(os.fsencode(lab), b"caf\xe9.py")
    open(odd, "w").close()
    only("lab/caf\\udce9.py: a name that is no text")
    os.unlink(odd)
    with (lab / "large.bin").open("wb") as file:
        file.truncate(2 * 2**30)
    only("lab/large.bin makes it larger than 20 MB")
    (lab / "large.bin").unlink()
    for number in range(2001):
        (lab / f"f{number}").touch()
    only("is one of more than 2000 files")


def test_what_a_learner_does_not_edit_is_no_ones_business(good: Path, tmp_path: Path) -> None:
    """A venv with thousands of files beside the work costs nothing, in a folder and in a zip."""
    expected = hash_of(find(good.parent)[0], tmp_path)
    (good / ".venv" / "lib").mkdir(parents=True)
    with (good / ".venv" / "lib" / "torch.so").open("wb") as file:
        file.truncate(30 * 2**20)
    (good / "notes").mkdir()
    (good / "notes" / "loop").symlink_to("loop")
    again = hash_of(find(good.parent)[0], tmp_path)
    (good / "notes" / "loop").unlink()
    packed(good, tmp_path / "ada.zip")

    assert again == expected
    assert hash_of(Submission("zipped", tmp_path / "ada.zip", "zip"), tmp_path) == expected


def test_zips_are_not_believed(good: Path, tmp_path: Path) -> None:
    """A bomb, a path that leaves, a link, a zip of nothing, no zip at all, one that breaks off."""
    folder = tmp_path / "zips"
    folder.mkdir()
    path = folder / "ada.zip"

    def holding(name: str, data: bytes, attributes: int = 0) -> str:
        packed(good, path)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, attributes
            archive.writestr(entry, data)
        return refused(folder, tmp_path)

    assert holding("lab/bomb.txt", bytes(50 * 2**20)) == "lab/bomb.txt makes it larger than 20 MB"
    assert holding("../../evil.py", b"") == "the path ../../evil.py leaves the zip"
    assert holding("/etc/evil.py", b"") == "the path /etc/evil.py leaves the zip"
    assert holding("..\\evil.py", b"") == "the path ..\\evil.py leaves the zip"
    assert "is a link: a zip may hold none" in holding("lab/link.py", b"/etc/passwd", stat.S_IFLNK << 16)
    assert not (tmp_path / "evil.py").exists()
    assert not (tmp_path / "prepared" / "evil.py").exists()
    zipfile.ZipFile(path, "w").close()
    assert refused(folder, tmp_path) == "it is empty"
    path.write_bytes(b"no zip")
    assert "it is a zip that cannot be read" in refused(folder, tmp_path)
    whole = packed(good, path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "it is a zip that cannot be read" in refused(folder, tmp_path)
    path.write_bytes(whole[:200] + bytes(4000) + whole[4200:])
    assert "it is a zip that cannot be read" in refused(folder, tmp_path)
    with path.open("wb") as file:
        file.truncate(2 * 2**30)
    assert refused(folder, tmp_path) == "it is larger than 500 MB"


def test_bundles_are_not_believed(good: Path, tmp_path: Path) -> None:
    """A commit that is not there, an option in the place of one, no bundle, a link in the tree."""
    bundle = bundled(good, tmp_path / "ada.bundle")
    (tmp_path / "bad.bundle").write_bytes(b"# v2 git bundle\nnonsense")
    (good / "lab" / "link.py").symlink_to("/etc/passwd")
    linked = bundled(good, tmp_path / "linked.bundle")
    for path, commit, says in (
        (bundle, "no-such-branch", "git cannot read it"),
        (bundle, "--output=/tmp/x", "is no commit"),
        (tmp_path / "bad.bundle", "HEAD", "git cannot read it"),
        (tmp_path / "nowhere.bundle", "HEAD", "there is no such file"),
        (linked, "HEAD", "is a link"),
    ):
        with pytest.raises(Refused, match=says):
            prepare(Submission("ada", path, "bundle", commit), tmp_path / "prepared")
