"""Writes a trained run of examples/tiny_encoder.toml as the embedded model of the package, in half precision.

把训练好的微型编码器写成随包模型（半精度）。

    python examples/ship_tiny_encoder.py runs/tiny
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import hanformer
from hanformer.weights.embedded import embedded_folder


def main(run: str) -> None:
    """The weights as float16; dropout is for those who fine-tune, since the recipe itself needs none."""
    target = embedded_folder("tiny")
    hanformer.save(hanformer.load(run, changes={"dropout": 0.1}, dtype=torch.float16), target)
    hanformer.load_tokenizer(run).save(target)
    size = sum(file.stat().st_size for file in Path(target).iterdir())
    print(f"{target}: {size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
