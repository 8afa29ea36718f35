"""inspect, convert, fill-mask and embed as a user calls them; every mistake is one line and exit code 2."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer import encode, fill_mask, load, load_tokenizer, save
from tests.cli.conftest import Run
from tests.similarity.tiny import tiny_encoder, tiny_folder, tiny_t5


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "bert")


def test_inspect_tells_tensors_config_and_fit(run: Run, bert: Path) -> None:
    run("convert", bert, bert.parent / "tf", "--to", "tensorflow")
    code, told, _ = run("inspect", bert.parent / "tf")
    assert code == 0
    lines = told.splitlines()
    assert "tensorflow" in lines[0] and "family bert" in told
    assert any("layer_{0..1}/attention/self/key/kernel" in line and line.endswith("x 2") for line in lines)
    assert any(line.split()[:3] == ["hidden_size", "16", "(file)"] for line in lines)
    assert "heads: lm, pool" in told and "norm_place" not in told
    _, whole, _ = run("inspect", bert.parent / "tf", "--all")
    assert "layer_1/attention/self/key/kernel" in whole and "norm_place" in whole


def test_inspect_goes_on_without_a_config(run: Run, bert: Path) -> None:
    (bert / "config.json").unlink()
    code, told, _ = run("inspect", bert)
    assert code == 0
    assert "stack.blocks.{0..1}.attention.key.weight" in told and "not to be loaded like this" in told


def test_inspect_tells_that_a_family_does_not_fit(run: Run, bert: Path) -> None:
    run("convert", bert, bert.parent / "tf", "--to", "tensorflow")
    for folder, said in ((bert, "says the family bert"), (bert.parent / "tf", "has no place for")):
        code, told, _ = run("inspect", folder, "--family", "nezha")
        assert code == 2 and f"not to be loaded like this: {folder}" in told and said in told
        assert "attention" in told
    assert run("inspect", bert.parent / "tf", "--family", "simbert")[0] == 0


def test_convert_says_what_it_wrote(run: Run, bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, told, _ = run("convert", bert, out, "--to", "transformers", "--dtype", "bf16", "--heads", "pool")
    assert code == 0 and "heads: pool" in told and "vocab.txt" in told
    assert json.loads((out / "config.json").read_text())["model_type"] == "bert"
    assert load(out).embeddings.token.weight.dtype == torch.bfloat16
    (tmp_path / "keep.json").write_text("[0, 1, 2, 3, 4, 7]")
    code, told, _ = run("convert", bert, tmp_path / "cut", "--keep-tokens", tmp_path / "keep.json")
    assert code == 0 and load(tmp_path / "cut").config.vocab_size == 6


def test_fill_mask_prints_candidates(run: Run, bert: Path) -> None:
    text = "今天[MASK]气[MASK]"
    code, told, _ = run("fill-mask", bert, text, "--top", "2")
    expected = fill_mask(load(bert, heads=("mlm",)), load_tokenizer(bert), text, top=2)
    lines = told.splitlines()
    assert code == 0 and lines[0::3] == ["[MASK] 1", "[MASK] 2"]
    assert [line.split()[1] for line in lines if not line.startswith("[")] == [
        candidate.token for candidates in expected for candidate in candidates
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_embed_writes_what_encode_gives(run: Run, bert: Path, tmp_path: Path, packed: bool) -> None:
    texts = ["今天", "", "天气很好"]
    content = "".join(text + "\n" for text in texts).encode()
    source = tmp_path / ("a.txt.gz" if packed else "a.txt")
    source.write_bytes(gzip.compress(content) if packed else content)
    out = tmp_path / "v.npy"
    code, told, error = run("embed", bert, "--input", source, "--out", out, "--pooling", "pooled")
    assert (code, error) == (0, "") and "3 vectors of 16 numbers" in told and "texts/s" in told
    expected = encode(load(bert), load_tokenizer(bert), texts, pooling="pooled")
    np.testing.assert_allclose(np.load(out), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_embed_reads_records_and_standard_input(
    run: Run, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = b"".join(json.dumps({"t": text}).encode() + b"\n" for text in ("今天", "好" * 60))
    (tmp_path / "a.jsonl").write_bytes(records)
    options = ("--field", "t", "--normalise", "--batch-tokens", "8")
    code, _, error = run(
        "embed", bert, "--input", tmp_path / "a.jsonl", "--out", tmp_path / "a.npy", *options
    )
    assert code == 0
    assert error == "warning: 1 of 2 texts were longer than the maximum length and were cut at their end\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(records)))
    code, _, _ = run("embed", bert, "--input", "-", "--out", tmp_path / "b.npy", *options)
    found = np.load(tmp_path / "a.npy")
    assert code == 0 and (found == np.load(tmp_path / "b.npy")).all()
    np.testing.assert_allclose((found**2).sum(1), 1, rtol=1e-5)


def test_embed_in_bf16_has_the_same_direction(run: Run, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("今天天气\n好\n", encoding="utf-8")
    found = []
    for word in ("fp32", "bf16"):
        out = tmp_path / f"{word}.npy"
        _, told, _ = run(
            "embed", bert, "--input", tmp_path / "a.txt", "--out", out, "--dtype", word, "--pooling", "mean"
        )
        found.append(torch.from_numpy(np.load(out)))
    assert "bfloat16" in told and found[1].dtype == torch.float32
    assert torch.cosine_similarity(*found).min() > 0.99 and not torch.equal(*found)


def test_a_tokenizer_may_lie_elsewhere(run: Run, bert: Path, tmp_path: Path) -> None:
    save(load(bert), tmp_path / "bare")
    named = ("fill-mask", tmp_path / "bare", "[MASK]", "--tokenizer", bert / "vocab.txt")
    assert run(*named)[1] == run("fill-mask", bert, "[MASK]")[1]


def test_warnings_are_lines(run: Run, bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    run("convert", bert, tmp_path / "hf", "--to", "transformers")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    save_file({**tensors, "bert.odd": torch.ones(1)}, tmp_path / "hf" / "model.safetensors")
    code, told, error = run("fill-mask", tmp_path / "hf", "[MASK]")
    assert code == 0 and told and error.startswith("warning: ") and ".py" not in error
    assert "parameters loaded; unexpected (1): bert.odd; not used" in error


def test_bad_checkpoints_are_refused(refused: Callable[..., str], bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("今天\n", encoding="utf-8")
    embed = ("--input", tmp_path / "a.txt", "--out", tmp_path / "v.npy")
    for path, said in ((tmp_path / "none", "no such file"), (tmp_path, "no checkpoint in it")):
        assert said in refused("convert", path, tmp_path / "out")
        assert said in refused("fill-mask", path, "[MASK]")
        assert said in refused("embed", path, *embed)
    assert "no such file" in refused("inspect", tmp_path / "none")
    weights = bert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    for words in (("inspect", bert), ("convert", bert, tmp_path / "out"), ("fill-mask", bert, "[MASK]")):
        assert "safetensors" in refused(*words)
    assert not (tmp_path / "v.npy").exists() and not (tmp_path / "out").exists()


def test_bad_words_are_refused(refused: Callable[..., str], bert: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("今天\n", encoding="utf-8")
    (tmp_path / "keep.json").write_text("{}")
    source, out = tmp_path / "a.txt", tmp_path / "v.npy"
    assert "unknown name" in refused("inspect", bert, "--family", "brt")
    assert "--to" in refused("convert", bert, tmp_path / "out", "--to", "keras")
    assert "--dtype" in refused("convert", bert, tmp_path / "out", "--dtype", "int8")
    assert "heads" in refused("convert", bert, tmp_path / "out", "--heads", "tail")
    assert "JSON list" in refused("convert", bert, tmp_path / "out", "--keep-tokens", tmp_path / "keep.json")
    assert "--force" in refused("convert", bert, bert)
    assert "[MASK] in the text" in refused("fill-mask", bert, "今天")
    assert "top" in refused("fill-mask", bert, "[MASK]", "--top", "0")
    assert "GPU" in refused("fill-mask", bert, "[MASK]", "--device", "cuda:7")
    assert "pooling" in refused("embed", bert, "--input", source, "--out", out, "--pooling", "max")
    assert ".npy" in refused("embed", bert, "--input", source, "--out", tmp_path / "v.txt")
    assert "--field" in refused("embed", bert, "--input", tmp_path / "a.jsonl", "--out", out)
    assert "no-such" in refused("embed", bert, "--input", "no-such.txt", "--out", out)
    assert "40 positions" in refused("embed", bert, "--input", source, "--out", out, "--maximum-length", "41")
    assert "input" in refused("embed", bert, "--out", out)


def test_models_that_cannot_are_refused(refused: Callable[..., str], bert: Path, tmp_path: Path) -> None:
    for name, model, said in (
        ("t5", tiny_t5(), "needs a masked language model"),
        ("pooled", tiny_encoder(heads=("pool",)), "missing (5): lm_head"),
    ):
        save(model, tmp_path / name)
        (tmp_path / name / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes())
        assert said in refused("fill-mask", tmp_path / name, "[MASK]")
    assert "holds no head of that kind" in refused("fill-mask", tmp_path / "pooled", "[MASK]")
    (bert / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes() + "雪\n".encode())
    (tmp_path / "a.txt").write_text("今天\n", encoding="utf-8")
    assert "belong" in refused("embed", bert, "--input", tmp_path / "a.txt", "--out", tmp_path / "v.npy")


@pytest.mark.parametrize("command", ["inspect", "convert", "fill-mask", "embed"])
def test_help_speaks_both_languages(run: Run, command: str) -> None:
    code, told, _ = run(command, "--help")
    assert code == 0 and "Usage" in told and any("\u4e00" <= character <= "\u9fff" for character in told)
