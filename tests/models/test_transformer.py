"""The Transformer: every combination of its words through the harness, and BERT written out by hand."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from hanformer.config import APPLICATIONS, NORM_PLACES, POSITIONS, ModelConfig
from hanformer.errors import UserError
from hanformer.models import Transformer, build
from hanformer.nn.functional.packing import Layout
from tests.harness import (
    EXACT,
    check_model,
    check_who_sees_whom,
    jacobian_pattern,
    random_model,
    random_rows,
    run_packed,
    tiny_config,
)


@pytest.mark.parametrize(
    ("position", "norm_place", "application"), [*itertools.product(POSITIONS, NORM_PLACES, APPLICATIONS)]
)
def test_every_combination(position: str, norm_place: str, application: str) -> None:
    check_model(tiny_config(position=position, norm_place=norm_place, application=application))


@pytest.mark.parametrize(
    "changes",
    [
        {"pad_id": None},
        {"pad_id": 4, "application": "lm"},
        {"segment_vocab_size": 0, "application": "unilm"},
        {"segment_vocab_size": 1},
        {"layers": 3, "attention_heads": 1, "activation": "gelu_tanh"},
        {"attention_heads": 8, "position": "rotary", "application": "unilm", "activation": "relu"},
        {"key_value_heads": 1, "attention_heads": 4, "application": "lm", "position": "rotary"},
        {"key_value_heads": 2, "attention_heads": 4, "application": "unilm", "residual_attention": True},
        {"attention_key_size": 6, "attention_head_size": 5, "application": "unilm"},
        {"embedding_size": 12, "embedding_norm": "after_dropout", "lm_head": "mapped", "application": "lm"},
        {"embedding_size": 12, "share_layers": True, "layers": 3},
        {"norm": "rms", "norm_place": "pre", "biases": "none", "feedforward": "gated", "lm_head": "untied"},
        {"norm": "rms_plain", "biases": "query_key_value", "application": "lm", "lm_head": "tied"},
        {"norm_place": "feedforward", "embedding_norm": "before_dropout", "application": "lm"},
        {"residual_attention": True, "application": "lm", "norm_place": "pre"},
        {"residual_attention": True, "application": "unilm", "position": "relative_sinusoidal"},
        {"residual_attention": True, "position": "relative_buckets", "scale_attention": False},
        {"position": "relative_sinusoidal", "relative_distance": 3, "application": "unilm"},
        {"position": "relative_buckets", "relative_buckets": 8, "relative_distance": 12, "application": "lm"},
        {"max_positions": 5, "hierarchical_positions": 0.4, "application": "unilm"},
        {"shared_segment_embeddings": True, "application": "lm"},
        {"condition_size": 3, "condition_hidden_size": 4, "application": "lm"},
        {"lm_head": "tied", "scale_lm": True},
    ],
    ids=str,
)
def test_other_words(changes: dict[str, object]) -> None:
    check_model(tiny_config(**changes))


@pytest.mark.parametrize("heads", [(), ("pool",), ("lm", "pool"), ("lm", "pool", "nsp", "discriminator")])
def test_other_heads(heads: tuple[str, ...]) -> None:
    check_model(tiny_config(), heads)
    assert random_model(tiny_config(), heads).heads == heads


@pytest.mark.parametrize("application", APPLICATIONS)
def test_who_sees_whom_in_one_layer(application: str) -> None:
    """In one layer the pattern is the mask itself, against formulas written here."""
    model = random_model(tiny_config(application=application, layers=1), ())
    segments = [0, 1, 1, 0]
    reach = list(itertools.accumulate(segments))
    formula = {
        "encoder": lambda i, j: True,
        "lm": lambda i, j: j <= i,
        "unilm": lambda i, j: reach[j] <= reach[i],
    }[application]
    expected = torch.tensor([[formula(i, j) for j in range(4)] for i in range(4)])
    pattern = jacobian_pattern(model, Layout.of((4, 4), torch.tensor(segments * 2)))
    assert torch.equal(pattern[:4, :4], expected) and torch.equal(pattern[4:, 4:], expected)
    assert not pattern[:4, 4:].any() and not pattern[4:, :4].any()


def test_who_sees_whom_through_one_token_rows() -> None:
    check_who_sees_whom(tiny_config(application="unilm"), lengths=(1, 1, 1))


# ------------------------------------------------------------------------------------ BERT, by hand


def naive_norm(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return gain * centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt() + bias


def naive_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


class NaiveBert:
    """BERT of one row, from the paper's formulas and the names of the weights alone."""

    def __init__(self, model: Transformer) -> None:
        self.config, self.weights = model.config, model.state_dict()

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        gain, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return naive_norm(x, gain, bias, self.config.norm_epsilon)

    def attention(self, x: Tensor, name: str) -> Tensor:
        query, key, value = (self.linear(x, f"{name}.{part}") for part in ("query", "key", "value"))
        size, outputs = self.config.head_size, []
        for head in range(self.config.attention_heads):
            own = slice(head * size, (head + 1) * size)
            powers = (query[:, own] @ key[:, own].T / math.sqrt(size)).exp()
            outputs.append(powers / powers.sum(-1, keepdim=True) @ value[:, own])
        return self.linear(torch.cat(outputs, -1), f"{name}.output")

    def feedforward(self, x: Tensor, name: str) -> Tensor:
        return self.linear(naive_gelu(self.linear(x, f"{name}.expand")), f"{name}.contract")

    def sequence(self, ids: list[int], segments: list[int]) -> Tensor:
        x = self.weights["embeddings.token.weight"][ids] + self.weights["embeddings.segment.weight"][segments]
        x = self.norm(x + self.weights["embeddings.position.weight"][: len(ids)], "embeddings.norm")
        for layer in range(self.config.layers):
            name = f"stack.blocks.{layer}"
            x = self.norm(x + self.attention(x, f"{name}.attention"), f"{name}.attention_norm")
            x = self.norm(x + self.feedforward(x, f"{name}.feedforward"), f"{name}.feedforward_norm")
        return x

    def logits(self, x: Tensor) -> Tensor:
        features = self.norm(naive_gelu(self.linear(x, "lm_head.transform")), "lm_head.norm")
        return features @ self.weights["embeddings.token.weight"].T + self.weights["lm_head.bias"]

    def pooled(self, x: Tensor) -> Tensor:
        return self.linear(x[0], "pooler.dense").tanh()


