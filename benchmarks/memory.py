"""The tables of memory in docs/scaling.md: `python -m benchmarks.memory [--tokens 4096]`. Nothing is allocated."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hanformer.config import ModelConfig
from hanformer.train.memory import CPM_LM, GIBIBYTE, MT5_XL, TrainingMemory, training_memory

MODELS = {"CPM-LM 2.6B": CPM_LM, "mT5-XL": MT5_XL}
#: Workers, and whether weights are sharded and activations recomputed.
SETTINGS = (
    (1, False, False),
    (1, False, True),
    (8, True, False),
    (8, True, True),
    (32, True, True),
)


def row(config: ModelConfig, tokens: int, setting: tuple[int, bool, bool]) -> TrainingMemory:
    """The arithmetic of one setting."""
    workers, shard, recompute = setting
    return training_memory(config, tokens, workers=workers, shard=shard, recompute=recompute)


def cells(found: TrainingMemory) -> list[str]:
    """GiB: weights and gradients, moments, copies, activations, and all of it."""
    parts = (
        found.weights + found.gradients,
        found.optimizer,
        found.copies,
        found.activations,
        found.total,
    )
    return [f"{part / GIBIBYTE:.1f}" for part in parts]


def words(setting: tuple[int, bool, bool]) -> str:
    """A setting in words."""
    workers, shard, recompute = setting
    return ", ".join([str(workers), *(["sharded"] * shard), *(["recomputed"] * recompute)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    tokens = parser.parse_args(arguments).tokens
    print("| model | workers | weights and gradients | moments | copies | activations | together |")
    print("|---|---|---|---|---|---|---|")
    for name, config in MODELS.items():
        for setting in SETTINGS:
            found = row(config, tokens, setting)
            print("|", " | ".join([name, words(setting), *cells(found)]), "|")


if __name__ == "__main__":
    main()
