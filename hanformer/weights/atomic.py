"""Files and folders that are written whole or not at all.

The new content is written beside the old one under a temporary name, flushed to the disk, and only then
renamed. A kill, a full disk or a lost machine in the middle leaves the previous content as it was.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hanformer.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file atomically, with the folders above it.

    原子地写入文件：要么是完整的新内容，要么保持原样。

    Raises UserError where the disk is full or the folder cannot be written; the previous file is then whole.
    """
    target = Path(os.path.realpath(path))
    temporary = _fresh(target)
    with saving(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_through(temporary, content)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def write_text(path: str | Path, content: str) -> None:
    """Writes a UTF-8 text file atomically.

    原子地写入 UTF-8 文本文件。
    """
    write_bytes(path, content.encode("utf-8"))


def write_together(folder: str | Path, contents: Mapping[str, bytes]) -> None:
    """Writes files of one folder that belong together, such as weights and their config; other files stay.

    写入同一文件夹中相互配套的文件：不会出现新旧混杂；其余文件不受影响。

    All new files are written beside the old ones and flushed; then the old ones step aside, and the new ones
    take their names. A kill in the middle of the renaming leaves files missing (the old ones as
    `.NAME.previous`), never new beside old. Works where `atomic_folder` cannot: in a folder that holds
    more, may not be renamed, or is a mount.
    Raises UserError where the disk is full or the folder cannot be written; the previous files are then whole.
    """
    target = Path(os.path.realpath(folder))
    _refuse_folders(target, contents)
    with saving(target):
        target.mkdir(parents=True, exist_ok=True)
        try:
            for name, content in contents.items():
                _write_through(_fresh(target / name), content)
            _exchange([target / name for name in contents])
        finally:
            for name in contents:
                with suppress(OSError):
                    _fresh(target / name).unlink(missing_ok=True)
        _sync_folder(target)


@contextmanager
def writing_together(
    folder: str | Path, names: Collection[str], obsolete: Collection[str] = ()
) -> Iterator[Callable[[str], Path]]:
    """`write_together` for files that are too large to hold: gives a function from a name to the path to fill.

    写入同一文件夹中相互配套的大文件：给出每个名字对应的临时路径，正常结束后一起改名。

    Every name must be filled when the block ends. Files named in `obsolete` (of a previous writing that had more
    files) disappear in the same exchange. Raises UserError as `write_together` does.
    """
    target = Path(os.path.realpath(folder))
    _refuse_folders(target, names)
    with saving(target):
        target.mkdir(parents=True, exist_ok=True)
        try:
            yield lambda name: _fresh(target / name)
            for name in names:
                _sync(_fresh(target / name))
            _exchange([target / name for name in names], [target / name for name in obsolete])
        finally:
            for name in names:
                with suppress(OSError):
                    _fresh(target / name).unlink(missing_ok=True)
        _sync_folder(target)


def _refuse_folders(folder: Path, names: Collection[str]) -> None:
    """A file never takes the place of a folder, which would have to go."""
    for path in (folder / name for name in names):
        if path.is_dir():
            raise UserError(f"{path}: is a folder; expected the name of a file to write")


def _exchange(paths: list[Path], obsolete: Collection[Path] = ()) -> None:
    """Puts the fresh files in the places of the old ones; an error puts back what was there."""
    aside: list[Path] = []
    placed: list[Path] = []
    try:
        for path in [*paths, *obsolete]:
            if path.exists():
                os.replace(path, _previous(path))
                aside.append(path)
        for path in paths:
            os.replace(_fresh(path), path)
            placed.append(path)
    except BaseException:
        for path in placed:
            path.unlink()
        for path in aside:
            os.replace(_previous(path), path)
        raise
    for path in aside:
        _previous(path).unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Gives an empty folder to fill; when the block ends without an error, it becomes the folder `path`.

    提供一个空文件夹供写入；正常结束后整体替换目标文件夹。

    A folder cannot be renamed over another one, so the old one steps aside for a moment: a kill between the
    two renames leaves it as `.NAME.previous`, from which `recover_folder` brings it back. One writer at a
    time.
    Raises UserError where the disk is full or the folder cannot be written; the previous folder is then
    whole.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.new")
    with saving(target):
        recover_folder(target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _sync_tree(temporary)
            _take_place(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def recover_folder(path: str | Path) -> None:
    """Brings back the previous folder where a kill struck between the two renames of `atomic_folder`.

    若上次替换在两次改名之间中断，则恢复之前的文件夹。
    """
    target = Path(os.path.realpath(path))
    previous = _previous(target)
    if not previous.exists():
        return
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
    else:
        os.rename(previous, target)


@contextmanager
def saving(path: str | Path) -> Iterator[None]:
    """Turns an OSError of the block into a UserError that says what to do about `path`.

    把写盘时的系统错误转为可读的 UserError。
    """
    try:
        yield
    except OSError as error:
        raise UserError(_advice(Path(path), error)) from error


def _advice(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return f"{path}: the disk is full; what was there before is whole. Free some space and run again"
    if error.errno in _FORBIDDEN:
        return (
            f"{path}: may not be written ({error.strerror}); choose another folder or change its permissions"
        )
    return f"{path}: could not be written ({error.strerror or error}); choose another folder and run again"


def _write_through(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fresh(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.new")


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _take_place(temporary: Path, target: Path) -> None:
    previous = _previous(target)
    if target.exists():
        os.rename(target, previous)
    try:
        os.rename(temporary, target)
    except OSError:
        recover_folder(target)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    # Some file systems cannot sync a folder; the rename itself is still atomic there.
    with suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
