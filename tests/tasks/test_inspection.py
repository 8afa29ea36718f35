"""What `inspect` tells of a checkpoint equals what was written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanformer import inspect, load, save
from hanformer.errors import UserError
from hanformer.tasks.inspection import DEFAULT, FAMILY, FILE, OVERRIDDEN, Like, alike
from hanformer.weights.source import TensorInfo
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_encoder
from tests.weights.material import GOLDEN


@pytest.mark.parametrize("form", ["safetensors", "transformers", "tensorflow"])
def test_counts_names_and_heads(tmp_path: Path, form: str) -> None:
    model = tiny_encoder(heads=("lm", "pool", "nsp"))
    save(model, tmp_path, format=form)
    found = inspect(tmp_path)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (found.family, found.complaint) == ("bert", None)
    assert found.dialect == {"safetensors": "own"}.get(form, form)
    assert (found.numbers, found.bytes) == (count, 4 * count)
    assert found.loaded is not None and found.loaded.parameters == count
    assert found.loaded.heads == ("lm", "pool", "nsp")
    assert found.loaded.report.fits and not found.loaded.report.unused


def test_only_whole_heads_count(tmp_path: Path) -> None:
    save(tiny_encoder(heads=("pool",)), tmp_path, format="transformers")
    found = inspect(tmp_path)
    assert found.loaded is not None and found.loaded.heads == ("pool",)


def test_origins_of_the_config(tmp_path: Path) -> None:
    """GPT-2 has no segments, whatever its JSON says; its norms stand before, which no JSON says."""
    config = tiny_config(
        application="lm", family="gpt2", norm_place="pre", lm_head="tied", segment_vocab_size=0, pad_id=None
    )
    save(random_model(config, ("lm",), torch.float32), tmp_path, format="transformers")
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "type_vocab_size": 2}))
    found = inspect(tmp_path)
    assert found.loaded is not None, found.complaint
    choices = {choice.name: choice for choice in found.loaded.choices}
    assert (choices["segment_vocab_size"].origin, choices["segment_vocab_size"].said) == (OVERRIDDEN, 2)
    assert choices["segment_vocab_size"].value == 0
    assert (choices["norm_place"].origin, choices["norm_place"].value) == (FAMILY, "pre")
    assert choices["hidden_size"].origin == FILE
    assert choices["residual_attention"].origin == DEFAULT


def test_without_a_config_the_tensors_are_told(tmp_path: Path) -> None:
    save(tiny_encoder(), tmp_path, format="transformers")
    (tmp_path / "config.json").unlink()
    found = inspect(tmp_path)
    assert found.tensors and found.loaded is None
    assert found.family == "bert" and "config" in (found.complaint or "")
    save(tiny_encoder(), tmp_path / "other", format="transformers")
    named = inspect(tmp_path, config=tmp_path / "other" / "config.json")
    assert named.complaint is None and named.loaded is not None


def test_what_does_not_fit_is_reported(tmp_path: Path) -> None:
    save(tiny_encoder(), tmp_path, format="transformers")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["bert.encoder.layer.1.attention.self.key.bias"]
    tensors["bert.embeddings.LayerNorm.weight"] = torch.ones(3)
    tensors["bert.odd"] = torch.ones(2)
    save_file(tensors, tmp_path / "model.safetensors")
    found = inspect(tmp_path)
    assert found.loaded is not None
    report = found.loaded.report
    assert len(report.missing) == len(report.misshapen) == len(report.unexpected) == 1
    assert "layer.1.attention.self.key.bias" in report.missing[0]
    with pytest.raises(UserError) as refused:
        load(tmp_path)
    assert (found.fits, found.complaint) == (False, str(refused.value))


@pytest.mark.parametrize("form", ["safetensors", "transformers", "tensorflow"])
@pytest.mark.parametrize("word", ["vocab_size", "hidden_size", "intermediate_size", "layers"])
def test_sizes_that_no_memory_holds(tmp_path: Path, form: str, word: str) -> None:
    save(tiny_encoder(), tmp_path, format=form)
    path = next(tmp_path.glob("*config.json"))
    values = json.loads(path.read_text())
    key = "num_hidden_layers" if word == "layers" and word not in values else word
    path.write_text(json.dumps({**values, key: 10**9}))
    found = inspect(tmp_path)
    assert not found.fits and found.tensors
    if word == "layers":
        assert "layers must be at most" in (found.complaint or "")
    else:
        assert found.loaded is not None and found.loaded.parameters > 10**9
        assert "wrong shape" in (found.complaint or "") and len(found.loaded.report.misshapen) > 1


def test_a_fixed_table_that_no_memory_holds(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "nezha", tmp_path / "nezha")
    path = tmp_path / "nezha" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "max_relative_position": 10**9}))
    assert "relative_distance" in (inspect(tmp_path / "nezha", family="nezha").complaint or "")


def test_a_family_that_is_not_the_checkpoints(tmp_path: Path) -> None:
    save(tiny_encoder(), tmp_path / "own")
    save(tiny_encoder(), tmp_path / "theirs", format="transformers")
    for folder, wrong in (("own", "nezha"), ("theirs", "roformer"), ("theirs", "t5.1.1"), ("theirs", "gpt2")):
        found = inspect(tmp_path / folder, family=wrong)
        assert not found.fits and found.tensors
        with pytest.raises(UserError) as refused:
            load(tmp_path / folder, family=wrong)
        assert (found.complaint or "").split(" (")[0] == str(refused.value).split(" (")[0]
    assert inspect(tmp_path / "own", family="bert").fits


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        inspect(tmp_path / "none")
    with pytest.raises(UserError, match="no checkpoint in it"):
        inspect(tmp_path)
    save(tiny_encoder(), tmp_path / "a")
    with pytest.raises(UserError, match="unknown name"):
        inspect(tmp_path / "a", family="brt")
    with pytest.raises(UserError, match="no such file"):
        inspect(tmp_path / "a", config=tmp_path / "none.json")


def info(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, torch.float32)


def test_tensors_are_grouped_over_layers() -> None:
    tensors = [
        *(info(f"encoder.layer.{layer}.key", 2, 2) for layer in (10, 2, 0, 1)),
        info("embeddings", 5, 2),
        *(info(f"h.{layer}.c", 3) for layer in (0, 2)),
        info("h.1.c", 4),
        info("group_0/inner_group_0/x", 1),
        info("odd{}.3", 1),
    ]
    assert alike(tensors) == [
        Like("encoder.layer.{0,1,2,10}.key", (2, 2), "float32", 4),
        Like("embeddings", (5, 2), "float32", 1),
        Like("h.{0,2}.c", (3,), "float32", 2),
        Like("h.1.c", (4,), "float32", 1),
        Like("group_0/inner_group_0/x", (1,), "float32", 1),
        Like("odd{}.3", (1,), "float32", 1),
    ]
    assert alike([info("a{}0", 1), info("a{}1", 1)])[0].name == "a(){0..1}"


@pytest.mark.parametrize("case", ["bert", "albert", "nezha", "roformer", "t5_1_1", "gpt2_ml"])
@pytest.mark.parametrize("named", ["", "model.ckpt", "model.ckpt.index"])
def test_an_index_alone_tells_what_its_data_would_give(case: str, named: str, tmp_path: Path) -> None:
    family = json.loads((GOLDEN / case / "case.json").read_text())["bert4keras_model"]
    whole = inspect(GOLDEN / case, family=family)
    for file in GOLDEN.joinpath(case).iterdir():
        if ".data-" not in file.name and file.suffix != ".npz":
            shutil.copy(file, tmp_path)
    found = inspect(tmp_path / named, family=family)
    assert found.complaint is not None and "model.ckpt.data-00000-of-00001" in found.complaint
    assert (found.tensors, found.family, found.format) == (whole.tensors, whole.family, whole.format)
    assert found.loaded is not None and whole.loaded is not None
    assert replace(found.loaded.report, origin="") == replace(whole.loaded.report, origin="")
    assert (found.loaded.parameters, found.loaded.heads) == (whole.loaded.parameters, whole.loaded.heads)
    with pytest.raises(UserError, match="data-00000-of-00001"):
        load(tmp_path / named, family=family)


def test_an_index_without_config_and_data(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "bert" / "model.ckpt.index", tmp_path)
    found = inspect(tmp_path)
    assert found.loaded is None and found.family == "bert" and len(found.tensors) == 46
    assert found.complaint is not None
    assert "without its data" in found.complaint and "expected one JSON config" in found.complaint


def test_published_indexes(data_folder: Path) -> None:
    folder = data_folder / "checkpoints" / "tf_index_only"
    config = folder / "bert_wwm_zh__bert_config.json"
    families = {
        "albert_small_zh_google__albert_model": "albert",
        "albert_tiny_zh_google__albert_model": "albert",
        "bert_wwm_zh__bert_model": "bert",
        "google_bert_zh__bert_model": "bert",
    }
    for name, family in families.items():
        assert inspect(folder / f"{name}.ckpt").family == family
    for name in ("bert_wwm_zh__bert_model", "google_bert_zh__bert_model"):
        found = inspect(folder / f"{name}.ckpt.index", config=config)
        assert found.loaded is not None and found.loaded.parameters == 102_882_442
        assert found.loaded.report.fits and found.loaded.heads == ("lm", "pool", "nsp")
