"""What each head is worth for words and for named entities: softmax, CRF, MEMM, GlobalPointer.

Trains the same small encoder from scratch (or a pretrained one) under one head at a time and several seeds, chooses by
texts held out of the training set, and prints figures on the test set: each seed's F1, mean and standard deviation over
seeds, and the seconds of a training. For words it also prints the recall of words that no training text has, on the
test set and on the test sets of other corpora (`--also`). Where the data has no test set, its validation set is one.

    python examples/tagging_heads.py segmentation sxu/ --seeds 0 1 2 --also sighan2005/gold/pku_test_gold.utf8.gz
    python examples/tagging_heads.py entities peopledaily.zip --limit 20000 --seeds 0 1 2

Results: none recorded yet; docs/experiments.md will hold them with hardware and commit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import mean, stdev

import torch

from hanformer.runtime import choose_device, set_threads, tune_cpu
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.tag import TagRecipe, train
from hanformer.tasks.tag.data import TagData
from hanformer.tasks.tag.heads import HEADS
from hanformer.tasks.tag.reading import Reading, find_sources
from hanformer.train.options import TrainOptions
from hanformer.train.progress import reporter_for
from hanformer.train.sizes import Sizes


def recipe_of(head: str, seed: int, arguments: argparse.Namespace) -> TagRecipe:
    """The recipe that all runs share, with a head and a seed."""
    options = TrainOptions(
        epochs=arguments.epochs,
        learning_rate=arguments.rate,
        warm_up=100,
        average="ema",
        average_decay=0.99,
        best_by="f1",
        higher_is_better=True,
        seed=seed,
    )
    return TagRecipe(
        scheme=arguments.scheme,
        head=head,
        start_from=arguments.start_from,
        transition_rate=arguments.transition_rate,
        sizes=Sizes(
            hidden_size=arguments.hidden,
            layers=arguments.layers,
            attention_heads=4,
            intermediate_size=4 * arguments.hidden,
        ),
        train=options,
        maximum_length=256,
    )


def open_data(data: str, reading: Reading, valid: int, limit: int) -> TagData:
    """Training texts, and some of them held out to choose by: the test set is left for the end."""
    texts = reading.texts(find_sources(data)["train"])
    Random(0).shuffle(texts)
    held, rest = texts[:valid], texts[valid:]
    return TagData(data, rest[:limit] if limit else rest, held)


def measured(
    recipe: TagRecipe, data: TagData, tests: Sequence[str], device: torch.device
) -> list[Mapping[str, float]]:
    """The figures of one run on each test set, and how long it trained."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        train(recipe, data, Path(folder) / "run", device=device, reporter=reporter_for())
        seconds = time.monotonic() - began
        service = open_service(Path(folder) / "run", ServingOptions(device=str(device)))
        return [{**service.evaluate(test).figures, "seconds": seconds} for test in tests]


def row(head: str, test: str, found: Sequence[Mapping[str, float]]) -> str:
    """A line of the table: the seeds of one head on one test set."""
    f1 = [figures["f1"] for figures in found]
    spread = stdev(f1) if len(f1) > 1 else 0.0
    unknown = [figures["oov_recall"] for figures in found if "oov_recall" in figures]
    said = f"   OOV recall {mean(unknown):6.2%}" if unknown else ""
    listed = ", ".join(f"{value:.2%}" for value in f1)
    seconds = mean(figures["seconds"] for figures in found)
    name = Path(test).name
    return f"{head:26} {name:26} F1 {mean(f1):6.2%} ± {spread:5.2%}{said}   {seconds:6.0f} s   ({listed})"


def main() -> None:
    """Runs every head with every seed, and prints its lines as soon as they are known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scheme", choices=["segmentation", "entities"])
    parser.add_argument("data", help="a folder or zip with training and test (or validation) texts")
    parser.add_argument("--also", nargs="+", default=[], help="further test files")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, default=0, help="training texts, 0: all")
    parser.add_argument("--valid", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--transition-rate", type=float, default=10.0)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--start-from", default="", help="a pretrained encoder; else from scratch")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    set_threads(None)
    tune_cpu()
    device = choose_device(arguments.device)
    reading = TagRecipe(scheme=arguments.scheme).reading
    data = open_data(arguments.data, reading, arguments.valid, arguments.limit)
    tests = [arguments.data, *arguments.also]
    for head in arguments.heads:
        runs = [measured(recipe_of(head, seed, arguments), data, tests, device) for seed in arguments.seeds]
        for number, test in enumerate(tests):
            print(row(head, test, [run[number] for run in runs]), flush=True)


if __name__ == "__main__":
    main()
