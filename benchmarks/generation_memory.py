"""Memory of generation beyond the weights, beside `transformers` generate: the peak of a process for each side.

    python -m benchmarks.generation_memory

GPT-2-small in fp32, 4 beams, 8 prompts of 512 tokens, 16 new tokens, by default. Each side runs in a process of its
own: it builds both models, generates a little so that everything is loaded, and then notes how far the resident memory
rises above what it is (Linux, `VmHWM` after `clear_refs`).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.generation import SIZES, Shape, model_of, ours, peer_of, read_shapes, theirs
from hanformer import runtime
from hanformer.errors import UserError
from hanformer.weights.atomic import write_text

SIDES = ("hanformer", "transformers")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(run: Callable[[], object]) -> int:
    """Bytes by which the resident memory of this process rises while something runs. 运行期间驻留内存的增量峰值。

    Raises UserError where the system does not tell.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _RESET.write_text("5")
        before = _resident("VmRSS")
        run()
        return _resident("VmHWM") - before
    except (OSError, AttributeError) as error:
        raise UserError(f"peak memory is read from /proc as Linux has it: {error}") from None


def _resident(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(side: str, size: str, layers: int | None, shape: Shape, new_tokens: int, threads: int) -> int:
    """The peak of one side, in this process. 测量一方的峰值。"""
    runtime.set_threads(threads)
    torch.manual_seed(0)
    model = model_of(size, layers, torch.float32)
    prompts = torch.randint(5, model.config.vocab_size, (shape.batch, shape.prompt))
    peer = peer_of(model)
    generators: dict[str, Callable[[Tensor, int], object]] = {
        "hanformer": lambda prompts, count: ours(model, prompts.tolist(), shape.beams, count),
        "transformers": lambda prompts, count: theirs(peer, prompts, shape.beams, count),
    }
    run = generators[side]
    run(prompts[:1, :4], 2)
    return peak_of(lambda: run(prompts, new_tokens))


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = argparse.ArgumentParser(prog="python -m benchmarks.generation_memory", description=__doc__)
    options.add_argument("--size", default="gpt2 small", help=f"one of {', '.join(SIZES)}")
    options.add_argument("--layers", type=int, default=None)
    options.add_argument("--shape", default="4x8x512", help="beams x batch x prompt")
    options.add_argument("--new-tokens", type=int, default=16)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--out", type=Path, default=Path("runs/benchmarks/generation_memory.json"))
    chosen = options.parse_args(arguments)
    try:
        (shape,) = read_shapes(chosen.shape)
        words = (chosen.size, chosen.layers, shape, chosen.new_tokens, chosen.threads)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            peaks = {side: pool.apply(measure, (side, *words)) for side in SIDES}
    except UserError as error:
        print(f"generation_memory: {error}", file=sys.stderr)
        return 2
    write_text(chosen.out, json.dumps({"arguments": list(arguments), "bytes": peaks}, indent=1) + "\n")
    for side, peak in peaks.items():
        print(f"{side:14} {peak / 2**20:8.1f} MiB beyond the weights, {peak / peaks[SIDES[0]]:.2f} of ours")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
