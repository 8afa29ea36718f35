"""Data sets as they are published: a folder, a file, or a zip with either, and tables under a misleading name.

按发布时的样子读取数据集：文件夹、单个文件或 zip 包；也认得后缀写错的表格。
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from hanformer.data.files import lines
from hanformer.data.tables import find_splits
from hanformer.errors import UserError

_LOOKED_AT = 5
_UNPACKED = "unpacked"


@contextmanager
def open_splits(path: str | Path) -> Iterator[Mapping[str, Path]]:
    """The files of a data set by split, as `find_splits` has them, each readable by `iterate_table` inside the block.

    打开数据集，按划分给出可直接读取的表格文件。

    The tables in a zip are unpacked for as long as the block lasts; a zip with one table is that file. Tab-separated
    text under the name .csv is read as what it is. Raises UserError as `find_splits` does, naming `path`, and for a
    damaged zip.
    """
    place = Path(path)
    with tempfile.TemporaryDirectory(prefix="hanformer-") as name:
        room, shown = Path(name), {str(Path(name) / _UNPACKED): str(path)}
        try:
            found = find_splits(_unpacked(place, room / _UNPACKED) if _is_zip(place) else place)
            named = {split: _rightly_named(file, room / split) for split, file in found.items()}
            shown = {**{str(named[split]): str(file) for split, file in found.items()}, **shown}
            yield named
        except UserError as error:
            raise UserError(_told(str(error), shown)) from None


def _told(text: str, shown: Mapping[str, str]) -> str:
    """A message with the names that its reader knows."""
    for own, known in shown.items():
        text = text.replace(own, known)
    return text


def _is_zip(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".zip"


def _unpacked(path: Path, room: Path) -> Path:
    """A folder with the files of a zip, without its inner folders; or the only file."""
    room.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in members:
                if "__MACOSX" in member.filename:
                    continue
                # The bare name: nothing is written outside the room.
                with archive.open(member) as packed, (room / Path(member.filename).name).open("xb") as file:
                    shutil.copyfileobj(packed, file)
    except FileExistsError as error:
        raise UserError(
            f"{path}: two files in it are named {Path(error.filename).name}; unpack it first"
        ) from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:
        raise UserError(
            f"{path}: cannot be unpacked ({error}); fetch it again, or unpack it yourself"
        ) from None
    files = list(room.iterdir())
    return files[0] if len(files) == 1 else room


def _rightly_named(file: Path, room: Path) -> Path:
    """The file, or the same under the name .tsv where .csv is not what it is."""
    if ".csv" not in [suffix.lower() for suffix in file.suffixes]:
        return file
    first = list(islice(lines(file), _LOOKED_AT))
    if not first or any("\t" not in line for line in first):
        return file
    room.mkdir()
    link = room / f"{file.name}.tsv"
    link.symlink_to(file.resolve())
    return link
