"""A recurrent run through the verbs that all tasks share."""

from __future__ import annotations

from pathlib import Path

import pytest

import hanformer
from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm
from hanformer.parsing.training import RecurrentRecipe, train_recurrent
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.train.options import TrainOptions

TEXT = "the cat sat on the mat\nthe dog sat on the cat\n" * 30


def test_a_run_is_judged_predicts_and_loads(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "text" / f"{part}.txt").write_text(TEXT, encoding="utf-8")
    recipe = RecurrentRecipe(
        model=RecurrentConfig(embedding_size=8, hidden_size=16, layers=2, chunk_size=4, vocabulary_size=50),
        train=TrainOptions(updates=3, precision="fp32"),
        rows=2,
        window=5,
    )
    train_recurrent(recipe, tmp_path / "text", tmp_path / "run")
    service = open_service(tmp_path / "run", ServingOptions())
    found = service.evaluate(str(tmp_path / "text"))
    assert set(found.figures) == {"valid", "test", "valid_unknown", "test_unknown"}
    assert found.figures["valid"] > 1 and found.figures["valid_unknown"] == 0
    tree, refused = service.predict(["the cat sat", ""])
    assert isinstance(tree, str) and tree.replace("(", "").replace(")", "").split() == ["the", "cat", "sat"]
    assert isinstance(refused, UserError)
    assert isinstance(hanformer.load(tmp_path / "run"), RecurrentLm)
    with pytest.raises(UserError, match="word problems"):
        service.evaluate(str(tmp_path), tmp_path)
