"""What each choice of the word-problem recipe is worth, at a size that a CPU can afford.

Trains the default recipe, and the recipe with one choice changed at a time, on the first problems of a data folder,
and prints validation accuracy (greedy) by change and seed. The test split is never touched.

    python examples/arithmetic_ablation.py math23k --problems 7000 --epochs 12 --seeds 0 1 2

Results: none recorded yet; docs/arithmetic.md will hold them with hardware and commit.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean

from hanformer.arithmetic import DEFAULT, open_data, train
from hanformer.arithmetic.recipe import Recipe
from hanformer.runtime import set_threads, tune_cpu
from hanformer.train.progress import reporter_for

CHANGES: dict[str, dict[str, str]] = {
    "the recipe": {},
    "AdamW instead of Muon": {"optimizer": "adamw"},
    "no noise on sources": {"noise.piece_dropout": "0", "noise.mask": "0"},
    "no piece dropout": {"noise.piece_dropout": "0"},
    "no masking": {"noise.mask": "0"},
    "targets as given": {"slots.writing": "given"},
    "targets with sorted chains": {"slots.writing": "chains"},
    "infix targets": {"slots.order": "infix"},
    "no weight averaging": {"train.average": "none"},
    "no pointer": {"pointer": "false"},
    "R-Drop 0.5": {"r_drop": "0.5"},
    "label smoothing 0.1": {"label_smoothing": "0.1"},
    "raw layout": {"layout": "raw"},
}


def small(recipe: Recipe, epochs: int, seed: int) -> Recipe:
    """The recipe at a third of its width, for a third of the data."""
    sizes = replace(recipe.sizes, hidden_size=128, attention_heads=4, intermediate_size=512)
    options = replace(recipe.train, epochs=epochs, time_limit=None, seed=seed, validate_every=None)
    return replace(recipe, sizes=sizes, train=options, token_budget=2048)


def accuracy(recipe: Recipe, data: str, problems: int) -> float:
    """The best validation accuracy of one run."""
    opened = open_data(data, seed=recipe.train.seed, valid=1000)
    with tempfile.TemporaryDirectory() as folder:
        history = train(
            recipe,
            replace(opened, train=opened.train[:problems]),
            Path(folder) / "run",
            reporter=reporter_for(),
        )
    return max(record.metrics["accuracy"] for record in history.validations)


def main() -> None:
    """Runs every change with every seed, and prints a line as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="a data folder, or the word generated")
    parser.add_argument("--problems", type=int, default=7000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES))
    arguments = parser.parse_args()
    set_threads(None)
    tune_cpu()
    for name in arguments.only:
        recipes = [small(DEFAULT.changed(CHANGES[name]), arguments.epochs, seed) for seed in arguments.seeds]
        found = [accuracy(recipe, arguments.data, arguments.problems) for recipe in recipes]
        listed = ", ".join(f"{value:.1%}" for value in found)
        print(f"{name:32} {mean(found):6.1%}   ({listed})", flush=True)


if __name__ == "__main__":
    main()
