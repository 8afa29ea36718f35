"""Whether the files of a run are still those that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from hanformer.errors import UserError

# A large file is read at places spread over it, not from end to end.
_PIECE = 1 << 16
_PIECES = 64
#: Folders with more files are not watched: they are no data set of ours.
MOST_FILES = 1000


def fingerprints(data: str, beside: Iterable[str] = ()) -> dict[str, str]:
    """Size and a hash of samples, by name, of the file at a path or the files right in a folder; else nothing.

    数据文件的指纹（大小与抽样哈希）。

    `beside` are files that the choices of a run name, told by their paths; what is no file among them is left out.

    Raises UserError for a file that cannot be read.
    """
    path = Path(data)
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in files if file.is_file()]
        named = {name: _fingerprint(Path(name)) for name in beside if name and Path(name).is_file()}
        return named | ({file.name: _fingerprint(file) for file in files} if len(files) <= MOST_FILES else {})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of files of before that differ, or are gone. 发生变化或消失的文件。"""
    return sorted(name for name in before if before[name] != now.get(name))


def check_unchanged(folder: Path, saved: object, data: str, beside: Iterable[str] = ()) -> None:
    """Refuses to go on with a run whose data is not what it began with; `saved` are its fingerprints.

    数据文件改变后拒绝续训。

    Raises UserError that names the files.
    """
    if not isinstance(saved, Mapping):
        return
    changed = changed_files(saved, fingerprints(data, beside))
    if changed:
        raise UserError(
            f"{folder}: these files of {data} are not what the run began with: {', '.join(changed[:3])}; "
            "put them back, or start in another folder"
        )


def _fingerprint(file: Path) -> str:
    size = file.stat().st_size
    found = hashlib.sha256()
    with open(file, "rb") as stream:
        count, last = min(_PIECES, -(-size // _PIECE)), max(size - _PIECE, 0)
        for place in range(count):
            stream.seek(last * place // max(count - 1, 1))
            found.update(stream.read(_PIECE))
    return f"{size}-{found.hexdigest()[:16]}"
