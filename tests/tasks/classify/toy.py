"""A toy set whose labels are the signs that stand in a text, and a recipe that learns it in seconds."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hanformer.tasks.classify import ClassifyRecipe
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.texts import ClassifyData, LabelledText
from hanformer.tasks.text_recipe import VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import Sizes

SIGNS = "天地玄"
NOISE = "甲乙丙丁戊己"

RECIPE = ClassifyRecipe(
    sizes=Sizes(hidden_size=32, layers=1, attention_heads=2, intermediate_size=64, dropout=0.1),
    vocabulary=VocabularyOptions(minimum_count=1),
    train=TrainOptions(
        updates=60,
        learning_rate=1e-2,
        warm_up=5,
        precision="fp32",
        best_by="micro_f1",
        higher_is_better=True,
        validate_every=30,
    ),
    token_budget=256,
    maximum_length=24,
    overlap=4,
    valid=40,
)


def one_label(count: int, seed: int, longest: int = 8) -> list[LabelledText]:
    """Texts with one sign, which is the label."""
    random = Random(seed)
    return [_text(random, number, (random.choice(SIGNS),), longest) for number in range(1, count + 1)]


def many_labels(count: int, seed: int) -> list[LabelledText]:
    """Texts with none of the signs, or some."""
    random = Random(seed)
    return [
        _text(random, number, tuple(sign for sign in SIGNS if random.random() < 0.4), 8)
        for number in range(1, count + 1)
    ]


def _text(random: Random, number: int, labels: tuple[str, ...], longest: int) -> LabelledText:
    signs = [*labels, *random.choices(NOISE, k=random.randint(1, longest))]
    random.shuffle(signs)
    return LabelledText(number, "".join(signs), labels)


NAMES = ClassNames(tuple(SIGNS))
ONE = ClassifyData("toy", one_label(300, 0), one_label(40, 1), NAMES)
MANY = ClassifyData("toy", many_labels(300, 0), many_labels(40, 1), NAMES)


def write_rows(path: Path, rows: list[LabelledText]) -> Path:
    """Tab-separated text and labels, several of them joined by |."""
    path.write_text("".join(f"{row.text}\t{'|'.join(row.labels)}\n" for row in rows), encoding="utf-8")
    return path
