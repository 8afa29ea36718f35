"""What each trick is worth on sentiment: plain, FGM, gradient penalty and R-Drop with all labels; and with few labels,
plain against virtual adversarial training and R-Drop on the texts whose labels are hidden.

Trains the same recipe with one trick at a time and several seeds, chooses by the validation set, and prints accuracy on
the test set: every seed, the mean, and the standard deviation over seeds. Few labels are drawn anew by each seed.

    python examples/sentiment_tricks.py sentiment.zip --seeds 0 1 2
    python examples/sentiment_tricks.py sentiment.zip --only fgm r_drop --start-from bert-base-chinese --freeze 0

Results: none recorded yet; docs/experiments.md will hold them with hardware and commit.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from hanformer.runtime import choose_device, set_threads, tune_cpu
from hanformer.tasks.classify import ClassifyRecipe, train
from hanformer.tasks.classify.texts import open_texts
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.train.options import TrainOptions
from hanformer.train.progress import reporter_for
from hanformer.train.sizes import Sizes

FEW = "few labels, "
CHANGES: Mapping[str, Mapping[str, str]] = {
    "plain": {},
    "fgm": {"tricks": "fgm"},
    "gradient_penalty": {"tricks": "gradient_penalty"},
    "r_drop": {"tricks": "r_drop"},
    f"{FEW}plain": {},
    f"{FEW}fgm": {"tricks": "fgm"},
    f"{FEW}vat": {"penalty": "vat"},
    f"{FEW}r_drop": {"penalty": "r_drop"},
}


def base(arguments: argparse.Namespace) -> ClassifyRecipe:
    """The recipe that all runs share: a small model from scratch, or a pretrained one."""
    options = TrainOptions(
        epochs=arguments.epochs,
        learning_rate=arguments.rate,
        warm_up=100,
        best_by="accuracy",
        higher_is_better=True,
    )
    return ClassifyRecipe(
        start_from=arguments.start_from,
        freeze=arguments.freeze,
        sizes=Sizes(hidden_size=128, layers=2, attention_heads=4, intermediate_size=512, dropout=0.3),
        train=options,
        maximum_length=128,
        token_budget=4096,
        valid=10_000,
    )


def recipe_of(name: str, seed: int, arguments: argparse.Namespace) -> ClassifyRecipe:
    """The shared recipe with one change; of few labels, counted in updates, for epochs are short."""
    recipe = base(arguments)
    recipe = replace(recipe, train=replace(recipe.train, seed=seed)).changed(CHANGES[name])
    if not name.startswith(FEW):
        return recipe
    options = replace(recipe.train, epochs=None, updates=arguments.updates, validate_every=100)
    penalised = "penalty" in CHANGES[name]
    return replace(
        recipe,
        train=options,
        limit=arguments.labels,
        token_budget=1024,
        unlabelled=arguments.data if penalised else "",
    )


def accuracies(recipe: ClassifyRecipe, data: str, device: str) -> tuple[float, float]:
    """Validation and test accuracy of one run, its best checkpoint chosen by the first."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        history = train(
            recipe, open_texts(data, recipe), run, device=choose_device(device), reporter=reporter_for()
        )
        service = open_service(run, ServingOptions(device=str(choose_device(device)), precision="fp32"))
        test = service.evaluate(data).figures["accuracy"]
    return max(record.metrics["accuracy"] for record in history.validations), test


def row(name: str, found: list[tuple[float, float]]) -> str:
    """A line of the table: means, the deviation over seeds, and every seed's test accuracy."""
    valid, test = ([values[place] for values in found] for place in (0, 1))
    spread = f"{stdev(test):.2%}" if len(test) > 1 else "-"
    listed = ", ".join(f"{value:.2%}" for value in test)
    return f"{name:30} {mean(valid):8.2%} {mean(test):8.2%} {spread:>8}   {listed}"


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="the data set: a folder or zip with train, valid and test files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5, help="with all labels")
    parser.add_argument("--updates", type=int, default=600, help="with few labels")
    parser.add_argument("--labels", type=int, default=168, help="how many are few")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--start-from", default="", help="a pretrained model, instead of one from scratch")
    parser.add_argument("--freeze", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES))
    return parser.parse_args()


def main() -> None:
    """Runs every change with every seed, and prints a line as soon as it is known."""
    arguments = read_arguments()
    set_threads(None)
    tune_cpu()
    print(f"{'change':30} {'valid':>8} {'test':>8} {'spread':>8}   test by seed")
    for name in arguments.only:
        recipes = [recipe_of(name, seed, arguments) for seed in arguments.seeds]
        found = [accuracies(recipe, arguments.data, arguments.device) for recipe in recipes]
        print(row(name, found), flush=True)


if __name__ == "__main__":
    main()
