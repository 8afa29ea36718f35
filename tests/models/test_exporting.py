"""Padded forms and exports: the outputs of the model, on ragged batches, padded on either side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, exporting
from hanformer.models.exporting import INPUTS, export, largest_difference, trial_batch
from hanformer.models.padded import PaddedTransformer
from tests.harness import EXACT, random_model, tiny_config

HEADS = ("lm", "pool", "nsp")
CONFIGS: dict[str, dict[str, object]] = {
    "bert": {},
    "unilm": {"application": "unilm"},
    "lm": {"application": "lm"},
    "albert": {"share_layers": True, "embedding_size": 6},
    "roformer": {"position": "rotary", "embedding_norm": "before_dropout"},
    "roformer_v2": {
        "position": "rotary",
        "norm": "rms_plain",
        "biases": "none",
        "lm_head": "mapped",
        "embedding_size": 6,
    },
    "nezha": {"position": "relative_sinusoidal", "relative_distance": 3},
    "realformer": {"residual_attention": True},
    "realnezha": {"residual_attention": True, "position": "relative_sinusoidal", "relative_distance": 3},
    "gpt2": {
        "norm_place": "pre",
        "lm_head": "tied",
        "application": "lm",
        "segment_vocab_size": 0,
        "pad_id": None,
    },
    "gpt2_ml": {"norm_place": "feedforward", "embedding_norm": "before_dropout", "application": "lm"},
    "llama": {
        "norm": "rms",
        "norm_place": "pre",
        "biases": "none",
        "feedforward": "gated",
        "activation": "silu",
        "position": "rotary",
        "lm_head": "untied",
        "attention_heads": 4,
        "key_value_heads": 2,
        "application": "lm",
    },
    "key size": {"attention_key_size": 5, "attention_head_size": 3},
    "sinusoidal": {"position": "sinusoidal"},
    "shared segments": {"shared_segment_embeddings": True},
    "hierarchical": {"hierarchical_positions": 0.4, "max_positions": 6},
}
BATCHES = [(4, 9), (1, 1), (3, 6), (1, 4), (6, 2)]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_padded_form_is_the_model(name: str) -> None:
    model = random_model(tiny_config(**CONFIGS[name]), HEADS)
    padded = PaddedTransformer(model)
    longest = model.config.max_positions
    for seed, (rows, length) in enumerate(BATCHES):
        ids, segments, mask = trial_batch(model.config, rows, min(length, longest), seed)
        expected = model(ids, segments, attention_mask=mask)
        found = padded(ids, segments, mask)
        assert list(found) == ["sequence", "pooled", "nsp_logits", "lm_logits"]
        for part, value in found.items():
            torch.testing.assert_close(value, getattr(expected, part), **EXACT)


def test_the_padded_form_of_a_discriminator() -> None:
    model = random_model(tiny_config(embedding_size=6), ("discriminator",))
    batch = trial_batch(model.config, 4, 7, 0)
    found = PaddedTransformer(model)(*batch)
    expected = model(batch[0], batch[1], attention_mask=batch[2])
    assert list(found) == ["sequence", "discriminator_logits"]
    torch.testing.assert_close(found["discriminator_logits"], expected.discriminator_logits, **EXACT)


def test_padding_in_the_middle_and_what_stands_there() -> None:
    """Positions and segments count real tokens alone; ids under the mask mean nothing."""
    model = random_model(tiny_config(application="unilm"), HEADS)
    mask = torch.tensor([[0, 1, 1, 0, 1, 0, 1], [1, 0, 0, 1, 1, 1, 0]])
    ids, segments = torch.randint(0, 23, (2, 7)), torch.tensor([[1, 0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1, 1]])
    expected, padded = model(ids, segments, attention_mask=mask), PaddedTransformer(model)
    for other in (ids, ids.masked_fill(mask == 0, 9)):
        found = padded(other, segments, mask)
        torch.testing.assert_close(found["lm_logits"], expected.lm_logits, **EXACT)
        torch.testing.assert_close(found["pooled"], expected.pooled, **EXACT)


def test_trial_batches_are_ragged_and_padded_on_either_side() -> None:
    ids, segments, mask = trial_batch(tiny_config(), 6, 9, seed=0)
    assert int(ids.max()) < 23 and segments.unique().tolist() == [0, 1]
    lengths = mask.sum(1)
    assert lengths[0] == 9 and int(lengths.min()) >= 1 and len(lengths.unique()) > 2
    assert bool((mask[::2, 0] == 1).all()) and bool((mask[1::2, -1] == 1).all())
    assert bool((mask[1::2, 0] == 0).any()) and bool((mask[::2, -1] == 0).any())


def test_the_largest_difference() -> None:
    model = random_model(tiny_config(), ("lm",), torch.float32)
    padded = PaddedTransformer(model)

    def shifted(batch: tuple[Tensor, Tensor, Tensor]) -> Mapping[str, Tensor]:
        found = padded(*batch)
        return {**found, "sequence": found["sequence"] + 0.25}

    assert largest_difference(model, lambda batch: padded(*batch)) < 1e-6
    assert 0.03 < largest_difference(model, shifted) <= 0.25
    assert largest_difference(model, lambda batch: {"sequence": padded(*batch)["sequence"][:, :-1]}) == float(
        "inf"
    )
    assert largest_difference(
        model, lambda batch: {"sequence": padded(*batch)["sequence"] * torch.nan}
    ) == float("inf")


def inputs_of(model_batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in zip(INPUTS, model_batch, strict=True)}


def test_a_torch_program_runs_on_batches_of_any_size(tmp_path: Path) -> None:
    model = random_model(tiny_config(embedding_size=6, layers=1), HEADS, torch.float32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert export(model, tmp_path / "model.pt2") < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    program = torch.export.load(tmp_path / "model.pt2").module()
    for seed, (rows, length) in enumerate([(1, 1), (7, 40), (2, 3), (1, 39)]):
        batch = trial_batch(model.config, rows, length, seed)
        expected = model(batch[0], batch[1], attention_mask=batch[2])
        for part, value in program(*batch).items():
            torch.testing.assert_close(value, getattr(expected, part), rtol=1e-5, atol=1e-5)


def test_an_onnx_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import onnxruntime as runtime

    model = random_model(tiny_config(position="rotary", layers=1), HEADS, torch.float32)
    assert export(model, tmp_path / "model.onnx", format="onnx") < 1e-5
    assert capfd.readouterr() == ("", "")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == list(INPUTS)
    batch = trial_batch(model.config, 7, 40, seed=1)
    expected = model(batch[0], batch[1], attention_mask=batch[2])
    names = [entry.name for entry in session.get_outputs()]
    assert names == ["sequence", "pooled", "nsp_logits", "lm_logits"]
    for part, value in zip(names, session.run(names, inputs_of(batch)), strict=True):
        wanted = getattr(expected, part)
        torch.testing.assert_close(torch.from_numpy(value), wanted, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    model = random_model(tiny_config(), dtype=torch.float32)
    t5 = EncoderDecoder(tiny_config(decoder_layers=1, position="relative_buckets")).eval()
    conditional = random_model(tiny_config(condition_size=3))
    for wrong, said in (
        (t5, "not for this EncoderDecoder"),
        (torch.nn.Linear(2, 2), "not for this Linear"),
        (conditional, "without conditions"),
        (random_model(tiny_config(), dtype=torch.bfloat16), r"got torch.bfloat16 on cpu; call model.to"),
        (random_model(tiny_config(max_positions=1), dtype=torch.float32), "at least 2 positions"),
        (random_model(tiny_config(), dtype=torch.float32).train(), "training mode"),
    ):
        with pytest.raises(UserError, match=said):
            export(wrong, tmp_path / "model.pt2")
    with pytest.raises(UserError, match="expected one of torch, onnx, got 'tflite'"):
        export(model, tmp_path / "model.pt2", format="tflite")
    assert not list(tmp_path.iterdir())


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(tiny_config(), (), torch.float32)
    (tmp_path / "model.pt2").write_bytes(b"what was there")

    def shifted(padded: PaddedTransformer) -> tuple[bytes, exporting.Runner]:
        return b"another program", lambda batch: {"sequence": padded(*batch)["sequence"] + 1e-3}

    monkeypatch.setattr(exporting, "_torch_program", shifted)
    with pytest.raises(UserError, match=r"differs from its model by \d\.\de-04, more than 1e-05; nothing"):
        export(model, tmp_path / "model.pt2")
    assert (tmp_path / "model.pt2").read_bytes() == b"what was there"


def test_onnx_without_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime; pip install 'hanformer\[onnx\]'"):
        export(random_model(tiny_config(), dtype=torch.float32), tmp_path / "model.onnx", format="onnx")
