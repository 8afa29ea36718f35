"""Linear attention against its definition: similarities of all pairs, one row at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hanformer.decode import beam, greedy, prompt_lookup
from hanformer.decode.generate import generate
from hanformer.errors import UserError
from hanformer.mechanisms import Linear, Mechanism, Performer, Taylor
from hanformer.models import EncoderDecoder, Transformer, build
from hanformer.nn.attention.feature_maps import Cosine, DoubleSoftmax, Elu, FeatureMap, Monomials
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.linear import LinearAttention
from hanformer.nn.attention.linear_sums import Keys, causal, full, ratio
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.sparse_rules import Local
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM
from tests.harness import (
    EXACT,
    UncachedState,
    assert_all_close,
    check_model,
    flatten_rows,
    naive_visible,
    random_model,
    random_rows,
    rows_of,
    segment_pattern,
    tiny_config,
)

GOLDEN = {
    name: torch.from_numpy(value)
    for name, value in np.load(Path(__file__).parents[2] / "golden" / "linear_attention.npz").items()
}
RULES: tuple[Rule, ...] = (Full(), Causal(), UniLM())
RECORDS = (
    Linear(),
    Linear(features="cosine"),
    Linear(features="taylor"),
    Linear(features="taylor", order=4),
    Performer(features=12),
    Performer(features=11, kernel="relu", norms="stratified"),
)


def taylor(order: int) -> Callable[[Tensor, Tensor], Tensor]:
    def similarity(query: Tensor, key: Tensor) -> Tensor:
        product = query @ key.T / math.sqrt(query.shape[-1])
        return torch.stack([product**m / math.factorial(m) for m in range(order + 1)]).sum(0)

    return similarity


def elu(query: Tensor, key: Tensor) -> Tensor:
    query, key = (torch.where(x > 0, x + 1, x.exp()) for x in (query, key))
    return query @ key.T


def cosine(query: Tensor, key: Tensor) -> Tensor:
    return 1 + query @ key.T / (query.norm(dim=-1)[:, None] * key.norm(dim=-1)[None, :])


def double_softmax(query: Tensor, key: Tensor) -> Tensor:
    return query.softmax(-1) @ key.softmax(0).T


SIMILARITIES = {
    Linear(): elu,
    Linear(features="cosine"): cosine,
    Linear(features="taylor"): taylor(2),
    Linear(features="taylor", order=4): taylor(4),
    Linear(features="double_softmax"): double_softmax,
}


def attention(record: Linear | Performer | Taylor, **changes: object) -> LinearAttention:
    made = attention_of(tiny_config(attention=record, **changes)).double().eval()
    assert isinstance(made, LinearAttention)
    return made


def vectors(layout: Layout, heads: int = 2, groups: int = 2, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values."""
    return tuple(
        torch.randn(layout.total, count, size, dtype=torch.float64, requires_grad=True)
        for count in (heads, groups, groups)
    )


