"""Synthesizer: against its formulas, its limits, and the harness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.decode import Beam, generate
from hanformer.errors import UserError
from hanformer.mechanisms import SYNTHESIZER_KINDS, Synthesizer
from hanformer.models import build, load, save
from hanformer.models.padded import PaddedTransformer
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.synthesizer import SynthesizerAttention
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM
from tests.harness import (
    EXACT,
    Rows,
    UncachedState,
    check_model,
    naive_visible,
    patterned_layout,
    random_model,
    random_rows,
    rows_of,
    run_packed,
    tiny_config,
)

GOLDEN = Path(__file__).parents[2] / "golden"
LENGTHS = (5, 1, 0, 7, 7)


def config_of(kind: str, dot_product: str = "none", **changes: object) -> ModelConfig:
    options = {"factor": 4} if "factorised_dense" in kind else {}
    record = Synthesizer(kind, dot_product, rank=3, **options)
    return tiny_config(attention=record, max_positions=12, biases="all", **changes)


def attention(config: ModelConfig) -> SynthesizerAttention:
    """One layer with random weights and no dropout."""
    torch.manual_seed(3)
    layer = attention_of(config).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    assert isinstance(layer, SynthesizerAttention)
    return layer


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


# ------------------------------------------------------------------------------- written out by hand
def columns(
    x: Tensor, weights: dict[str, Tensor], head: int, name: str, heads: int = 2, size: int = 8
) -> Tensor:
    """relu(x W₁ + b₁) W₂ + b₂ of one head."""
    own = slice(head * size, (head + 1) * size)
    inner = linear(x, weights, f"{name}.first")[:, own].clamp(min=0)
    second = weights[f"{name}.second.weight"]
    bias = weights[f"{name}.second_bias"].view(heads, len(second))[head]
    return inner @ second[:, own].T + bias


def naive_logits(kind: str, x: Tensor, weights: dict[str, Tensor], head: int, part: int) -> Tensor:
    """B of one row of tokens x [n, C], entry by entry where that is the definition: [n, n]."""
    name, count = f"written.{part}", len(x)
    if kind == "dense":
        return columns(x, weights, head, f"{name}.columns")[:, :count]
    if kind == "factorised_dense":
        inner = columns(x, weights, head, f"{name}.inner")
        outer = columns(x, weights, head, f"{name}.outer")
        width = inner.shape[1]
        entries = [[inner[i, j % width] * outer[i, j // width] for j in range(count)] for i in range(count)]
        return torch.tensor(entries, dtype=x.dtype).view(count, count)
    if kind == "factorised_random":
        sides = (weights[f"{name}.{side}.weight"].unflatten(1, (2, -1)) for side in ("left", "right"))
        left, right = (side[:count, head] for side in sides)
        return left @ right.T
    fixed = kind == "fixed_random"
    table = weights[f"{name}.table"] / 0.02 if fixed else weights[f"{name}.table.weight"]
    return table.unflatten(1, (2, -1))[:count, head, :count]


def naive(config: ModelConfig, layer: SynthesizerAttention, x: Tensor, visible: Tensor) -> Tensor:
    """The whole layer on one row, head by head."""
    options, weights = config.attention, layer.state_dict()
    assert isinstance(options, Synthesizer)
    shares = weights.get("mixture_bias", torch.zeros(1).double()).softmax(0)
    outputs = []
    for head in range(2):
        own = slice(head * 8, (head + 1) * 8)
        logits = sum(
            share * naive_logits(kind, x, weights, head, part)
            for part, (kind, share) in enumerate(zip(options.kinds_asked, shares, strict=True))
        )
        if options.dot_product != "none":
            query, key = (linear(x, weights, name)[:, own] for name in ("query", "key"))
            gate = weights["alpha_bias"].sigmoid() if options.dot_product == "plus_alpha" else None
            compared = query @ key.T / 8**0.5
            logits = logits + compared if gate is None else gate * logits + (1 - gate) * compared
        outputs.append(
            logits.masked_fill(~visible, -torch.inf).softmax(-1) @ linear(x, weights, "value")[:, own]
        )
    return linear(torch.cat(outputs, -1), weights, "output")


KINDS = [*SYNTHESIZER_KINDS, "dense+random", "factorised_dense+fixed_random+factorised_random"]


@pytest.mark.parametrize("rule", [Full(), Causal(), UniLM()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("dot_product", ["none", "plus", "plus_alpha"])
@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind: str, dot_product: str, rule: Rule) -> None:
    config = config_of(kind, dot_product)
    layer, layout = attention(config), patterned_layout(LENGTHS)
    x = torch.randn(layout.total, 16, dtype=torch.float64)
    found = layer(x, Pass(rule.bind(layout)))
    rows = zip(x.split(list(LENGTHS)), rows_of(layout), strict=True)
    expected = [
        naive(config, layer, row, naive_visible(rule, segments)) for row, segments in rows if len(row)
    ]
    torch.testing.assert_close(found, torch.cat(expected), **EXACT)


# ------------------------------------------------------------------------------------ the harness
@pytest.mark.parametrize(
    ("kind", "dot_product", "changes"),
    [
        ("dense", "none", {"application": "lm"}),
        ("random", "none", {"application": "unilm", "norm_place": "pre"}),
        ("fixed_random", "none", {"application": "lm", "position": "alibi"}),
        ("factorised_dense", "plus", {"application": "lm", "position": "rotary"}),
        ("factorised_random", "none", {"position": "relative_buckets", "key_value_heads": 1}),
        ("dense+random", "plus_alpha", {"application": "unilm", "position": "relative_sinusoidal"}),
        ("random", "plus", {"application": "lm", "residual_attention": True, "share_layers": True}),
    ],
)
def test_harness(kind: str, dot_product: str, changes: dict[str, object]) -> None:
    check_model(config_of(kind, dot_product, **changes).changed({"max_positions": 24}))


@pytest.mark.parametrize("kind", ["dense", "random+factorised_dense"])
def test_beams_with_a_cache_are_beams_without(kind: str) -> None:
    model = random_model(config_of(kind, "plus", application="lm").changed({"max_positions": 20}))
    prompts = [[1, 5, 6, 7, 2], [1, 9, 2], [4]]
    logits, state = model.prompt(prompts)
    rule = Beam(4, results=3)
    fast = generate(model.step, state, logits, rule=rule, end_id=2, maximum_length=6)
    slow = UncachedState(model, Rows(prompts, [[0] * len(prompt) for prompt in prompts]))
    slow.select = _on_lists(slow.select)  # type: ignore[method-assign]
    naive = generate(
        lambda tokens, state: state.step(tokens),
        slow,
        slow.logits(1)[:, 0],
        rule=rule,
        end_id=2,
        maximum_length=6,
    )
    for ours, theirs in zip(fast, naive, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-9)


def _on_lists(select: Callable[..., None]) -> Callable[..., None]:
    return lambda rows: select(rows.tolist())


def test_the_state_holds_values_and_keys_where_there_are_any() -> None:
    sizes = []
    for dot_product in ("none", "plus"):
        model = random_model(config_of("dense", dot_product, application="lm"))
        _, state = model.prompt([[3, 4, 5]])
        model.step(torch.tensor([[6, 7]]), state)
        sizes.append(state.bytes())
    assert sizes == [2 * 5 * 16 * 8, 2 * 2 * 5 * 16 * 8]  # layers · tokens · channels · bytes


# ---------------------------------------------------------------------------------- what it must be
def logits_of(layer: SynthesizerAttention, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """B of the packed tokens: [T, H, width]."""
    query, key, _ = layer.project(x)
    return layer.place(query, key, patterned_layout(lengths))[0]


@pytest.mark.parametrize("kind", ["dense", "factorised_dense"])
def test_a_row_of_logits_knows_its_own_token_alone(kind: str) -> None:
    layer = attention(config_of(kind))
    x = torch.randn(6, 16, dtype=torch.float64, requires_grad=True)
    for token, row in enumerate(logits_of(layer, x, (6,))):
        gradient = torch.autograd.grad(row.square().sum(), x, retain_graph=True)[0]
        assert gradient[token].any() and not gradient[torch.arange(6) != token].any()


@pytest.mark.parametrize("kind", ["random", "fixed_random", "factorised_random"])
def test_random_logits_are_the_same_for_every_text(kind: str) -> None:
    layer = attention(config_of(kind))
    first, second = logits_of(layer, torch.randn(12, 16).double(), (6, 6)).chunk(2)
    assert torch.equal(first, second)


def test_random_is_linear_in_the_tokens() -> None:
    layer, layout = attention(config_of("random")), patterned_layout((6,))
    x, y = torch.randn(2, 6, 16, dtype=torch.float64).unbind(0)

    def mixed(z: Tensor) -> Tensor:
        return layer(z, Pass(Full().bind(layout)))

    torch.testing.assert_close(mixed(2 * x + 3 * y), 2 * mixed(x) + 3 * mixed(y) - 4 * mixed(0 * x), **EXACT)


def test_every_pair_of_factors_stands_in_one_column() -> None:
    """With one-hot factors the product is one-hot, and every column comes from another pair."""
    layer = attention(config_of("factorised_dense"))
    part = layer.written[0]
    with torch.no_grad():
        for factor in (part.inner, part.outer):
            factor.first.weight.zero_()
            factor.second.weight.zero_()
    seen = []
    for inner in range(4):
        for outer in range(3):
            with torch.no_grad():
                for factor, place in ((part.inner, inner), (part.outer, outer)):
                    factor.second_bias.copy_(torch.eye(factor.second.num_embeddings)[place].repeat(2))
            row = part.write(torch.zeros(1, 2, 16).double(), torch.zeros(1, dtype=torch.int64), 12)[0, 0]
            assert row.sum() == 1 and row.max() == 1
            seen.append(int(row.argmax()))
    assert sorted(seen) == list(range(12))


def test_a_factorised_row_has_rank_one() -> None:
    layer = attention(config_of("factorised_dense"))
    part, x = layer.written[0], torch.randn(5, 16, dtype=torch.float64)
    rows = part.write(part.read(x), torch.arange(5), 12).unflatten(-1, (3, 4))
    values = torch.linalg.svdvals(rows)
    assert (values[..., 1] < 1e-12 * values[..., 0]).all() and (values[..., 0] > 0).all()


def test_a_factorised_table_of_full_rank_is_any_table() -> None:
    config = config_of("factorised_random").changed({"attention": Synthesizer("factorised_random", rank=12)})
    part = attention(config).written[0]
    wanted = torch.randn(2, 12, 12, dtype=torch.float64)
    left, values, right = torch.linalg.svd(wanted)
    with torch.no_grad():
        part.left.weight.copy_((left * values[:, None]).transpose(0, 1).flatten(1))
        part.right.weight.copy_(right.transpose(1, 2).transpose(0, 1).flatten(1))
    written = part.write(torch.zeros(12, 2, 0), torch.arange(12), 12)
    torch.testing.assert_close(written, wanted.transpose(0, 1), **EXACT)


def test_dense_can_write_any_row() -> None:
    """With W₁ and W₂ the identity, positive tokens are their own logits."""
    config = config_of("dense").changed({"attention_heads": 1, "max_positions": 16})
    layer = attention(config)
    with torch.no_grad():
        for name, parameter in layer.written[0].named_parameters():
            parameter.copy_(torch.eye(16) if parameter.dim() == 2 else torch.zeros(16))
            assert name.startswith("columns")
    x = torch.rand(16, 16, dtype=torch.float64)
    torch.testing.assert_close(logits_of(layer, x, (16,))[:, 0], x, **EXACT)


def test_a_mixture_of_one_is_that_one() -> None:
    layer = attention(config_of("dense+random"))
    x = torch.randn(6, 16, dtype=torch.float64)
    for part in range(2):
        with torch.no_grad():
            layer.mixture_bias.copy_(torch.tensor([-1e4, -1e4]).index_fill(0, torch.tensor(part), 0.0))
        own = layer.written[part]
        expected = own.write(own.read(x), torch.arange(6), 6)
        torch.testing.assert_close(logits_of(layer, x, (6,)), expected, **EXACT)


def test_limits_of_alpha_and_of_an_empty_table() -> None:
    """plus with R = 0 is ordinary attention; so is plus_alpha at −∞, and at +∞ it is the synthesizer alone."""
    layout = patterned_layout(LENGTHS)
    x, rule = torch.randn(layout.total, 16, dtype=torch.float64), Causal()
    plus, gated = attention(config_of("random", "plus")), attention(config_of("random", "plus_alpha"))
    ordinary = SoftmaxAttention(tiny_config(max_positions=12)).double().eval()
    alone = attention(config_of("random"))

    def run(layer: SoftmaxAttention) -> Tensor:
        return layer(x, Pass(rule.bind(layout)))

    for layer in (ordinary, alone):
        layer.load_state_dict(gated.state_dict(), strict=False)
    with torch.no_grad():
        gated.alpha_bias.fill_(-1e4)
        torch.testing.assert_close(run(gated), run(ordinary), **EXACT)
        gated.alpha_bias.fill_(1e4)
        torch.testing.assert_close(run(gated), run(alone), **EXACT)
        ordinary.load_state_dict(plus.state_dict(), strict=False)
        plus.written[0].table.weight.zero_()
        torch.testing.assert_close(run(plus), run(ordinary), **EXACT)


def test_given_positions_choose_rows_and_columns() -> None:
    model = random_model(config_of("random", position="none"), ())
    ids, places = torch.tensor([[5, 6, 7]]), torch.tensor([[4, 0, 9]])
    found = model(ids, position_ids=places).sequence
    with torch.no_grad():
        for block in model.stack.blocks:
            table = block.attention.written[0].table.weight
            moved = table.clone().unflatten(1, (2, 12))
            moved[:3, :, :3] = table.unflatten(1, (2, 12))[places[0]][:, :, places[0]]
            table.copy_(moved.flatten(1))
    torch.testing.assert_close(found, model(ids).sequence, **EXACT)


# ----------------------------------------------------------------------------------- fixed tables
def test_a_fixed_table_is_drawn_saved_and_not_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = config_of("fixed_random").changed({"max_positions": 40})
    model, other = build(config), build(config)
    tables = [block.attention.written[0].table for block in (*model.stack.blocks, *other.stack.blocks)]
    assert not any(torch.equal(tables[0], table) for table in tables[1:])
    assert float(tables[0].std() / 0.02) == pytest.approx(1, rel=0.05)
    assert not [name for name, _ in model.named_parameters() if "written" in name]
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded.stack.blocks[1].attention.written[0].table, tables[1])
    assert torch.equal(
        load(tmp_path)(torch.tensor([[3, 4]])).sequence, model.eval()(torch.tensor([[3, 4]])).sequence
    )


@pytest.mark.parametrize("kind", ["fixed_random", "dense+random"])
def test_a_published_model_takes_it(kind: str, tmp_path: Path) -> None:
    plain = random_model(tiny_config(), ("lm",), torch.float32)
    save(plain, tmp_path)
    with pytest.warns(UserWarning, match="written"):
        model = load(tmp_path, attention=Synthesizer(kind, "plus_alpha"))
    state, kept = model.state_dict(), plain.state_dict()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    fresh = {name: value for name, value in state.items() if name not in kept}
    assert all("written" in name or name.endswith(("mixture_bias", "alpha_bias")) for name in fresh)
    assert not [name for name, value in fresh.items() if name.endswith("bias") and value.any()]
    rows = random_rows(model.config, (4, 1))
    assert all(value.isfinite().all() for value in run_packed(model, rows))


def test_a_model_whose_values_lie_beside_queries_and_keys_takes_it(tmp_path: Path) -> None:
    """GPT-2 keeps all three in one tensor: without queries and keys the values are new too, and told so."""
    save(load(GOLDEN / "gpt2"), tmp_path, format="transformers")
    with pytest.warns(UserWarning, match=r"left out.*c_attn(.|\n)*new, with initial weights"):
        model = load(tmp_path, attention=Synthesizer("random"))
    assert model.prompt([[1, 2, 3]])[0].isfinite().all()


# -------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize("kind", ["dense", "random"])
def test_longer_than_it_was_built_for(kind: str) -> None:
    model = random_model(config_of(kind, application="lm", position="none"))
    with pytest.raises(UserError, match=r"built for 12 positions \(max_positions\), got 13; shorten"):
        model(torch.ones(1, 13, dtype=torch.int64))
    with pytest.raises(UserError, match="positions must be 0 or more, got -1"):
        model(torch.ones(1, 2, dtype=torch.int64), position_ids=torch.tensor([[0, -1]]))
    with pytest.raises(UserError, match="got 50"):
        model(torch.ones(1, 2, dtype=torch.int64), position_ids=torch.tensor([[0, 49]]))
    _, state = model.prompt([[1] * 11])
    model.step(torch.tensor([[3]]), state)
    with pytest.raises(UserError, match="got 13"):
        model.step(torch.tensor([[3]]), state)


@pytest.mark.parametrize("position", ["rotary", "rotary_halves", "relative_sinusoidal"])
def test_positions_that_need_queries(position: str) -> None:
    with pytest.raises(UserError, match=f"no queries and keys for the position '{position}'.*plus"):
        build(config_of("dense", position=position))
    build(config_of("dense", "plus", position=position))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sparse"}, r"kind must be one of dense, random.*got 'sparse'"),
        ({"kind": "dense+"}, "kind must be"),
        ({"kind": ("dense",)}, "kind must be"),
        ({"dot_product": "minus"}, "dot_product must be one of none, plus, plus_alpha, got 'minus'"),
        ({"rank": 0}, "rank must be a whole number from 1 to 65536, got 0"),
        ({"rank": 10**9}, "rank must be a whole number from 1 to 65536"),
        ({"factor": 1.5}, "factor"),
        ({"factor": True}, "factor must be a whole number from 1 to 65536, got True"),
    ],
)
def test_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Synthesizer(**options)


def test_no_padded_form() -> None:
    with pytest.raises(UserError, match="softmax attention, this model has 'synthesizer'"):
        PaddedTransformer(random_model(config_of("dense")))


def test_a_factor_must_divide() -> None:
    config = tiny_config(attention=Synthesizer("factorised_dense", factor=7))
    with pytest.raises(UserError, match="factor 7 must divide max_positions 40; take 5"):
        build(config)
    part = attention(tiny_config(attention=Synthesizer("factorised_dense"))).written[0]
    assert (part.inner.second.num_embeddings, part.outer.second.num_embeddings) == (5, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_logits_in_half_precision(dtype: torch.dtype) -> None:
    """Logits near the largest number: the weights are a choice of one, and nothing is NaN."""
    layer, layout = attention(config_of("random")).to(dtype), patterned_layout((6, 1, 3))
    with torch.no_grad():
        layer.written[0].table.weight.mul_(torch.finfo(dtype).max / 10)
    found = layer(torch.randn(10, 16).to(dtype), Pass(Causal().bind(layout)))
    assert found.dtype == dtype and found.isfinite().all()
