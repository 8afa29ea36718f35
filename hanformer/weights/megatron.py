"""Megatron's model-parallel files (CPM-LM): one file a rank, each with its share of every matrix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import shortened
from hanformer.weights.protocols import TensorInfo, unknown
from hanformer.weights.torch_files import TorchFile

RANK_FILE = re.compile(r"mp_rank_(\d{2,5})_model_states\.pt")
ITERATION_FILE = "latest_checkpointed_iteration.txt"
PARTS = ("query", "key", "value")
_FUSED = re.compile(r"(.*\.attention)\.query_key_value\.(weight|bias)")
_PART = re.compile(r"(.*\.attention)\.(query|key|value)\.(weight|bias)")
#: Divided along the output (rows of the weight), along the input; what is in neither is the same on every rank.
_BY_OUTPUT = re.compile(r"(^|.*\.)(word_embeddings\.weight|mlp\.dense_h_to_4h\.(weight|bias))")
_BY_INPUT = re.compile(r".*\.(attention\.dense|mlp\.dense_4h_to_h)\.weight")
_LONGEST_NUMBER = 32


class MegatronRanks:
    """The files mp_rank_00_model_states.pt, mp_rank_01_model_states.pt, ... of one folder, as one model.

    Megatron 模型并行的各分片文件，合并为一个模型。

    A rank holds its share of query, key and value rows one upon the other: they come back as
    attention.query, .key and .value, ranks joined. Layers of output 4h and the token table are joined along their
    rows, layers that add up over ranks along their columns; biases of these, norms and positions are the same on
    all ranks, which is checked when they are read. Raises UserError for a rank that is missing or does not fit.
    Source: Shoeybi et al. 2019, arXiv 1909.08053; kexue.fm/archives/7912.
    """

    format = "torch"

    def __init__(self, folder: str | Path) -> None:
        self.origin = str(folder)
        files = rank_files(Path(folder))
        self._ranks = [TorchFile(file) for file in files]
        prefix = "module." if all(name.startswith("module.") for name in self._ranks[0].names()) else ""
        self._prefix = prefix
        self._stored = {name.removeprefix(prefix) for name in self._ranks[0].names()}
        self._names = tuple(merged for name in sorted(self._stored) for merged in _merged_names(name))
        self._check_ranks(files)

    def names(self) -> tuple[str, ...]:
        """All names of the merged model, sorted. 合并后的全部名字。"""
        return self._names

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a merged tensor. 合并后张量的形状与类型。"""
        stored = self._stored_name(name)
        first = self._ranks[0].info(self._prefix + stored)
        shape, axis = list(first.shape), _axis(stored)
        if axis is not None:
            sizes = [rank.info(self._prefix + stored).shape[axis] for rank in self._ranks]
            shape[axis] = sum(sizes) // (1 if stored == name else len(PARTS))
        return TensorInfo(name, tuple(shape), first.dtype)

    def read(self, name: str) -> Tensor:
        """A merged tensor. 读取合并后的张量。

        Raises UserError for an unknown name, and where ranks contradict each other.
        """
        stored = self._stored_name(name)
        shares = [rank.read(self._prefix + stored) for rank in self._ranks]
        if stored != name:
            place = PARTS.index(name.rsplit(".", 2)[1])
            shares = [share.chunk(len(PARTS))[place] for share in shares]
        axis = _axis(stored)
        return self._same(name, shares) if axis is None else torch.cat(shares, axis)

    def _stored_name(self, name: str) -> str:
        if name not in self._names:
            raise unknown(self.origin, name, self._names)
        found = _PART.fullmatch(name)
        fused = f"{found[1]}.query_key_value.{found[3]}" if found else name
        return fused if fused in self._stored else name

    def _same(self, name: str, shares: Sequence[Tensor]) -> Tensor:
        for rank, share in enumerate(shares):
            if not torch.equal(share, shares[0]):
                raise UserError(
                    f"{self.origin}: {name} should be the same on every rank, but rank {rank} differs from rank 0; "
                    "do the files come from one checkpoint?"
                )
        return shares[0]

    def _check_ranks(self, files: Sequence[Path]) -> None:
        for rank, file in zip(self._ranks, files, strict=True):
            names = {name.removeprefix(self._prefix) for name in rank.names()}
            if names != self._stored:
                other = shortened(sorted(names ^ self._stored))
                raise UserError(f"{file}: holds other tensors than {files[0].name} ({other}); get both again")
        for name in sorted(self._stored):
            self._check_shares(name)

    def _check_shares(self, name: str) -> None:
        """Shares must fit; those of a square matrix tell how many there should be."""
        shapes = [rank.info(self._prefix + name).shape for rank in self._ranks]
        if len(set(shapes)) > 1:
            raise UserError(
                f"{self.origin}: {name} has the shapes {shapes} on its ranks; expected equal ones"
            )
        if not _FUSED.fullmatch(name):
            return
        if shapes[0][0] % len(PARTS):
            raise UserError(f"{self.origin}: {name} {list(shapes[0])} is not query, key and value in one")
        if len(shapes[0]) == 2 and len(shapes) * shapes[0][0] != len(PARTS) * shapes[0][1]:
            needed = len(PARTS) * shapes[0][1] / shapes[0][0]
            raise UserError(
                f"{self.origin}: {name} {list(shapes[0])} is the share of one rank of {needed:g}, but the folder has "
                f"{len(shapes)}; get all files of the checkpoint"
            )


def _merged_names(stored: str) -> tuple[str, ...]:
    found = _FUSED.fullmatch(stored)
    return tuple(f"{found[1]}.{part}.{found[2]}" for part in PARTS) if found else (stored,)


def _axis(stored: str) -> int | None:
    """Along which axis ranks divide a tensor; None for what all of them hold."""
    if _FUSED.fullmatch(stored) or _BY_OUTPUT.fullmatch(stored):
        return 0
    return 1 if _BY_INPUT.fullmatch(stored) else None


def rank_files(folder: Path) -> list[Path]:
    """The files of all ranks, in order.

    按次序列出各分片文件。

    Raises UserError where a rank between the first and the last is missing.
    """
    numbered = {int(found[1]): file for file in folder.iterdir() if (found := RANK_FILE.fullmatch(file.name))}
    lost = sorted(set(range(max(numbered, default=0) + 1)) - set(numbered))
    if lost:
        held = shortened([numbered[rank].name for rank in sorted(numbered)]) or "no rank at all"
        raise UserError(f"{folder}: mp_rank_{lost[0]:02}_model_states.pt is missing; it holds {held}")
    return [numbered[rank] for rank in sorted(numbered)]


def megatron_folder(folder: Path) -> Path | None:
    """Where the ranks lie: in the folder itself, or in that of the iteration it names; None for neither.

    查找分片所在的文件夹。
    """
    if any(RANK_FILE.fullmatch(file.name) for file in folder.iterdir()):
        return folder
    try:
        with open(folder / ITERATION_FILE, encoding="utf-8", errors="replace") as file:
            word = file.read(_LONGEST_NUMBER).strip()
    except OSError:
        return None
    inner = folder / word
    if not re.fullmatch(r"\d+|release", word) or not inner.is_dir():
        raise UserError(f"{folder}: {ITERATION_FILE} names {word!r}, and there is no such folder beside it")
    return inner
