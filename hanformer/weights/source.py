"""One way to open a checkpoint, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hanformer.errors import UserError
from hanformer.weights.bundle import VERSION_1, Bundle, BundleIndex
from hanformer.weights.bundle_writer import CHECKPOINT_FILE, named_checkpoint, write_bundle
from hanformer.weights.checks import shortened
from hanformer.weights.hub import said_of_name
from hanformer.weights.megatron import RANK_FILE, MegatronRanks, megatron_folder
from hanformer.weights.npz_files import NpzFile
from hanformer.weights.protocols import Source, TensorInfo
from hanformer.weights.safetensors_files import SafetensorsFile, write_safetensors
from hanformer.weights.sharded import Sharded
from hanformer.weights.table import is_table
from hanformer.weights.torch_files import TorchFile

__all__ = ["Source", "TensorInfo", "open_source", "write_bundle", "write_safetensors"]

_ACCEPTED = (
    "a folder with model.safetensors, pytorch_model.bin (or their .index.json), a TensorFlow checkpoint or an .npz; "
    "the prefix of a TensorFlow checkpoint (bert_model.ckpt), its .index or a .data file; a .safetensors, .bin, .pt, "
    ".pth, .ckpt or .npz file; a .index.json; a folder with Megatron's mp_rank_00_model_states.pt and so on"
)
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")
#: Preferred first; within one line, two files contradict each other.
_RANKS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


def open_source(path: str | Path, *, checksums: bool = True) -> Source:
    """Opens a checkpoint: a folder, a file, or the prefix of a TensorFlow checkpoint.

    打开检查点：文件夹、文件或 TensorFlow 前缀。

    `checksums=False` leaves out the check of a TensorFlow checkpoint against its CRC-32C. Raises UserError where
    nothing fits (it lists what would), where a folder leaves open which of its files is meant, and for damage.
    """
    target = Path(path)
    if target.is_dir():
        return _in_folder(target, checksums)
    if target.is_file():
        return _file(target, checksums)
    if _is_bundle(target):
        return Bundle(path, checksums=checksums)
    raise UserError(
        said_of_name(path)
        or f"{path}: no such file, folder or prefix; expected {_ACCEPTED}. {_neighbours(target.parent)}"
    )


def open_described(path: str | Path) -> Source:
    """`open_source` without checksums; where a TensorFlow index lies without its data, what it tells alone.

    打开检查点以供查看；只有 TensorFlow 索引而没有数据时，给出索引所述。

    Raises UserError as `open_source` does.
    """
    try:
        return open_source(path, checksums=False)
    except UserError:
        index = _lone_index(Path(path))
        if index is None:
            raise
        return index


def _lone_index(path: Path) -> BundleIndex | None:
    """The TensorFlow index that a path means, if data files that it names are missing."""
    prefix = _bundle_prefix(path) if path.is_dir() else Path(str(path).removesuffix(".index"))
    if prefix is None or not Path(f"{prefix}.index").is_file():
        return None
    index = BundleIndex(prefix, checksums=False)
    return index if index.missing else None


def _is_bundle(prefix: Path) -> bool:
    return Path(f"{prefix}.index").is_file() or any(
        _DATA.fullmatch(file.name.removeprefix(prefix.name))
        for file in _files(prefix.parent)
        if file.name.startswith(prefix.name)
    )


def _file(path: Path, checksums: bool) -> Source:
    name = str(path)
    if name.endswith(".index.json"):
        return Sharded(path, SafetensorsFile if "safetensors" in path.name else TorchFile)
    if name.endswith(".index") or _DATA.search(name):
        return Bundle(_DATA.sub("", name).removesuffix(".index"), checksums=checksums)
    openers: dict[str, Callable[[Path], Source]] = {".safetensors": SafetensorsFile, ".npz": NpzFile}
    if path.suffix in openers:
        return openers[path.suffix](path)
    if RANK_FILE.fullmatch(path.name):
        return MegatronRanks(path.parent)
    if is_table(path):
        raise UserError(f"{path}: {VERSION_1}")
    if path.suffix in ("", ".bin", ".pt", ".pth", ".ckpt"):
        return TorchFile(path)
    raise UserError(f"{path}: no checkpoint that can be read; expected {_ACCEPTED}")


def _in_folder(folder: Path, checksums: bool) -> Source:
    for names in _RANKS:
        found = [folder / name for name in names if (folder / name).is_file()]
        if found:
            return _file(_only(folder, found), checksums)
    prefix = _bundle_prefix(folder)
    if prefix is not None:
        return Bundle(prefix, checksums=checksums)
    archives = [file for file in _files(folder) if file.suffix == ".npz"]
    if archives:
        return NpzFile(_only(folder, archives))
    ranks = megatron_folder(folder)
    if ranks is not None:
        return MegatronRanks(ranks)
    raise UserError(f"{folder}: no checkpoint in it; expected {_ACCEPTED}. {_neighbours(folder)}")


def _bundle_prefix(folder: Path) -> Path | None:
    """What the file `checkpoint` names, by its last part: the folder may have moved; or else the only index."""
    indexes = [file for file in _files(folder) if file.name.endswith(".index")]
    try:
        text = (folder / CHECKPOINT_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = named_checkpoint(text)
    if named:
        prefix = folder / re.split(r"[/\\]", named)[-1]
        if Path(f"{prefix}.index") in indexes:
            return prefix
    return Path(str(_only(folder, indexes)).removesuffix(".index")) if indexes else None


def _only(folder: Path, found: list[Path]) -> Path:
    if len(found) > 1:
        names = shortened([file.name for file in found])
        raise UserError(f"{folder}: several checkpoints could be meant ({names}); name one of them")
    return found[0]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.is_file())
    except OSError:
        return []


def _neighbours(folder: Path) -> str:
    names = [file.name for file in _files(folder)]
    return f"{folder} holds {shortened(names)}" if names else f"{folder} holds no files"
