"""What a file holds and the asked family has no place for is refused, or told; never dropped in silence."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from hanformer import inspect
from hanformer.errors import UserError
from hanformer.models import load, save
from tests.harness import random_model, tiny_config

TABLE = {
    "tensorflow": "bert/embeddings/position_embeddings",
    "transformers": r"bert.embeddings.position_embeddings.weight",
}


def published(folder: Path, format: str, heads: tuple[str, ...] = ("lm",)) -> Path:
    save(random_model(tiny_config(), heads, torch.float32), folder, format=format)
    return folder


@pytest.mark.parametrize(
    ("family", "format"), [("nezha", "tensorflow"), ("nezha", "transformers"), ("roformer", "tensorflow")]
)
def test_a_table_of_positions_speaks_against_relative_ones(format: str, family: str, tmp_path: Path) -> None:
    published(tmp_path, format)
    with pytest.raises(UserError, match=rf"{family} has no place for .*position_embeddings.*family="):
        load(tmp_path, family=family)
    with pytest.warns(UserWarning, match="left out of this model.*position_embeddings"):
        load(tmp_path, family=family, strict=False)
    found = inspect(tmp_path, family=family)
    assert found.loaded is not None
    assert [name.replace(".weight", "").replace(".", "/") for name in found.loaded.report.dropped] == [
        TABLE["tensorflow"]
    ]


@pytest.mark.parametrize("format", TABLE)
def test_heads_that_were_not_asked_for_are_no_loss(format: str, tmp_path: Path) -> None:
    published(tmp_path, format, ("lm", "pool", "nsp"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path, family="bert", heads=()).heads == ()


def test_names_under_another_root_are_refused(tmp_path: Path) -> None:
    published(tmp_path, "transformers")
    with pytest.raises(UserError, match=r"looked for roformer\.embeddings"):
        load(tmp_path, family="roformer")


def test_a_change_of_the_config_is_meant_and_told(tmp_path: Path) -> None:
    published(tmp_path, "tensorflow")
    with pytest.warns(UserWarning, match="left out of this model"):
        load(tmp_path, changes={"position": "rotary"})