def naive(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule, similarity: object
) -> Tensor:
    """o_i = Σ_j sim(q_i, k_j) v_j / Σ_j sim(q_i, k_j) over what i sees: row by row, head by head."""
    parts = []
    lengths = list(layout.lengths)
    rows = zip(query.split(lengths), key.split(lengths), value.split(lengths), rows_of(layout), strict=True)
    for q, k, v, segments in rows:
        visible = naive_visible(rule, segments)
        heads = []
        for head in range(query.shape[1]):
            group = head * key.shape[1] // query.shape[1]
            alike = similarity(q[:, head], k[:, group]) * visible
            heads.append(alike / alike.sum(-1, keepdim=True) @ v[:, group])
        parts.append(torch.stack(heads, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("record", SIMILARITIES, ids=str)
def test_all_pairs(record: Linear, rule: Rule) -> None:
    """Values and gradients equal the definition, on ragged, empty and single-token rows, and within chunks."""
    if record.features == "double_softmax" and not rule.is_full:
        return
    lengths = (5, 1, 0, 17, 16, 0)
    segments = [segment_pattern(length, row) for row, length in enumerate(lengths)]
    layout = Layout.of(lengths, flatten_rows(segments))
    inputs, weights = vectors(layout), torch.randn(layout.total, 2, 8, dtype=torch.float64)
    found = attention(record).mix(*inputs, Pass(rule.bind(layout)))
    expected = naive(*inputs, layout, rule, SIMILARITIES[record])
    torch.testing.assert_close(found, expected, **EXACT)
    slopes = [torch.autograd.grad((x * weights).sum(), inputs) for x in (found, expected)]
    assert_all_close(*slopes)


@pytest.mark.parametrize("rule", [Causal(), UniLM()], ids=["causal", "unilm"])
def test_rows_longer_than_a_chunk(rule: Rule) -> None:
    """UniLM rows of a source and a target need no pairs at all; both kinds cross several chunks."""
    lengths = (200, 1, 64, 129)
    segments = flatten_rows([[int(place >= length // 3) for place in range(length)] for length in lengths])
    layout = Layout.of(lengths, segments)
    inputs = vectors(layout)
    made = attention(Linear())
    made._mix_pairs = None
    found = made.mix(*inputs, Pass(rule.bind(layout)))
    torch.testing.assert_close(found, naive(*inputs, layout, rule, elu), **EXACT)


def test_shared_key_heads() -> None:
    layout = Layout.of((6, 3))
    inputs = vectors(layout, 2, 1)
    found = attention(Linear(), key_value_heads=1).mix(*inputs, Pass(Causal().bind(layout)))
    torch.testing.assert_close(found, naive(*inputs, layout, Causal(), elu), **EXACT)


@pytest.mark.parametrize("record", [*RECORDS, Linear(features="double_softmax")], ids=str)
def test_returned_scores(record: Linear | Performer) -> None:
    """Where scores are asked for, they are weights: rows sum to 1, and give the output."""
    application = "encoder" if record == Linear(features="double_softmax") else "lm"
    model = random_model(tiny_config(attention=record, application=application, layers=1))
    ids, mask = torch.randint(23, (2, 6)), torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    plain, kept = model(ids, attention_mask=mask), model(ids, attention_mask=mask, attention_scores=True)
    torch.testing.assert_close(plain.sequence, kept.sequence, **EXACT)
    weights = kept.attention_scores[0]
    torch.testing.assert_close(weights.sum(-1), mask[:, None].double().expand(2, 2, 6), **EXACT)
    assert (weights >= 0).all() and not weights[1, :, :, 4:].any()
    assert application == "encoder" or not weights.triu(1).any()


@pytest.mark.parametrize("features", [Elu(), Cosine(), DoubleSoftmax()])
def test_similarities_are_never_negative(features: FeatureMap) -> None:
    query, key = torch.randn(2, 1, 1, 50, 8) * 3
    assert (features.query(query) @ features.key(key).mT >= -1e-6).all()


@pytest.mark.parametrize("order", [2, 4, 6])
def test_monomials(order: int) -> None:
    """C(D + n, n) features whose product is the polynomial of q·k, up to a factor for each query."""
    query, key = torch.randn(2, 7, 3, dtype=torch.float64)
    made = Monomials(3, order, scale=3**-0.5)
    alike = made.query(query) @ made.key(key).T
    assert made.key(key).shape[-1] == math.comb(3 + order, order)
    factor = query.div(3**0.25).abs().amax(-1, keepdim=True).clamp_min(1.0) ** order
    torch.testing.assert_close(alike * factor, taylor(order)(query, key), **EXACT)


def test_zero_vectors_have_a_cosine() -> None:
    features = Cosine().query(torch.zeros(3, dtype=torch.float64, requires_grad=True))
    assert features.tolist() == [1, 0, 0, 0]


def test_double_softmax_rows_sum_to_one_by_themselves() -> None:
    query, key = torch.randn(2, 1, 1, 9, 4, dtype=torch.float64)
    alike = DoubleSoftmax().query(query) @ DoubleSoftmax().key(key).mT
    torch.testing.assert_close(alike.sum(-1), torch.ones_like(alike[..., 0]), **EXACT)


class Given(FeatureMap):
    """Features that are given."""

    def query(self, x: Tensor) -> Tensor:
        return x

    def key(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("name", ["performer", "elu", "relu"])
def test_golden(name: str) -> None:
    """What performer-pytorch computes from the same features, full and causal."""
    value = GOLDEN["v"]
    if name == "performer":
        query, key = GOLDEN["feature_q"], GOLDEN["feature_k"]
    elif name == "elu":
        query, key = (torch.where(GOLDEN[x] > 0, GOLDEN[x] + 1, GOLDEN[x].exp()) for x in "qk")
    else:
        query, key = (((GOLDEN[x] * 8**-0.25) @ GOLDEN["projection"].T).relu() + 1e-3 for x in "qk")
    keys = Keys(Given(), key, value, None)
    # Its causal form adds 1e-6 to every sum of key features.
    epsilon = torch.zeros(2, 3, key.shape[-1], 16, dtype=torch.float64)
    epsilon[..., 8:] = 1e-6
    for found, expected in ((full(query, keys), "full"), (causal(query, keys, epsilon, chunk=4), "causal")):
        torch.testing.assert_close(found, GOLDEN[f"{name}_{expected}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2, 5, 13, 64])
def test_chunks_equal_the_recursion(chunk: int) -> None:
    """S_i = S_{i-1} + ϕ(k_i) v_iᵀ, written as it stands."""
    query, key, value = (torch.rand(2, 3, 13, 4, dtype=torch.float64) for _ in range(3))
    found = causal(query, Keys(Given(), key, value, None), chunk=chunk)
    state, normaliser = (
        torch.zeros(2, 3, 4, 4, dtype=torch.float64),
        torch.zeros(2, 3, 4, dtype=torch.float64),
    )
    for place in range(13):
        state = state + key[:, :, place, :, None] * value[:, :, place, None, :]
        normaliser = normaliser + key[:, :, place]
        above = (query[:, :, place, None, :] @ state).squeeze(-2)
        below = (query[:, :, place] * normaliser).sum(-1, keepdim=True)
        torch.testing.assert_close(found[:, :, place], above / below, **EXACT)


def test_nothing_seen_gives_zeros() -> None:
    assert not ratio(torch.zeros(2, 8), 3).any()


# ------------------------------------------------------------------------------------------- in models
@pytest.mark.parametrize(
    ("record", "application"),
    [
        (Linear(), "encoder"),
        (Linear(), "lm"),
        (Linear(), "unilm"),
        (Linear(features="taylor"), "unilm"),
        (Performer(features=12), "encoder"),
        (Performer(features=12), "lm"),
    ],
    ids=str,
)
def test_model(record: Linear | Performer, application: str) -> None:
    check_model(tiny_config(attention=record, application=application))


@pytest.mark.parametrize("record", [Linear(features="cosine"), RECORDS[-1]], ids=str)
def test_other_models(record: Linear | Performer) -> None:
    check_model(tiny_config(attention=record, application="lm", position="rotary", key_value_heads=1))


def test_double_softmax_model() -> None:
    check_model(tiny_config(attention=Linear(features="double_softmax")))


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_taylor_map_is_taylor_softmax(application: str, position: str) -> None:
    """The same function with features as with all pairs, under rotary positions too."""
    config = tiny_config(application=application, position=position, attention=Taylor(order=4))
    pairs, rows = random_model(config), random_rows(config, (9, 1, 4))
    sums = build(config.changed({"attention": Linear(features="taylor", order=4)})).double().eval()
    sums.load_state_dict(pairs.state_dict())
    for row in rows:
        ids, segments = torch.tensor(row.ids), torch.tensor(row.segments)
        torch.testing.assert_close(pairs(ids, segments).sequence, sums(ids, segments).sequence, **EXACT)


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_the_future_does_not_leak(record: Linear | Performer) -> None:
    """However extreme it is: what stands before it stays the same to the last bit."""
    model = attention(record, application="lm").float()
    layout = Layout.of((90,))
    query, key, value = (torch.randn(90, 2, 8) for _ in range(3))
    batch = Pass(Causal().bind(layout))
    expected = model.mix(query, key, value, batch)[:40]
    for extreme in (1e4, -1e4, 0.0):
        query[40:], key[40:], value[40:] = extreme, extreme, extreme
        assert torch.equal(model.mix(query, key, value, batch)[:40], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_half_precision_extremes(record: Linear | Performer, rule: Rule, dtype: torch.dtype) -> None:
    """Whatever half precision can hold as queries and keys, outputs and gradients are finite, and within the values."""
    model, layout = attention(record).float(), Layout.of((7, 1, 70))
    for factor in (6e4, 1e-3, 0.0, 30.0):
        query, key = ((torch.randn(78, 2, 8).clamp(-1, 1) * factor).to(dtype) for _ in range(2))
        value = torch.randn(78, 2, 8).to(dtype)
        query, key, value = (x.requires_grad_() for x in (query, key, value))
        found = model.mix(query, key, value, Pass(rule.bind(layout)))
        found.float().sum().backward()
        assert found.dtype == dtype and found.isfinite().all()
        assert found.abs().max() <= value.abs().max() * 1.02
        assert all(x.grad.isfinite().all() for x in (query, key, value))


def test_sums_are_made_in_float32() -> None:
    """In bf16 a sum stands still after 256 equal terms; so does one under autocast."""
    model, layout = attention(Linear()).float(), Layout.of((3000,))
    query = torch.ones(3000, 2, 8)
    value = torch.linspace(0, 1, 3000)[:, None, None].expand(3000, 2, 8)
    expected = torch.linspace(0, 0.5, 3000)
    for dtype in (torch.bfloat16, torch.float32):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            given = (x.to(dtype) for x in (query, query, value))
            found = model.mix(*given, Pass(Causal().bind(layout)))
        torch.testing.assert_close(found[:, 0, 0].float(), expected, rtol=0, atol=4e-3)


# ------------------------------------------------------------------------------------------- decoding
def start(record: Linear | Performer) -> tuple[Transformer, DecodingState]:
    model = random_model(tiny_config(attention=record, application="lm"))
    return model, model.prompt([[5, 6, 7], [8]])[1]


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_the_state_does_not_grow(record: Linear | Performer) -> None:
    model, state = start(record)
    features = {"elu": 8, "cosine": 9, "taylor": math.comb(8 + getattr(record, "order", 2), 8)}
    count = record.features if isinstance(record, Performer) else features[record.features]
    sums = 2 * 2 * 2 * count * 16 * 8  # layers, rows, heads, features, values with ones, bytes
    assert state.bytes() == sums
    for _ in range(5):
        model.step(torch.ones(2, 1, dtype=torch.int64), state)
        assert state.bytes() == sums + 2 * 2 * 2 * (count + 16) * 8  # and the last token
    assert model.prompt([[1] * 30, [2] * 30])[1].bytes() == sums


def test_the_last_step_can_be_taken_back() -> None:
    model = random_model(tiny_config(attention=Linear(), application="lm"))
    uncached = UncachedState(model, random_rows(model.config, (3, 2)))
    _, state = model.prompt(uncached.rows.ids, uncached.rows.segments)
    for count in (2, 4):
        new = torch.randint(23, (2, count))
        model.step(new, state)
        uncached.step(new)
    for length in (5, 3, 2):
        state.truncate(length)
        uncached.truncate(length)
    assert state.earliest == state.length == 2
    with pytest.raises(UserError, match="can go back to length 2, not to 1"):
        state.truncate(1)
    state.select(torch.tensor([1, 1, 0]))
    uncached.select([1, 1, 0])
    new = torch.randint(23, (3, 2))
    torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)


@pytest.mark.parametrize("record", [Linear(), Performer(features=12)], ids=str)
def test_generation_with_and_without_a_state(record: Linear | Performer) -> None:
    """Beam search over the state equals beam search over rows read anew; drafts change nothing."""
    model = random_model(tiny_config(attention=record, application="lm"))
    prompts = random_rows(model.config, (4, 2))

    def run(cached: bool, rule: object, draft: object = None) -> list[list[object]]:
        uncached = UncachedState(model, prompts)
        logits, state = model.prompt(prompts.ids, prompts.segments)
        step = model.step if cached else lambda tokens, state: state.step(tokens)
        return generate(
            step, state if cached else uncached, logits, rule=rule, end_id=2, maximum_length=7, draft=draft
        )

    beams = [run(cached, beam.Beam(3)) for cached in (True, False)]
    assert [[h.tokens for h in row] for row in beams[0]] == [[h.tokens for h in row] for row in beams[1]]
    draft = prompt_lookup.PromptLookup(prompts.ids)
    plain, drafted = run(True, greedy.Greedy()), run(True, greedy.Greedy(), draft)
    assert [row[0].tokens for row in plain] == [row[0].tokens for row in drafted]


def test_a_state_of_another_mechanism() -> None:
    _, state = start(Linear())
    other = random_model(tiny_config(application="lm"))
    with pytest.raises(UserError, match="expected a KeyValueCache, got a LinearState"):
        other.step(torch.ones(2, 1, dtype=torch.int64), state)


def test_encoder_decoder() -> None:
    """Self-attention is linear and causal in the decoder, and looking at the encoder stays softmax."""
    config = tiny_config(attention=Linear(), decoder_layers=2, position="rotary", layers=2, pad_id=None)
    model = EncoderDecoder(config).initialise().double().eval()
    rows, target = [[5, 6, 7], [8, 9]], torch.tensor([[0, 4, 5, 6], [0, 7, 8, 9]])
    whole = [
        model(torch.tensor([row]), decoder_input_ids=ids[None]).lm_logits[0]
        for row, ids in zip(rows, target, strict=True)
    ]
    logits, state = model.prompt(rows)
    torch.testing.assert_close(logits, torch.stack([row[0] for row in whole]), **EXACT)
    found = model.step(target[:, 1:], state)
    torch.testing.assert_close(found, torch.stack([row[1:] for row in whole]), **EXACT)
    assert state.bytes() > 0


# ------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        (Linear(), {"position": "relative_buckets"}, "no scores that positions 'relative_buckets'"),
        (Performer(), {"position": "relative_sinusoidal"}, "no scores that positions"),
        (Linear(), {"residual_attention": True}, "no scores to hand on"),
        (Linear(features="double_softmax"), {"application": "lm"}, "sees what comes later"),
        (Linear(features="double_softmax"), {"application": "unilm"}, "sees what comes later"),
        (Linear(features="double_softmax"), {"decoder_layers": 1}, "sees what comes later"),
        (Linear(features="taylor", order=8), {"attention_head_size": 64}, "is the most: take a lower order"),
    ],
)
def test_refusals(record: Linear | Performer, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(tiny_config(attention=record, **changes))


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (Linear, {"features": "rbf"}, "linear: features must be one of elu"),
        (Linear, {"order": 3}, "linear: order must be even"),
        (Linear, {"order": True}, "linear: order must be a whole number"),
        (Performer, {"features": 0}, "performer: features must be a whole number from 1"),
        (Performer, {"features": 10**9}, "from 1 to 65536"),
        (Performer, {"kernel": "sin"}, "performer: kernel must be one of softmax, relu"),
        (Performer, {"norms": "one"}, "performer: norms must be one of chi"),
        (Performer, {"redraw": -1}, "performer: redraw"),
        (Taylor, {"order": 1}, "taylor: order"),
    ],
)
def test_records(kind: type, values: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        kind(**values)


# ------------------------------------------------------------------------------------------- any rule
@pytest.mark.parametrize("rule", [Causal() & Local(2), Local(1), UniLM() & Local(3)], ids=repr)
@pytest.mark.parametrize("record", [Linear(), Performer(features=12), Linear(rotates="features")], ids=repr)
def test_a_rule_that_sums_do_not_know_is_honoured_by_pairs(record: Mechanism, rule: Rule) -> None:
    made = attention_of(tiny_config(attention=record, position="rotary")).double().eval()
    layout = Layout.of((9, 0, 4), torch.tensor([0] * 5 + [1] * 4 + [0, 1, 1, 1]))
    inputs = [torch.randn(13, 2, 8, dtype=torch.float64) for _ in range(3)]
    found, told = made.mix(*inputs, Pass(rule.bind(layout))), Pass(rule.bind(layout), keep=True)
    torch.testing.assert_close(found, made.mix(*inputs, told), **EXACT)
    hidden = ~rule.bind(layout).dense()[:, None].expand_as(told.weights[0])
    assert not told.weights[0][hidden].any()
    with pytest.raises(UserError, match="sums of fixed size cannot leave out"):
        made.state_kind(rule)


# ------------------------------------------------------------------------------------------- elu far below 0
@pytest.mark.parametrize("shift", [-10.0, -15.0, -30.0, -50.0])
def test_elu_keeps_its_digits(shift: float) -> None:
    """Products of features, up to the factor of each query, which nothing sees."""
    x = torch.randn(7, 8, generator=torch.Generator().manual_seed(0)) + shift
    torch.testing.assert_close(Elu().key(x).double(), x.double().exp(), rtol=1e-5, atol=0)
    query = Elu().query(x).double()
    torch.testing.assert_close(
        query / query.amax(-1, keepdim=True), (x.double() - x.amax(-1, keepdim=True)).exp()
    )


@pytest.mark.parametrize("value", [-18.0, -60.0, -1e4, -6e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_of_low_keys_is_seen(value: float, dtype: torch.dtype) -> None:
    made = attention_of(tiny_config(attention=Linear())).eval()
    keys, values = torch.full((3, 2, 8), value, dtype=dtype), torch.randn(3, 2, 8).to(dtype)
    found = made.mix(keys, keys, values, Pass(Full().bind(Layout.of((3,)))))
    torch.testing.assert_close(found, values.mean(0, keepdim=True).expand(3, -1, -1), rtol=2e-2, atol=2e-2)


def test_slopes_of_elu() -> None:
    x = torch.linspace(-40, 3, 60, dtype=torch.float64).reshape(6, 10).requires_grad_()
    assert torch.autograd.gradcheck(Elu().key, x) and torch.autograd.gradgradcheck(Elu().key, x)
    slopes = torch.func.grad(lambda given: Elu().key(given).sum())(x.detach())
    torch.testing.assert_close(slopes, x.detach().clamp_max(0).exp())
