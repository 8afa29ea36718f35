"""Rotary positions on features, in the numerator alone: the definition row by row, and every check of a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.mechanisms import Linear, Performer
from hanformer.models import build
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.linear_turned import TurnedLinearAttention, TurnedPerformerAttention
from hanformer.nn.attention.passing import Pass
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import rotary_table, rotate, rotate_halves
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM
from tests.harness import (
    EXACT,
    assert_all_close,
    check_cached_decoding,
    check_model,
    flatten_rows,
    naive_visible,
    random_model,
    rows_of,
    segment_pattern,
    tiny_config,
)

ELU, TAYLOR = Linear(rotates="features"), Linear(features="taylor", rotates="features")
PERFORMER = Performer(features=12, rotates="features")
STRATIFIED = Performer(features=12, norms="stratified", rotates="features")
#: An even number of monomials of degree two: C(6 + 2, 2) = 28.
SIZES = {"attention_key_size": 6}


def attention(
    record: Linear | Performer, position: str = "rotary", **changes: object
) -> TurnedLinearAttention:
    made = attention_of(tiny_config(attention=record, position=position, **changes)).double().eval()
    assert isinstance(made, TurnedLinearAttention)
    return made


def features(made: TurnedLinearAttention, x: Tensor, of_query: bool) -> Tensor:
    """φ as defined: e^(ω·x − |x|²/2) of a Performer, with no factor that cancels only where nothing turns."""
    if isinstance(made, TurnedPerformerAttention):
        x = x * made.scale**0.5
        return (x @ made.projection.mT - x.square().sum(-1, keepdim=True) / 2).exp()
    return made.feature_map().query(x) if of_query else made.feature_map().key(x)


def naive(
    made: TurnedLinearAttention, given: tuple[Tensor, ...], layout: Layout, rule: Rule, turn: object
) -> Tensor:
    """o_i = Σ_j (R_i φ(q_i))·(R_j ϕ(k_j)) v_j / Σ_j φ(q_i)·ϕ(k_j): row by row, head by head, pair by pair."""
    parts, lengths = [], list(layout.lengths)
    rows = zip(*(x.split(lengths) for x in given), rows_of(layout), strict=True)
    for query, key, value, segments in rows:
        visible, heads = naive_visible(rule, segments), []
        for head in range(query.shape[1]):
            group = head * key.shape[1] // query.shape[1]
            own, keys = features(made, query[:, head], True), features(made, key[:, group], False)
            table = rotary_table(torch.arange(len(segments)), own.shape[-1], dtype=own.dtype)
            above = turn(own[:, None], table)[:, 0] @ turn(keys[:, None], table)[:, 0].T * visible
            below = (own @ keys.T * visible).sum(-1, keepdim=True)
            heads.append(above / below @ value[:, group])
        parts.append(torch.stack(heads, 1))
    return torch.cat(parts)


def vectors(layout: Layout, groups: int, size: int) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(layout.total, count, width, dtype=torch.float64, requires_grad=True)
        for count, width in ((2, size), (groups, size), (groups, 8))
    )


@pytest.mark.parametrize(("position", "turn"), [("rotary", rotate), ("rotary_halves", rotate_halves)])
@pytest.mark.parametrize("rule", [Full(), Causal(), UniLM()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("record", [ELU, TAYLOR, PERFORMER, STRATIFIED], ids=str)
def test_definition(record: Linear | Performer, rule: Rule, position: str, turn: object) -> None:
    """Values and gradients, on ragged, empty and single-token rows, and on rows of several chunks."""
    for lengths in ((5, 1, 0, 17, 16, 0), (150, 1, 64)):
        segments = flatten_rows([segment_pattern(length, row) for row, length in enumerate(lengths)])
        layout = Layout.of(lengths, segments)
        for groups in (2, 1):
            made = attention(record, position, key_value_heads=groups, **SIZES)
            given, pull = vectors(layout, groups, 6), torch.randn(layout.total, 2, 8, dtype=torch.float64)
            found = made.mix(*given, Pass(rule.bind(layout)))
            expected = naive(made, given, layout, rule, turn)
            torch.testing.assert_close(found, expected, **EXACT)
            slopes = [torch.autograd.grad((x * pull).sum(), given) for x in (found, expected)]
            assert_all_close(*slopes)


def test_a_shift_of_all_positions_changes_nothing() -> None:
    made, lengths = attention(ELU), (9,)
    layout = Layout.of(lengths)
    later = Layout(lengths, layout.positions + 1000, layout.segments)
    given = vectors(layout, 2, 8)
    found = [made.mix(*given, Pass(Causal().bind(each))) for each in (layout, later)]
    torch.testing.assert_close(*found, **EXACT)


def test_kept_weights_give_the_output_and_may_be_negative() -> None:
    made, layout = attention(ELU), Layout.of((30, 4))
    given = vectors(layout, 2, 8)
    batch = Pass(Causal().bind(layout), keep=True)
    found = made.mix(*given, batch)
    torch.testing.assert_close(found, made.mix(*given, Pass(Causal().bind(layout))), **EXACT)
    weights = batch.weights[0]
    assert weights.shape == (2, 2, 30, 30) and not weights.triu(1).any() and not weights[1, :, 4:].any()
    torch.testing.assert_close(
        (weights[0] @ given[2][:30].transpose(0, 1)).transpose(0, 1), found[:30], **EXACT
    )
    assert (weights < 0).any()


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("record", [ELU, PERFORMER], ids=str)
def test_model(record: Linear | Performer, application: str) -> None:
    check_model(tiny_config(attention=record, position="rotary", application=application))


def test_decoding_with_shared_key_heads() -> None:
    check_cached_decoding(
        tiny_config(attention=TAYLOR, position="rotary_halves", application="lm", key_value_heads=1, **SIZES)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    made, layout = attention(ELU).to(dtype), Layout.of((7, 1, 70))
    given = [
        (x.detach().clamp(-1, 1) * factor).to(dtype)
        for x, factor in zip(vectors(layout, 2, 8), (6e4, 6e4, 1), strict=True)
    ]
    found = made.mix(*given, Pass(Causal().bind(layout)))
    assert found.dtype == dtype and found.isfinite().all()


@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        (ELU, {"position": "none"}, "set position=rotary, or rotates=inputs"),
        (ELU, {"position": "learned"}, "turns features by rotary positions"),
        (Linear(features="cosine", rotates="features"), {}, "cosine has a feature beside the 8 of a head"),
        (Performer(features=11, rotates="features"), {}, "11 features, and positions turn pairs"),
        (Linear(features="double_softmax", rotates="features"), {}, "over the whole row"),
    ],
)
def test_refusals(record: Linear | Performer, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(tiny_config(attention=record, **{"position": "rotary", **changes}))
    with pytest.raises(UserError, match="rotates must be one of inputs, features"):
        Linear(rotates="sums")


def test_a_performer_counts_its_passes() -> None:
    made = attention_of(tiny_config(attention=PERFORMER, position="rotary"))
    assert isinstance(made, TurnedPerformerAttention)
    random_model(tiny_config(attention=PERFORMER, position="rotary")).train()(
        torch.ones(1, 3, dtype=torch.int64)
    )
    made.train().begin_pass()
    assert made.passes.sum() == 1
