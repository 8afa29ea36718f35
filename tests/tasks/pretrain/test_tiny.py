"""The embedded tiny encoder: its recipe keeps to its size, and its name opens what lies in the package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import hanformer
from hanformer.cli import app
from hanformer.errors import UserError
from hanformer.models import build, save
from hanformer.tasks.pretrain import PretrainRecipe
from hanformer.tasks.pretrain.starting import character_tokenizer, starting_model
from hanformer.tasks.text_recipe import TextRecipe, VocabularyOptions, make_transformer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.train.runs import read_recipe
from hanformer.weights import embedded

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "examples" / "tiny_encoder.toml"


def test_the_recipe_keeps_to_eight_megabytes() -> None:
    recipe = read_recipe(PretrainRecipe(), RECIPE)
    signs = [f"<{number}>" for number in range(recipe.vocabulary.size - 5)]
    tokenizer = WordPieceTokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs]))
    model = starting_model(recipe, tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 2 * parameters < 7_900_000
    assert recipe.train.time_limit is not None and recipe.train.time_limit <= 90 * 60


def test_its_vocabulary_is_of_characters() -> None:
    counts = Counter("之乎者也之乎者之乎之é ééé\n")
    tokenizer = character_tokenizer(counts, VocabularyOptions(size=170, minimum_count=2))
    found = tokenizer.encode("之乎者也 A1é", special_tokens=False).tokens
    assert found == ["之", "乎", "者", "[UNK]", "A", "##1", "##é"]
    assert tokenizer.vocabulary.tokens[-5:] == ("é", "##é", "之", "乎", "者")
    assert len(character_tokenizer(counts, VocabularyOptions(size=20)).vocabulary) == 20


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose embedded model is a toy, half precision as the real one."""
    folder = tmp_path / "embedded" / "tiny"
    tokenizer = WordPieceTokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气不错"]))
    recipe = TextRecipe().changed({"hidden_size": "16", "layers": "1", "attention_heads": "2"})
    save(build(make_transformer(recipe, tokenizer, "encoder", ("lm",)).config).half(), folder)
    tokenizer.save(folder)
    monkeypatch.setattr(embedded, "_FOLDER", tmp_path / "embedded")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_name_opens_model_and_tokenizer(package: Path) -> None:
    model, tokenizer = hanformer.load("tiny"), hanformer.load_tokenizer("tiny")
    assert model.embeddings.token.weight.dtype == torch.float32
    assert hanformer.load("tiny", dtype=torch.float16).embeddings.token.weight.dtype == torch.float16
    assert len(hanformer.fill_mask(model, tokenizer, "今天[MASK]错", top=2)[0]) == 2
    recipe = TextRecipe(start_from="tiny")
    started = make_transformer(recipe, tokenizer, "encoder", ("lm",))
    assert torch.equal(started.embeddings.token.weight, model.embeddings.token.weight)


def test_its_name_serves_the_commands(package: Path) -> None:
    done = CliRunner().invoke(app, ["fill-mask", "tiny", "今天[MASK]错", "--top", "2"])
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 3
    (package / "texts.txt").write_text("今天\n不错\n", encoding="utf-8")
    done = CliRunner().invoke(
        app, ["embed", "tiny", "--input", "texts.txt", "--out", "v.npy", "--pooling", "mean"]
    )
    assert done.exit_code == 0, done.output
    assert np.load(package / "v.npy").shape == (2, 16)


def test_a_folder_of_that_name_comes_first(package: Path) -> None:
    (package / "tiny").mkdir()
    with pytest.raises(UserError, match="tiny"):
        hanformer.load("tiny")


def test_its_absence_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    for opening in (hanformer.load, hanformer.load_tokenizer):
        with pytest.raises(UserError, match=r"lacks the embedded model .*tiny_encoder\.toml"):
            opening("tiny")
    done = CliRunner().invoke(app, ["fill-mask", "tiny", "今天[MASK]错"])
    assert isinstance(done.exception, UserError)


@pytest.mark.skipif(
    not (embedded.embedded_folder("tiny") / "config.json").is_file(), reason="the encoder is not trained yet"
)
def test_what_ships_is_small_and_fills_masks() -> None:
    folder = embedded.embedded_folder("tiny")
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= 8_000_000
    assert "FIGURES" not in (folder / "MODEL_CARD.md").read_text(encoding="utf-8")  # measured, not left open
    model, tokenizer = hanformer.load("tiny"), hanformer.load_tokenizer("tiny")
    (found,) = hanformer.fill_mask(model, tokenizer, "子曰：学而时习之，不亦说[MASK]？")
    assert "乎" in [candidate.token for candidate in found]
