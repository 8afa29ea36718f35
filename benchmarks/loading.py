"""Loading: a checkpoint of the size of BERT-base, every byte touched, beside `safetensors.torch.load_file`.

    python -m benchmarks.loading

The same tensors are read as safetensors and as a TensorFlow bundle, with and without its checksums, and each is summed
so that no page stays on the disk. "model" is `hanformer.load`, from our own format and from a TensorFlow checkpoint,
whose kernels lie transposed. The files are warm. Peak memory is that of a fresh process for each side, mapped pages
included, above what it took before the first tensor, in units of the weights. The files (1.2 GB) lie in the folder
for temporary files, and are removed.
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
from hanformer import models
from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.weights.source import open_source, write_bundle

HEADS = ("lm", "pool", "nsp")
SAFETENSORS, BUNDLE, TENSORFLOW = "model.safetensors", "same_names.ckpt", "tensorflow"


def prepare(folder: Path, layers: int, seed: int) -> int:
    """Writes a BERT-base of random weights in all formats; returns its size in bytes. 以各种格式写出随机权重。"""
    torch.manual_seed(seed)
    model = models.build(ModelConfig(21128, layers=layers, family="bert"), HEADS)
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    models.save(model, folder)
    models.save(model, folder / TENSORFLOW, format="tensorflow")
    write_bundle(folder / BUNDLE, tensors)
    return sum(tensor.nbytes for tensor in tensors.values())


def ours(path: Path, checksums: bool) -> dict[str, Tensor]:
    """All tensors by hanformer.weights. 我方读取。"""
    source = open_source(path, checksums=checksums)
    return {name: source.read(name) for name in source.names()}


def model(path: Path, checksums: bool) -> dict[str, Tensor]:
    """The parameters of a model by hanformer.load. 由 hanformer.load 得到的模型参数。"""
    opened = models.load(path, heads=HEADS, checksums=checksums)
    return dict(opened.state_dict())


Load = Callable[[], Mapping[str, Tensor]]


def loads(folder: Path) -> dict[str, Load]:
    """Every contender by its name. 参赛各方。"""
    return {
        "safetensors": partial(ours, folder / SAFETENSORS, True),
        "bundle": partial(ours, folder / BUNDLE, False),
        "bundle with checksums": partial(ours, folder / BUNDLE, True),
        "model": partial(model, folder / SAFETENSORS, True),
        "model from TensorFlow": partial(model, folder / TENSORFLOW, False),
        "model from TensorFlow with checksums": partial(model, folder / TENSORFLOW, True),
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
    """Each of our readers, and of our models, beside load_file. 全部案例。"""
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
