from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.weights import atomic
from hanformer.weights.atomic import (
    atomic_folder,
    recover_folder,
    write_bytes,
    write_text,
    write_together,
    writing_together,
)


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces_with_the_folders_above(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "旧")
    write_text(path, "新")
    assert path.read_text(encoding="utf-8") == "新"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_leaves_the_previous_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"whole")
    monkeypatch.setattr(atomic.os, step, full_disk)
    with pytest.raises(UserError, match=r"disk is full.*Free some space"):
        write_bytes(path, b"half")
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == ["file"]


def test_a_real_full_device_is_a_user_error() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UserError, match="disk is full"), atomic.saving("/dev/full"):
        descriptor = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(descriptor, b"x")
        finally:
            os.close(descriptor)


def test_a_link_is_followed_not_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_bytes(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


def test_folder_in_the_way_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="choose another folder"):
        write_bytes(tmp_path / "file" / "inside", b"x")


def test_folder_appears_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "run") as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "x").write_text(content)
            assert not (tmp_path / "run" / "inner").exists() or content == "two"
    assert (tmp_path / "run" / "inner" / "x").read_text() == "two"
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("mine"), KeyboardInterrupt()])
def test_a_writer_that_fails_in_the_middle_leaves_the_previous_folder(
    tmp_path: Path, error: BaseException
) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "x").write_text("whole")
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic_folder(tmp_path / "run") as folder:
        (folder / "x").write_text("half")
        raise error
    assert (tmp_path / "run" / "x").read_text() == "whole"
    assert names(tmp_path) == ["run"]


def test_failing_rename_brings_the_previous_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "x").write_text("whole")
    rename = os.rename

    def fail_for_new(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".new"):
            full_disk()
        rename(source, target)

    monkeypatch.setattr(atomic.os, "rename", fail_for_new)
    with pytest.raises(UserError), atomic_folder(tmp_path / "run") as folder:
        (folder / "x").write_text("half")
    assert (tmp_path / "run" / "x").read_text() == "whole"
    assert names(tmp_path) == ["run"]


def test_recovery_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    (tmp_path / ".run.previous").mkdir()
    (tmp_path / ".run.previous" / "x").write_text("whole")
    recover_folder(tmp_path / "run")
    assert (tmp_path / "run" / "x").read_text() == "whole"
    # A kill after both renames leaves the old folder as rubbish: the new one wins.
    (tmp_path / ".run.previous").mkdir()
    recover_folder(tmp_path / "run")
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("killed", range(5))
def test_a_kill_between_files_that_belong_together_never_mixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """Whatever stands under its name after a kill is of one writing; the next writing is whole again."""
    write_together(tmp_path, {"a": b"old", "b": b"old"})
    (tmp_path / "c").write_bytes(b"stays")
    program = (
        "import os, sys\n"
        "from hanformer.weights.atomic import write_together\n"
        "replace, left = os.replace, [int(sys.argv[2])]\n"
        "def replace_or_die(source, target):\n"
        "    os._exit(9) if not left[0] else left.__setitem__(0, left[0] - 1)\n"
        "    replace(source, target)\n"
        "os.replace = replace_or_die\n"
        "write_together(sys.argv[1], {'a': b'new', 'b': b'new'})\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(killed)], check=False)
    assert run.returncode == (9 if killed < 4 else 0)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in ("a", "b")}
    assert len(set(found.values())) <= 1 and (tmp_path / "c").read_bytes() == b"stays"
    write_together(tmp_path, {"a": b"last", "b": b"last"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"last"


@pytest.mark.parametrize("failing", [None, "a", "b"])
def test_large_files_that_belong_together_replace_an_older_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str | None
) -> None:
    """What the new set has no more disappears with the exchange, and comes back where the exchange fails."""
    write_together(tmp_path, {"a": b"old", "old": b"old"})
    replace = os.replace

    def fail_for_new(source: Path, target: Path) -> None:
        if Path(target).name == failing and Path(source).name.endswith(".new"):
            full_disk()
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", fail_for_new)
    try:
        with writing_together(tmp_path, ["a", "b"], obsolete=["old", "missing"]) as place:
            for name in ("a", "b"):
                place(name).write_bytes(b"new")
    except UserError:
        assert failing
    kept = ["a", "old"] if failing else ["a", "b"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        kept, b"old" if failing else b"new"
    )


def test_a_file_that_was_not_filled_stops_the_whole_set(tmp_path: Path) -> None:
    write_together(tmp_path, {"a": b"old"})
    with pytest.raises(UserError), writing_together(tmp_path, ["a", "b"]) as place:
        place("a").write_bytes(b"new")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"
