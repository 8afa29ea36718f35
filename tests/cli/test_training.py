"""The commands of `hanformer train`: what they share, which choice wins, and how an interruption ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from hanformer.cli.train import TASKS
from hanformer.cli.train_arithmetic import Arithmetic
from hanformer.cli.train_classify import Classify
from hanformer.cli.train_pair import Pair
from hanformer.cli.train_recurrent import Recurrent
from hanformer.cli.training import TextTraining
from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.tasks.classify.recipe import ClassifyRecipe
from hanformer.tasks.serving import SERVICES, ServingOptions, open_service
from hanformer.train.history import History, Record
from hanformer.train.options import TrainOptions
from hanformer.train.runs import RunDescription, write_description
from hanformer.train.trainer import Trainer
from tests.cli.conftest import Run
from tests.models.families.tiny import tiny_family
from tests.tasks.classify.toy import one_label, write_rows

SMALL = [
    *("--set", "hidden_size=16", "--set", "layers=1", "--set", "attention_heads=2", "--set", "updates=4"),
    *("--set", "minimum_count=1", "--set", "valid=10", "--set", "precision=fp32", "--threads", "1"),
]


def test_every_run_that_can_be_used_can_be_trained() -> None:
    assert set(SERVICES) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_the_help_of_every_task(run: Run, name: str) -> None:
    code, told, _ = run("train", name, "--help")
    assert code == 0 and f"Example: hanformer train {name} --" in told
    assert any("\u4e00" <= character <= "\u9fff" for character in told)
    shared = [field.name for field in fields(TextTraining)] if issubclass(TASKS[name], TextTraining) else []
    spelt = {"assignments": "set", "tricks": "trick", "start_from": "start-from"}
    for option in {spelt.get(field, field) for field in [*shared, "out", "resume", "device", "threads"]}:
        assert f"--{option} " in told, option


def test_a_name_of_its_own_yields_to_set_and_a_file_to_both(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('loss = "sigmoid"\noptimizer = "lion"\nvalid = 7\ntricks = ["fgm"]\n', "utf-8")
    asked = Classify(
        out=tmp_path,
        data="rows.tsv",
        recipe=file,
        loss="focal",
        optimizer="adax",
        average="ema",
        tricks=["r_drop:4"],
        assignments=["optimizer=tiger", "train.epochs=3"],
    )
    chosen = asked.choose()
    assert (chosen.loss, chosen.optimizer, chosen.valid) == ("focal", "tiger", 7)
    assert (chosen.tricks, chosen.train.average, chosen.train.epochs) == (("r_drop:4",), "ema", 3)
    assert Classify(out=tmp_path, data="rows.tsv").choose() == ClassifyRecipe()


def test_an_interruption_says_what_is_kept_and_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_rows(tmp_path / "all.tsv", one_label(40, 0)), tmp_path / "run"
    words = ("train", "classify", "--data", data, "--out", out, *SMALL)
    whole = Trainer._update

    def cut(trainer: Trainer, group: object) -> None:
        whole(trainer, group)
        if trainer.progress.update == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_update", cut)
        code, _, error = run(*words)
    assert code == 130 and error.splitlines()[-3:] == [
        f"interrupted after update 2: saved in {out}; resume to go on",
        f"to go on from what {out} keeps: the same command with --resume",
        "hanformer: interrupted",
    ]
    assert "already holds a run" in run(*words)[2]
    code, told, error = run(*words, "--resume")
    assert code == 0 and f"next: hanformer evaluate {out}" in told and "update 4" in error


def test_an_interruption_before_anything_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*words: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hanformer.tasks.classify.training.train", cut)
    data = write_rows(tmp_path / "all.tsv", one_label(40, 0))
    code, _, error = run("train", "classify", "--data", data, "--out", tmp_path / "run", *SMALL)
    assert (code, error) == (130, "hanformer: interrupted\n")


def test_what_was_trained_on_is_not_what_to_judge_by(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_rows(tmp_path / "all.tsv", one_label(40, 0)), tmp_path / "run"
    for data, said in ((file, "TEST (rows that it has not seen)"), (tmp_path, str(tmp_path))):
        history = History([Record(3, 1.0, 2.0, metrics={"loss": 0.5, "f1": 0.75})])
        Classify(out=out, data=str(data)).ended(history, TrainOptions(epochs=1), "F1 {f1:.1%}")
        told = capsys.readouterr().out
        assert told == f"kept update 3: validation F1 75.0%; next: hanformer evaluate {out} --data {said}\n"
    assert run("train", "classify", "--data", file, "--out", out, *SMALL)[0] == 0
    copy = write_rows(tmp_path / "copy.tsv", one_label(40, 0))
    other = write_rows(tmp_path / "other.tsv", one_label(40, 1))
    assert "warning: " + str(copy) + ": this run was trained on it" in run("evaluate", out, "--data", copy)[2]
    assert not run("evaluate", out, "--data", other)[2]


def test_a_run_goes_on_by_its_own_choices(tmp_path: Path) -> None:
    out = tmp_path / "run"
    began = Classify(out=out, data="rows.tsv", loss="focal", tricks=["fgm"], assignments=["valid=7"])
    recipe = began.choose()
    again = Classify(out=out, data="rows.tsv", resume=True)
    assert again.choose() == ClassifyRecipe()  # nothing there
    out.mkdir()
    write_description(out, RunDescription("classify", "rows.tsv", recipe))
    assert again.choose() == recipe
    assert replace(again, assignments=["epochs=30"]).choose().train.epochs == 30
    assert replace(again, resume=False).choose() == ClassifyRecipe()
    with pytest.raises(UserError, match=r"run\.toml: .*; this is a run of classify"):
        Pair(out=out, data="rows.tsv", resume=True).choose()


def test_runs_of_other_data_go_on_by_their_own_choices_too(tmp_path: Path) -> None:
    problems = Arithmetic(out=tmp_path / "a", recipe="demo", start_from="tiny", assignments=["layout=raw"])
    words = Recurrent(out=tmp_path / "r", data=tmp_path, assignments=["model.kind=lstm", "rows=3"])
    for began in (problems, words):
        recipe = began.choose()
        began.out.mkdir()
        write_description(began.out, RunDescription(type(began).__name__.lower(), "data", recipe))
        again = type(began)(out=began.out, data=began.data, resume=True)  # type: ignore[arg-type]
        assert again.choose() == recipe
        assert replace(again, assignments=["train.epochs=7"]).choose().train.epochs == 7
        assert replace(again, resume=False).choose() != recipe
    assert problems.choose().start_from == "tiny" and words.choose().rows == 3


def test_a_pretrained_model_that_is_not_there_is_told_before_data_are_read(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    words = ("--data", tmp_path / "no data", "--out", tmp_path / "run", "--start-from", tmp_path / "no model")
    for task in ("classify", "pretrain", "chat"):
        assert f"--start-from: {tmp_path / 'no model'}: no such file" in refused("train", task, *words)
    assert "--start-from: " in refused("train", "arithmetic", "--set", "layout=raw", *words)
    assert "use --set layout=raw with --start-from" in refused("train", "arithmetic", *words)


def test_every_form_of_a_pretrained_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the prefix of a TensorFlow checkpoint, which is the name of no file."""
    monkeypatch.setenv("HANFORMER_TUNE_CPU", "0")
    model = tiny_family("bert")
    save(model, tmp_path / "tf", format="tensorflow")
    save(model, tmp_path / "own")
    prefix = next((tmp_path / "tf").glob("*.index")).with_suffix("")
    assert not prefix.exists()
    asked = Classify(out=tmp_path / "run", data="rows.tsv", device="cpu", threads=1)
    for start_from in (prefix, tmp_path / "tf", tmp_path / "own", tmp_path / "own/model.safetensors", "tiny"):
        assert asked.machine(str(start_from)).type == "cpu"


