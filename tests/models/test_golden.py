"""bert4keras' own outputs, from its own checkpoints, for every family that it has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanformer.models import load
from hanformer.models.output import Output
from tests.models.golden import CASES, Case

NEAR = {"rtol": 0.0, "atol": 1e-5}
#: Its outputs do not come from its file; see the end.
CONTRADICTORY = "albert_unshared"


def test_no_case_is_forgotten() -> None:
    assert len(CASES) == 16 and CONTRADICTORY in CASES


@pytest.mark.parametrize("name", [name for name in CASES if name != CONTRADICTORY])
@torch.no_grad()
def test_golden(name: str) -> None:
    case = Case(name)
    model, tensors = case.load(), case.tensors()
    ids = tensors["input_ids"].long()
    if "decoder_input_ids" in tensors:
        compare_decoder(model(ids, decoder_input_ids=tensors["decoder_input_ids"].long()), tensors)
        return
    segments = tensors["segment_ids"].long() if "segment_ids" in tensors else None
    found = outputs_of(model(ids, segments))
    expected = [tensors[name] for name in sorted(tensors) if name.startswith("output_")]
    assert len(found) == len(expected)
    real = ids != 0
    assert not real.all(), "the rows are ragged"
    for ours, theirs in zip(found, expected, strict=True):
        both = (ours[real], theirs[real]) if ours.dim() == 3 else (ours, theirs)
        torch.testing.assert_close(*both, **NEAR)


def outputs_of(output: Output) -> list[Tensor]:
    """What bert4keras returns: probabilities of the heads, in its order; the states where there is no head."""
    found = []
    if output.nsp_logits is not None:
        found.append(output.nsp_logits.softmax(-1))
    elif output.pooled is not None:
        found.append(output.pooled)
    if output.lm_logits is not None:
        found.append(output.lm_logits.softmax(-1))
    return found or [output.sequence]


def compare_decoder(output: Output, tensors: dict[str, Tensor]) -> None:
    real = tensors["input_ids"] != 0
    assert output.encoder_sequence is not None and output.lm_logits is not None
    torch.testing.assert_close(output.encoder_sequence[real], tensors["encoder_output"][real], **NEAR)
    written = tensors["decoder_input_ids"] != 0
    written[:, 0] = True
    found = output.lm_logits.softmax(-1)[written]
    torch.testing.assert_close(found, tensors["decoder_output"][written], **NEAR)


@pytest.mark.parametrize(("name", "least"), [("t5_1_1", 0.1), ("mt5_1_1", 0.1), ("t5_1_0", 1e-6)])
@torch.no_grad()
def test_conventions_differ(name: str, least: float) -> None:
    """What publishers compute is not what bert4keras computes from these."""
    case = Case(name)
    tensors = case.tensors()
    inputs = {key: value.long() for key, value in tensors.items() if key.endswith("input_ids")}
    theirs, published = case.load(), case.load(changes={"convention": "standard"})
    gap = theirs(**inputs).lm_logits.softmax(-1) - published(**inputs).lm_logits.softmax(-1)
    assert gap.abs().max() > least


@torch.no_grad()
def test_cpm_means_the_tanh_form() -> None:
    """CPM's configs say gelu, which bert4keras takes for the erf form; every other GPT-2 means what it says."""
    case = Case("gpt2")
    ids = case.tensors()["input_ids"].long()
    word, published, converted = (
        load(case.folder, family=family, convention=convention)
        for family, convention in (("gpt2", None), ("cpm", None), ("cpm", "bert4keras"))
    )
    assert (word.config.activation, published.config.activation) == ("gelu", "gelu_tanh")
    assert torch.equal(word(ids).sequence, converted(ids).sequence)
    assert (word(ids).sequence - published(ids).sequence).abs().max() > 1e-5


@torch.no_grad()
def test_a_case_that_contradicts_itself() -> None:
    """albert_unshared's file holds one layer, its outputs come from another last one.

    The pooler is tanh(W x + b) with a square W, so x, the first token's state after the last norm, is known from
    the output. Undone by the gain and bias that the file holds for that norm, it must have mean 0 and variance 1.
    """
    case = Case(CONTRADICTORY)
    assert case.said["variables"] and not [name for name in case.said["variables"] if "group_1" in name]
    model, tensors = case.load(), case.tensors()
    bare = last_norm_undone(model, tensors["output_0"].double())
    assert (bare.mean(-1).abs() > 0.05).all() and (bare.var(-1, correction=0) > 1.05).all()
    own = model(tensors["input_ids"].long(), tensors["segment_ids"].long()).pooled.double()
    ours = last_norm_undone(model, own)
    torch.testing.assert_close(ours.mean(-1), torch.zeros(len(ours)).double(), rtol=0, atol=2e-3)
    torch.testing.assert_close(ours.var(-1, correction=0), torch.ones(len(ours)).double(), rtol=0, atol=2e-3)


def last_norm_undone(model: torch.nn.Module, pooled: Tensor) -> Tensor:
    dense, norm = model.pooler.dense.double(), model.stack.blocks[-1].feedforward_norm.double()
    states = torch.linalg.solve(dense.weight, (pooled.atanh() - dense.bias).T).T
    model.float()
    return (states - norm.bias) / norm.weight
