"""From a task to a run folder: data that changes, rules that cannot be sharded, another number of micro-batches."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.train.options import TrainOptions
from hanformer.train.progress import LineReporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.runs import read_description
from hanformer.train.theseus import Theseus
from tests.train.tiny import TinyBatch, TinySource, objective, tiny_model


@dataclass(frozen=True)
class Recipe:
    """The least that a recipe has."""

    train: TrainOptions
    optimizer: str = "adamw"
    named_files: tuple[str, ...] = ()
    theseus: Theseus = field(default_factory=Theseus)


def prepared(run: Path | None) -> Prepared[TinyBatch]:
    return Prepared(
        tiny_model(),
        objective,
        TinySource(),
        lambda batch: len(batch[0]),
        companions=lambda folder: None,
        describe=lambda folder: None,
    )


RECIPE = Recipe(TrainOptions(updates=6, accumulate=2, checkpoint_every=2, precision="fp32"))


def test_changed_data_is_told_and_not_resumed(tmp_path: Path) -> None:
    data, run, stream = tmp_path / "data.tsv", tmp_path / "run", io.StringIO()
    data.write_text("天\t地\n", encoding="utf-8")

    def prepare(folder: Path | None) -> Prepared[TinyBatch]:
        data.write_text("玄\t黄\n", encoding="utf-8")
        return prepared(folder)

    train_run(run, "tiny", str(data), RECIPE, prepare, reporter=LineReporter(stream))
    assert "changed during the training (data.tsv)" in stream.getvalue()
    assert set(read_description(run)["files"]) == {"data.tsv"}
    with pytest.raises(UserError, match=r"not what the run began with: data\.tsv"):
        train_run(run, "tiny", str(data), RECIPE, prepared, resume=True)
    data.write_text("天\t地\n", encoding="utf-8")
    train_run(run, "tiny", str(data), RECIPE, prepared, resume=True)


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave out --resume"):
        train_run(tmp_path / "run", "tiny", "generated", RECIPE, prepared, resume=True)
    assert not (tmp_path / "run").exists()


def test_the_trainer_judges_micro_batches_when_a_run_goes_on(tmp_path: Path) -> None:
    train_run(tmp_path, "tiny", "generated", RECIPE, prepared)
    with pytest.raises(UserError, match=r"accumulate 2 there, 3 now"):
        other = replace(RECIPE, train=replace(RECIPE.train, accumulate=3))
        train_run(tmp_path, "tiny", "generated", other, prepared, resume=True)
    with pytest.raises(UserError, match=r"recipe.train.learning_rate 0.001 there, 0.5 now"):
        other = replace(RECIPE, train=replace(RECIPE.train, learning_rate=0.5))
        train_run(tmp_path, "tiny", "generated", other, prepared, resume=True)


@pytest.mark.parametrize("optimizer", ["muon", "lookahead+lamb", "layerwise+adamw"])
def test_rules_that_look_at_whole_matrices_are_not_sharded(tmp_path: Path, optimizer: str) -> None:
    recipe = Recipe(TrainOptions(updates=1, shard=True), optimizer)
    with pytest.raises(UserError, match="looks at whole matrices"):
        train_run(tmp_path, "tiny", "generated", recipe, prepared)


def test_sharding_alone_is_plain_training(tmp_path: Path) -> None:
    recipe = replace(RECIPE, train=replace(RECIPE.train, shard=True))
    assert train_run(tmp_path, "tiny", "generated", recipe, prepared).records[-1].update == 6


def test_run_toml_says_how_a_run_went_on(tmp_path: Path) -> None:
    train_run(tmp_path, "tiny", "generated", RECIPE, prepared)
    before = read_description(tmp_path)
    longer = replace(RECIPE, train=replace(RECIPE.train, updates=9))
    train_run(tmp_path, "tiny", "generated", longer, prepared, resume=True)
    after = read_description(tmp_path)
    assert (before["recipe"]["train"]["updates"], after["recipe"]["train"]["updates"]) == (6, 9)
    assert after["counts"] == before["counts"] and after["machine"] == before["machine"]


@pytest.mark.parametrize(
    ("optimizer", "decay", "told"),
    [("adax", 0.01, True), ("lookahead+adax", 0.1, True), ("adax", 0.0, False), ("adaxw", 0.01, False)],
)
def test_decay_that_joins_gradients_is_told(tmp_path: Path, optimizer: str, decay: float, told: bool) -> None:
    stream = io.StringIO()
    recipe = replace(RECIPE, optimizer=optimizer, train=replace(RECIPE.train, weight_decay=decay))
    train_run(tmp_path / "run", "tiny", "generated", recipe, prepared, reporter=LineReporter(stream))
    assert ("take --optimizer adaxw" in stream.getvalue()) == told