@pytest.mark.parametrize("epsilon", [1e-12, 0.1])
def test_bert_by_hand(epsilon: float) -> None:
    model = random_model(tiny_config(norm_epsilon=epsilon), ("lm", "pool"))
    naive, rows = NaiveBert(model), random_rows(model.config, (6, 1, 4))
    for row in rows:
        output = model(torch.tensor(row.ids), torch.tensor(row.segments))
        sequence = naive.sequence(row.ids[0], row.segments[0])
        torch.testing.assert_close(output.sequence[0], sequence, **EXACT)
        torch.testing.assert_close(output.lm_logits[0], naive.logits(sequence), **EXACT)
        torch.testing.assert_close(output.pooled[0], naive.pooled(sequence), **EXACT)


# ----------------------------------------------------------------------------------------- the rest


def test_initial_weights() -> None:
    model = build(tiny_config(initial_deviation=0.05, vocab_size=500, norm_place="pre"))
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if values.dim() == 1:
            assert values.eq(float("norm" in name and name.endswith("weight"))).all(), name
        else:
            assert values.abs().max() <= 0.1, name
    # A normal cut at two deviations has 0.88 of the deviation.
    assert float(model.embeddings.token.weight.detach().std()) == pytest.approx(0.88 * 0.05, rel=0.05)


def test_initial_weights_follow_the_seed() -> None:
    first, second = (build(tiny_config()), build(tiny_config()))
    torch.manual_seed(0)
    again = build(tiny_config())
    states = [model.state_dict()["stack.blocks.0.attention.query.weight"] for model in (first, second, again)]
    assert torch.equal(states[0], states[2]) and not torch.equal(states[0], states[1])


def test_parameters_have_one_name_each() -> None:
    model = build(tiny_config())
    assert len(model.state_dict()) == len(list(model.parameters()))
    assert not [name for name in model.state_dict() if "table" in name]