def test_one_text_outside_a_list_is_no_list_of_texts(run: Run, tmp_path: Path) -> None:
    file, out = write_rows(tmp_path / "all.tsv", one_label(40, 0)), tmp_path / "run"
    assert run("train", "classify", "--data", file, "--out", out, *SMALL)[0] == 0
    service = open_service(out, ServingOptions(precision="fp32"))
    with pytest.raises(
        UserError, match=r"expected a list of texts, got one text; write predict\(\['甲天乙'\]\)"
    ):
        service.predict("甲天乙")
    assert len(service.predict(["甲天乙"])) == 1


def test_only_word_problems_are_judged_without_data(refused: Callable[..., str], tmp_path: Path) -> None:
    write_description(tmp_path, RunDescription("tag", "a.txt", ClassifyRecipe()))
    assert "name what to judge by, such as --data test.tsv" in refused("evaluate", tmp_path)


def test_sizes_beside_a_pretrained_model_are_told_before_data_are_read(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    words = ("--data", tmp_path / "no data", "--out", tmp_path / "run", "--start-from", "tiny")
    for task in ("classify", "pair", "tag", "seq2seq", "pretrain", "chat"):
        told = refused("train", task, *words, "--set", "layers=1", "--set", "hidden_size=64")
        assert "--start-from: tiny: a pretrained model keeps its sizes (hidden_size=256, layers=4)" in told
        assert "change layers in FOLDER/config.json" in told
    told = refused("train", "arithmetic", *words[2:], "--set", "layout=raw", "--set", "layers=1")
    assert "layers=1 would be of a new one" in told


def test_the_way_to_other_positions_of_a_pretrained_model_leads_there(
    run: Run, refused: Callable[..., str], tmp_path: Path
) -> None:
    """What a refusal says, done: the folder is written, its config changed, and trained on."""
    data, folder, out = (
        write_rows(tmp_path / "all.tsv", one_label(40, 0)),
        tmp_path / "tiny",
        tmp_path / "run",
    )
    small = SMALL[6:]
    words = ("train", "classify", "--data", data, "--out", out, *small, "--set", "attention=synthesizer")
    told = refused(*words, "--set", "position=none", "--start-from", "tiny")
    assert "hanformer convert tiny FOLDER), change position in FOLDER/config.json" in told
    assert run("convert", "tiny", folder)[0] == 0
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "position": "none"}), "utf-8")
    assert run(*words, "--set", "position=none", "--start-from", folder)[0] == 0
    found = load(out).config
    assert found.position == "none" and found.attention.name == "synthesizer"


def test_a_new_model_of_every_choice_that_sizes_have(run: Run, tmp_path: Path) -> None:
    data, out = write_rows(tmp_path / "all.tsv", one_label(40, 0)), tmp_path / "run"
    chosen = {
        "residual_attention": True,
        "key_value_heads": 1,
        "attention_key_size": 4,
        "relative_distance": 20,
    }
    named = [word for name, value in chosen.items() for word in ("--set", f"{name}={str(value).lower()}")]
    words = ("train", "classify", "--data", data, "--out", out, *SMALL, "--set", "position=relative_buckets")
    code, _, error = run(*words, *named)
    assert code == 0, error
    config = load(out).config
    assert {name: getattr(config, name) for name in chosen} == chosen
