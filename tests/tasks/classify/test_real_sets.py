"""The published forms of real sets are read as they are: counts, classes and a row that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from hanformer.tasks.classify import ClassifyRecipe
from hanformer.tasks.classify.texts import open_texts, read_texts, read_unlabelled, rows_to_judge
from hanformer.tasks.pair import PairRecipe
from hanformer.tasks.pair.rows import open_pairs, pairs_to_judge

EVERYTHING = {"valid": "1000000"}


@pytest.mark.parametrize(
    ("place", "choices", "train", "valid", "classes"),
    [
        ("sentiment/bert4keras/sentiment.zip", {}, 16_883, 2_111, 2),
        ("sentiment/chnsenticorp", {}, 9_600, 1_200, 2),
        ("sentiment/smp2020_ewect", {}, None, None, 6),
        ("classification/fewclue/eprstmt", {}, 160, 160, 2),
        ("classification/fewclue/tnews", {}, None, None, 15),
        ("classification/fewclue/csldcp", {}, None, None, 67),
        ("classification/fewclue/iflytek", {}, None, None, None),
    ],
)
def test_sets_with_splits(
    data_folder: Path, place: str, choices: dict, train: int | None, valid: int | None, classes: int | None
) -> None:
    recipe = ClassifyRecipe().changed({**EVERYTHING, **choices})
    data = open_texts(data_folder / place, recipe)
    assert train is None or (len(data.train), len(data.valid)) == (train, valid)
    assert classes is None or len(data.names) == classes
    assert rows_to_judge(data_folder / place, lambda file: read_texts(file, recipe))


@pytest.mark.parametrize(
    ("place", "choices", "rows", "classes"),
    [
        ("sentiment/hotel/ChnSentiCorp_htl_all.csv.gz", {}, 7_765, 2),
        ("sentiment/shopping10/online_shopping_10_cats.zip", {}, 62_773, 2),
        ("sentiment/shopping10/online_shopping_10_cats.zip", {"label": "cat"}, 62_773, 10),
        ("multi_label/event_types", {"loss": "zlpr"}, 11_958, 65),
        ("multi_label/hellonlp/train.csv.gz", {"loss": "zlpr", "separator": "/"}, None, None),
        ("multi_label/hellonlp/train_onehot.csv.gz", {"loss": "zlpr", "label": "*"}, None, None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*rows without a text")
def test_sets_without_splits(
    data_folder: Path, place: str, choices: dict[str, str], rows: int | None, classes: int | None
) -> None:
    data = open_texts(data_folder / place, ClassifyRecipe().changed({"valid": "100", **choices}))
    assert rows is None or len(data.train) + len(data.valid) == rows
    assert classes is None or len(data.names) == classes


def test_numbered_classes(data_folder: Path) -> None:
    folder = data_folder / "classification" / "thucnews_titles"
    recipe = ClassifyRecipe().changed({"classes": str(folder / "class.txt")})
    data = open_texts(folder / "dev.txt.gz", recipe)
    assert data.names.names[:2] == ("finance", "realty") and len(data.train) == 9_000


def test_texts_without_labels(data_folder: Path) -> None:
    assert len(read_unlabelled(data_folder / "sentiment" / "bert4keras" / "sentiment.zip")) == 16_883
    assert (
        len(read_unlabelled(data_folder / "classification" / "fewclue" / "eprstmt" / "unlabeled.json.gz"))
        > 1000
    )


@pytest.mark.parametrize(
    ("place", "choices", "judged", "without"),
    [
        ("similarity_zh/STS-B", {"loss": "cosent"}, 1_361, 0),
        ("similarity_zh/LCQMC/LCQMC.test.data.gz", {"loss": "cosent"}, 12_500, 0),
        ("similarity_en/STS-B/stsbenchmark.tsv.gz", {"loss": "cosent"}, 1_379, 0),
        ("similarity_en/SICK", {"loss": "cosent"}, 4_927, 0),
        (
            "similarity_en/STS/2015/answers-forums.test.tsv.gz",
            {"loss": "cosent", "first": "2", "second": "3", "label": "1"},
            375,
            1_625,
        ),
        ("classification/ocnli", {}, 2_950, 50),
        ("classification/fewclue/bustm", {}, None, None),
    ],
)
def test_pairs_to_judge(
    data_folder: Path, place: str, choices: dict[str, str], judged: int | None, without: int | None
) -> None:
    rows, left = pairs_to_judge(data_folder / place, PairRecipe().changed(choices))
    assert rows and (judged is None or (len(rows), left) == (judged, without))


@pytest.mark.parametrize(
    ("place", "choices", "train"),
    [
        ("similarity_zh/STS-B", {"loss": "cosent"}, 5_231),
        (
            "similarity_zh/ATEC/atec_nlp_sim_train.csv.gz",
            {"first": "2", "second": "3", "label": "4"},
            38_346,
        ),
        ("similarity_zh/SimCLUE/train_pair_1w.json.gz", {}, 9_000),
        ("similarity_en/STS-B/stsbenchmark.tsv.gz", {"loss": "cosent"}, 5_749),
        ("classification/ocnli", {}, None),
    ],
)
def test_pairs_to_train_on(data_folder: Path, place: str, choices: dict[str, str], train: int | None) -> None:
    data = open_pairs(data_folder / place, PairRecipe().changed(choices))
    assert data.valid and (train is None or len(data.train) == train)
    assert not any("\ufeff" in row.first for row in data.train)
