"""Loading: a checkpoint of the size of BERT-base, every byte touched, beside `safetensors.torch.load_file`.

    python -m benchmarks.loading

The same tensors are read as safetensors and as a TensorFlow bundle, with and without its checksums, and each is summed
so that no page stays on the disk. The files are warm. Peak memory is that of a fresh process for each side, mapped
pages included, above what it took before the first tensor, in units of the weights. The files (0.8 GB) lie in the
folder for temporary files, and are removed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer.errors import UserError
from hanformer.weights.source import open_source, write_bundle, write_safetensors

WIDTH, INNER = 768, 3072
SAFETENSORS, BUNDLE = "model.safetensors", "bert_model.ckpt"


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """The parameters of a Chinese BERT-base. 中文 BERT-base 的参数形状。"""
    found: dict[str, tuple[int, ...]] = {
        "embeddings/word_embeddings": (21128, WIDTH),
        "embeddings/position_embeddings": (512, WIDTH),
        "embeddings/token_type_embeddings": (2, WIDTH),
    }
    for layer in range(layers):
        for name, rows, columns in (
            ("attention/self/query", WIDTH, WIDTH),
            ("attention/self/key", WIDTH, WIDTH),
            ("attention/self/value", WIDTH, WIDTH),
            ("attention/output/dense", WIDTH, WIDTH),
            ("intermediate/dense", WIDTH, INNER),
            ("output/dense", INNER, WIDTH),
        ):
            found[f"encoder/layer_{layer}/{name}/kernel"] = (rows, columns)
            found[f"encoder/layer_{layer}/{name}/bias"] = (columns,)
    return found


def prepare(folder: Path, layers: int, seed: int) -> int:
    """Writes the set in both formats; returns its size in bytes. 写出两种格式的权重。"""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes(layers).items()}
    write_safetensors(folder / SAFETENSORS, tensors)
    write_bundle(folder / BUNDLE, tensors)
    return sum(tensor.nbytes for tensor in tensors.values())


def ours(path: Path, checksums: bool) -> dict[str, Tensor]:
    """All tensors by hanformer.weights. 我方读取。"""
    source = open_source(path, checksums=checksums)
    return {name: source.read(name) for name in source.names()}


Load = Callable[[], Mapping[str, Tensor]]


def loads(folder: Path) -> dict[str, Load]:
    """Every contender by its name. 参赛各方。"""
    return {
        "safetensors": partial(ours, folder / SAFETENSORS, True),
        "bundle": partial(ours, folder / BUNDLE, False),
        "bundle with checksums": partial(ours, folder / BUNDLE, True),
        "load_file": partial(load_file, folder / SAFETENSORS),
    }


def touched(load: Load) -> float:
    """Reads every byte of what is loaded. 读遍每个字节。"""
    return sum(float(tensor.sum()) for tensor in load().values())


def check(first: Load, second: Load) -> str:
    """Equal names and values. 名字与数值须完全相同。"""
    own, peers = first(), second()
    if own.keys() != peers.keys():
        raise Difference(f"loaded {len(own)} tensors against {len(peers)}")
    for name, tensor in own.items():
        if not torch.equal(tensor, peers[name]):
            raise Difference(f"tensor {name!r} differs")
    return f"{len(own)} tensors are equal"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """Each of our readers beside load_file. 全部案例。"""
    megabytes = prepare(chosen.folder, chosen.layers, chosen.seed) / 1e6
    contenders = loads(chosen.folder)
    peer = contenders.pop("load_file")
    for name, load in contenders.items():
        sides = [
            Side("hanformer", partial(touched, load)),
            Side("safetensors load_file", partial(touched, peer)),
        ]
        yield Case(name, "megabyte", megabytes, True, sides, partial(check, load, peer))


def peak(name: str, folder: Path) -> float:
    """Peak memory of loading and touching in this process, above what it held before, over the file's size.

    本进程峰值内存增量与权重大小之比。
    """
    load = loads(folder)[name]
    torch.ones(1 << 16).sum()
    before = _resident("VmRSS")
    touched(load)
    return (_resident("VmHWM") - before) / (folder / SAFETENSORS).stat().st_size


def _resident(field: str) -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        raise UserError(
            "peak memory is read from /proc/self/status, which this system does not have"
        ) from None
    found = re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise UserError(f"/proc/self/status does not tell {field}")
    return int(found[1]) * 1024


def fresh_peak(name: str, folder: Path) -> float:
    """`peak` in a process of its own. 在新进程中测量。"""
    program = (
        "import sys; from pathlib import Path; from benchmarks.loading import peak; "
        "print(peak(sys.argv[1], Path(sys.argv[2])))"
    )
    words = [sys.executable, "-c", program, name, str(folder.resolve())]
    return float(subprocess.run(words, check=True, capture_output=True, text=True, cwd=runner.ROOT).stdout)


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("loading a checkpoint beside safetensors", "loading")
    options.add_argument("--layers", type=int, default=12, help="default: 12, the whole BERT-base")
    with tempfile.TemporaryDirectory() as folder:
        options.set_defaults(folder=Path(folder))
        code = runner.main("loading", options, cases, arguments)
        if code == 0:
            print("\n| side | peak memory / weights |\n|---|---|")
            for name in loads(Path(folder)):
                print(f"| {name} | {fresh_peak(name, Path(folder)):.2f} |")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