def test_a_copy_is_another_model() -> None:
    model = random_model(tiny_config(norm_place="pre"))
    rows = random_rows(model.config, (4, 2))
    before = run_packed(model, rows)
    twin = copy.deepcopy(model)
    assert all(map(torch.equal, run_packed(twin, rows), before))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert all(map(torch.equal, run_packed(model, rows), before))
    assert not torch.allclose(run_packed(twin, rows)[1], before[1]), "the tied table must be the copy's own"


def test_dropout_acts_in_training_alone() -> None:
    for word in ("dropout", "attention_dropout"):
        model = random_model(tiny_config(**{word: 0.5}))
        rows = random_rows(model.config, (6, 3))
        assert torch.equal(run_packed(model, rows)[0], run_packed(model, rows)[0])
        model.train()
        assert not torch.equal(run_packed(model, rows)[0], run_packed(model, rows)[0])


def test_positions_can_be_given() -> None:
    model = random_model(tiny_config())
    ids = torch.tensor([[5, 6, 7]])
    counted, given = model(ids).sequence, model(ids, position_ids=torch.tensor([[0, 1, 2]])).sequence
    assert torch.equal(counted, given)
    assert not torch.allclose(counted, model(ids, position_ids=torch.tensor([[3, 1, 2]])).sequence)


def test_order_matters_only_with_positions() -> None:
    for position in POSITIONS:
        model = random_model(tiny_config(position=position), ())
        forth, back = model(torch.tensor([[5, 6, 7]])).sequence, model(torch.tensor([[7, 6, 5]])).sequence
        # ALiBi knows how far, not which way: an encoder reads it alike from both ends.
        assert torch.allclose(forth, back.flip(1)) is (position in ("none", "alibi"))


def test_rotary_knows_distances_alone() -> None:
    model = random_model(tiny_config(position="rotary"), ())
    ids, places = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 2]])
    near, far = model(ids, position_ids=places).sequence, model(ids, position_ids=places + 900).sequence
    torch.testing.assert_close(near, far, **EXACT)


def test_pre_norm_ends_with_a_norm() -> None:
    model = random_model(tiny_config(norm_place="pre"), ())
    model.stack.final_norm.reset_parameters()
    hidden = run_packed(model, random_rows(model.config, (5,)))[0]
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(5).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(hidden.var(-1, correction=0), torch.ones(5).double())


def test_a_batch_of_nothing() -> None:
    model = random_model(tiny_config(), ("lm", "pool"))
    output = model(torch.zeros(0, 3, dtype=torch.int64))
    assert output.pooled.shape == (0, 16) and output.lm_logits.shape == (0, 3, 23)


@pytest.mark.parametrize(
    ("ids", "segments", "message"),
    [
        ([[1, 23]], None, "token ids must lie between 0 and 22; got 1 to 23"),
        ([[1, -1]], None, "token ids"),
        ([[1, 2]], [[0, 2]], "segment ids must lie between 0 and 1"),
        ([[1] * 41], None, r"positions must lie between 0 and 39.*shorten"),
        ([[1, 2]], [[0]], "segment_ids: expected shape"),
    ],
)
def test_what_the_tables_do_not_hold(
    ids: list[list[int]], segments: list[list[int]] | None, message: str
) -> None:
    model = random_model(tiny_config())
    with pytest.raises(UserError, match=message):
        model(torch.tensor(ids), None if segments is None else torch.tensor(segments))


def test_masks_of_another_shape() -> None:
    model, ids = random_model(tiny_config()), torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(UserError, match=r"attention_mask: expected the shape .*\[2, 3\], got \[2, 2\]"):
        model(ids, attention_mask=torch.ones(2, 2))
    with pytest.raises(UserError, match="rows, length"):
        model(ids[0])


def test_heads_must_exist() -> None:
    with pytest.raises(UserError, match=r"expected some of lm, pool, nsp, discriminator; got vocabulary"):
        build(tiny_config(), ("vocabulary",))
    with pytest.raises(UserError, match="no vocabulary head"):
        build(tiny_config(), ()).lm_logits(torch.zeros(1, 16))


def test_unknown_activation() -> None:
    with pytest.raises(UserError, match="gelu"):
        build(ModelConfig(vocab_size=5, activation="softsign"))
