"""The gated attention unit: against its formula, its normalisers, and the harness."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import GatedUnit
from hanformer.models import build, load, save
from hanformer.models.checkpoint import CONFIG_FILE
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.saving import WEIGHTS_FILE
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.gated_unit import NORMALISERS, GatedUnitAttention, softmax_plus, squared_relu
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.state import Opening
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import rotary_table, rotate
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM
from tests.harness import (
    EXACT,
    check_cached_decoding,
    check_empty_rows,
    check_gradients,
    check_half_precision,
    check_model,
    check_packing,
    check_padding,
    check_save_and_load,
    jacobian_pattern,
    naive_visible,
    patterned_layout,
    random_model,
    random_rows,
    rows_of,
    tiny_config,
)


def config_of(normaliser: str = "squared_relu", **changes: object) -> ModelConfig:
    values = {"attention": GatedUnit(normaliser, key_size=6), "activation": "silu", "position": "rotary"}
    return tiny_config(**{**values, **changes})


def naive_normaliser(name: str, logits: Tensor, visible: Tensor) -> Tensor:
    """Each row by the definition, over its visible keys alone."""
    weights = torch.zeros_like(logits)
    for row, seen in enumerate(visible):
        own, count = logits[row, seen], int(seen.sum())
        if name == "squared_relu":
            weights[row, seen] = own.clamp(min=0) ** 2 / count
        else:
            factor = math.log(max(count, 16)) / math.log(512) if name == "softmax_plus" else 1.0
            weights[row, seen] = (own * factor).softmax(-1)
    return weights


@pytest.mark.parametrize("rule", [Full(), Causal(), UniLM()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_by_hand(normaliser: str, rule: Rule) -> None:
    layer = attention_of(config_of(normaliser)).double().eval()
    assert isinstance(layer, GatedUnitAttention)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    layout = patterned_layout((5, 1, 0, 20))
    x = torch.randn(layout.total, 16, dtype=torch.float64)
    expected = [
        naive_unit(layer, normaliser, row, naive_visible(rule, segments))
        for row, segments in zip(x.split(list(layout.lengths)), rows_of(layout), strict=True)
    ]
    torch.testing.assert_close(layer(x, Pass(rule.bind(layout))), torch.cat(expected), **EXACT)


def naive_unit(layer: GatedUnitAttention, normaliser: str, x: Tensor, visible: Tensor) -> Tensor:
    """W_o (u ⊙ A v) of one row."""
    weights = layer.state_dict()

    def part(name: str) -> Tensor:
        y = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return y * y.sigmoid()

    table = rotary_table(torch.arange(len(x)), 6, dtype=torch.float64)
    shared, offsets = part("shared"), weights["offset_bias"].view(2, 6)
    query, key = (
        rotate((shared * weights["gains.weight"][i] + offsets[i])[:, None], table)[:, 0] for i in range(2)
    )
    mixed = naive_normaliser(normaliser, query @ key.T / 6**0.5, visible) @ part("value")
    return (part("gate") * mixed) @ weights["output.weight"].T + weights["output.bias"]


@pytest.mark.parametrize(
    "changes",
    [
        {"normaliser": "softmax", "application": "lm", "norm_place": "pre"},
        {"normaliser": "softmax_plus", "application": "unilm"},
        {"normaliser": "softmax", "position": "alibi", "attention_heads": 1, "residual_attention": True},
        {
            "normaliser": "softmax_plus",
            "position": "relative_buckets",
            "attention_heads": 1,
            "application": "lm",
        },
        {
            "normaliser": "softmax",
            "biases": "none",
            "norm": "rms",
            "position": "learned",
            "share_layers": True,
        },
    ],
    ids=str,
)
def test_harness(changes: dict[str, object]) -> None:
    check_model(config_of(**changes))


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
def test_harness_where_weights_may_be_zero(application: str) -> None:
    """Everything but the pattern of the Jacobian, which is within the rule instead of equal to it."""
    config = config_of(application=application)
    for check in (
        check_packing,
        check_padding,
        check_empty_rows,
        check_gradients,
        check_half_precision,
        check_save_and_load,
    ):
        check(config)
    if application != "encoder":
        check_cached_decoding(config)
    model = random_model(config.changed({"layers": 1}), ())
    layout = random_rows(config, (8, 1, 6)).layout
    allowed = torch.block_diag(*(naive_visible(model.rule, row) for row in rows_of(layout))).bool()
    found = jacobian_pattern(model, layout)
    others = found & ~torch.eye(layout.total, dtype=torch.bool)
    assert not (found & ~allowed).any() and others.any()


def test_a_layer_is_the_unit_alone() -> None:
    model = build(config_of())
    names = {name.split(".")[3] for name in model.state_dict() if name.startswith("stack.blocks.0.")}
    assert names == {"attention", "attention_norm"}


def test_normalisers_of_hidden_rows_and_extremes() -> None:
    hidden = torch.full((2, 5), -torch.inf)
    for normalise in NORMALISERS.values():
        assert not normalise(hidden).any()
        for dtype in (torch.float16, torch.bfloat16):
            found = normalise(torch.tensor([[6e4, -6e4, 0.0]], dtype=dtype))
            wide = normalise is squared_relu and dtype == torch.float16
            assert found.dtype == (torch.float32 if wide else dtype) and found.isfinite().all()
    assert squared_relu(torch.tensor([2.0, -3.0, -torch.inf, 1.0])).tolist() == pytest.approx(
        [4 / 3, 0, 0, 1 / 3]
    )


@pytest.mark.parametrize("automatic", [False, True])
def test_weights_beyond_float16(automatic: bool) -> None:
    """Logits of a thousand: weights are beyond 65,504, and what comes of them is not; decoding gives the same."""
    exact = attention_of(config_of(application="lm", position="none", biases="none")).double().eval()
    assert isinstance(exact, GatedUnitAttention)
    with torch.no_grad():
        for weight in exact.parameters():
            weight.normal_()
        exact.gains.weight.copy_(torch.full_like(exact.gains.weight, 20.0))
        exact.value.weight.mul_(1e-4)
    half = copy.deepcopy(exact).half()
    exact.load_state_dict(half.state_dict())
    layer = half.float() if automatic else half
    hidden = torch.randn(7, exact.shared.in_features).half()
    given, context = (
        hidden.to(next(layer.parameters()).dtype),
        torch.autocast("cpu", torch.float16, enabled=automatic),
    )
    cache = KeyValueCache(Opening(Causal(), Layout.of((6,)), layers=1, segment=0))
    with torch.no_grad():
        query, key, _ = exact.project(hidden.double())
        assert (query[:, 0] @ key[:, 0].T * exact.scale).amax() ** 2 / len(hidden) > 2 * 65504
        expected = exact(hidden.double(), Pass(Causal().bind(Layout.of((7,)))))
        with context:
            found = layer(given, Pass(Causal().bind(Layout.of((7,)))))
            layer.remember(given[:6], Pass(Causal().bind(Layout.of((6,)))), cache, 0)
            cache.begin(1)
            last = layer.extend(given[6:], cache, 0)
    assert found.dtype == torch.float16 and expected.abs().max() < 65504
    largest = float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.01 * largest)
    torch.testing.assert_close(last.double(), expected[6:], rtol=0.02, atol=0.01 * largest)


def test_a_gate_brings_back_what_float16_could_not_hold() -> None:
    """What is mixed is beyond 65,504, and what comes through the gate is not."""
    unit = attention_of(config_of(position="none", biases="none")).half().eval()
    assert isinstance(unit, GatedUnitAttention)
    torch.nn.init.constant_(unit.gate.weight, 1e-4)
    mixed = torch.full((3, unit.gate.out_features), 1e6)
    hidden = torch.randn(3, unit.gate.in_features).half()
    with torch.no_grad():
        found = unit._gated(hidden, mixed)
        exact = unit.double()._gated(hidden.double(), mixed.double())
    assert found.dtype == torch.float16 and 0 < exact.abs().max() < 65504
    torch.testing.assert_close(found.double(), exact, rtol=0.05, atol=0.02 * float(exact.abs().max()))


def test_softmax_plus_is_softmax_at_512_keys_and_flatter_below() -> None:
    logits = torch.randn(512, dtype=torch.float64)
    torch.testing.assert_close(softmax_plus(logits), logits.softmax(-1), **EXACT)
    few = torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(softmax_plus(few), (few * math.log(16) / math.log(512)).softmax(-1), **EXACT)


def test_what_a_row_does_not_see_changes_nothing() -> None:
    """The number of keys is that of the row itself: the length of others does not leak."""
    for normaliser in NORMALISERS:
        model = random_model(config_of(normaliser, application="lm"), ())
        short, long = (model(torch.arange(3, 3 + size)[None]).sequence[0] for size in (4, 20))
        torch.testing.assert_close(short, long[:4], **EXACT)


def test_a_published_model_takes_it(tmp_path: Path) -> None:
    """Values are wider in a gated unit: they are new, as the gate is, and everything around it is kept."""
    plain = random_model(tiny_config(), ("lm",), torch.float32)
    save(plain, tmp_path)
    with pytest.warns(UserWarning, match=r"left out.*attention\.value\.bias(.|\n)*new, with initial.*gate"):
        model = load(tmp_path, attention=GatedUnit(key_size=4))
    assert torch.equal(model.embeddings.token.weight, plain.embeddings.token.weight)
    assert torch.equal(
        model.stack.blocks[0].attention_norm.weight, plain.stack.blocks[0].attention_norm.weight
    )
    assert model(torch.tensor([[3, 4]])).lm_logits.isfinite().all()


def test_a_damaged_file_is_refused_whatever_mechanism_takes_it(tmp_path: Path) -> None:
    save(random_model(tiny_config(), ("lm",), torch.float32), tmp_path)
    for name, said in (
        ("embeddings.token.weight", "missing"),
        ("stack.blocks.0.attention_norm.weight", "wrong"),
    ):
        weights = load_file(tmp_path / WEIGHTS_FILE)
        kept = {key: value for key, value in weights.items() if key != name or said == "wrong"}
        if said == "wrong":
            kept[name] = kept[name][1:].clone()
        (tmp_path / said).mkdir()
        save_file(kept, tmp_path / said / WEIGHTS_FILE)
        (tmp_path / said / CONFIG_FILE).write_text((tmp_path / CONFIG_FILE).read_text())
        with pytest.raises(UserError, match=f"{said}.*{name}"):
            load(tmp_path / said, attention=GatedUnit(key_size=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": "relative_sinusoidal"}, "wider in a gated unit"),
        ({"position": "alibi"}, "one head, and alibi.*each of 2; set attention_heads=1"),
        ({"position": "relative_buckets"}, "one head"),
        ({"norm_place": "feedforward"}, "norms at post, pre, not at 'feedforward'"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(config_of(**changes))


def test_other_refusals() -> None:
    with pytest.raises(UserError, match="one stack"):
        EncoderDecoder(config_of(decoder_layers=1))
    with pytest.raises(
        UserError, match="normaliser must be one of squared_relu, softmax, softmax_plus, got 'relu'"
    ):
        GatedUnit("relu")
    with pytest.raises(UserError, match="key_size"):
        GatedUnit(key_size=0)
