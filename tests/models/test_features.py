"""Choices that a config has beside the families: against their formulas, or against what they must leave alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hanformer.models import load, save
from tests.harness import EXACT, random_model, random_rows, run_packed, tiny_config
from tests.models.test_transformer import NaiveBert, naive_norm


# ------------------------------------------------------------------------------------------ RealFormer
class NaiveRealFormer(NaiveBert):
    """BERT by hand, whose layers hand their logits on."""

    below: list[Tensor | None]

    def attention(self, x: Tensor, name: str) -> Tensor:
        query, key, value = (self.linear(x, f"{name}.{part}") for part in ("query", "key", "value"))
        size, outputs, handed = self.config.head_size, [], []
        for head in range(self.config.attention_heads):
            own = slice(head * size, (head + 1) * size)
            logits = query[:, own] @ key[:, own].T / math.sqrt(size)
            if self.below[head] is not None:
                logits = logits + self.below[head]
            handed.append(logits)
            outputs.append(logits.softmax(-1) @ value[:, own])
        self.below = handed
        return self.linear(torch.cat(outputs, -1), f"{name}.output")


def test_residual_attention() -> None:
    """Logits of layer l are q·k/√d plus those of layer l − 1, before masks."""
    model = random_model(tiny_config(residual_attention=True, layers=3), ())
    for row in random_rows(model.config, (6, 1, 4)):
        naive = NaiveRealFormer(model)
        naive.below = [None] * model.config.attention_heads
        found = model(torch.tensor(row.ids), torch.tensor(row.segments)).sequence[0]
        torch.testing.assert_close(found, naive.sequence(row.ids[0], row.segments[0]), **EXACT)


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_residual_attention_hides_what_is_hidden(application: str) -> None:
    model = random_model(tiny_config(residual_attention=True, layers=3, application=application), ())
    first = model(torch.tensor([[5, 6, 7, 8]]), torch.tensor([[0, 0, 1, 1]])).sequence[0]
    second = model(torch.tensor([[5, 6, 7, 3]]), torch.tensor([[0, 0, 1, 1]])).sequence[0]
    assert torch.equal(first[:3], second[:3])


# ------------------------------------------------------------------------------- conditional layer norm
@pytest.mark.parametrize("hidden", [None, 4])
def test_conditional_norm(hidden: int | None) -> None:
    """γ' = γ + W_γ h(c), β' = β + W_β h(c), in every norm: BERT by hand with norms of its own for each row."""
    model = random_model(tiny_config(condition_size=3, condition_hidden_size=hidden), ())
    conditions, rows = torch.randn(3, 3, dtype=torch.float64), random_rows(model.config, (6, 1, 4))
    for row, condition in zip(rows, conditions, strict=True):
        found = model(torch.tensor(row.ids), torch.tensor(row.segments), condition=condition[None]).sequence[
            0
        ]
        naive = NaiveConditioned(model)
        naive.condition = condition
        torch.testing.assert_close(found, naive.sequence(row.ids[0], row.segments[0]), **EXACT)


class NaiveConditioned(NaiveBert):
    """BERT by hand with conditional norms."""

    condition: Tensor

    def norm(self, x: Tensor, name: str) -> Tensor:
        path = f"{name}.conditioning"
        known = self.condition
        if f"{path}.hidden.weight" in self.weights:
            known = self.weights[f"{path}.hidden.weight"] @ known
        gain = self.weights[f"{name}.weight"] + self.weights[f"{path}.gain.weight"] @ known
        bias = self.weights[f"{name}.bias"] + self.weights[f"{path}.bias.weight"] @ known
        return naive_norm(x, gain, bias, self.config.norm_epsilon)


def test_a_new_condition_changes_nothing(tmp_path: Path) -> None:
    """A published model opened with a condition starts as it was."""
    plain = random_model(tiny_config(), ("lm",), torch.float32)
    save(plain, tmp_path, format="transformers")
    model = load(tmp_path, heads=("lm",), changes={"condition_size": 3, "condition_hidden_size": 4})
    ids = torch.tensor([[5, 6, 7]])
    for condition in (None, torch.randn(1, 3)):
        assert torch.equal(
            model(ids, condition=condition).lm_logits, load(tmp_path, heads=("lm",))(ids).lm_logits
        )
    assert not model.stack.blocks[0].attention_norm.conditioning.gain.weight.any()
    assert model.stack.blocks[0].attention_norm.conditioning.hidden.weight.any()


# ------------------------------------------------------------------------------------ embeddings, sizes
def test_shared_segment_embeddings() -> None:
    """Segment s adds the row of token s: CDial-GPT's speakers."""
    model = random_model(tiny_config(shared_segment_embeddings=True), ())
    assert model.embeddings.segment is None
    state = model.state_dict()
    other = random_model(tiny_config(segment_vocab_size=23), ())
    other.load_state_dict({**state, "embeddings.segment.weight": state["embeddings.token.weight"]})
    ids, speakers = torch.tensor([[5, 6, 7]]), torch.tensor([[20, 21, 20]])
    torch.testing.assert_close(model(ids, speakers).sequence, other(ids, speakers).sequence, **EXACT)


@pytest.mark.parametrize("alpha", [0.4, 0.3])
def test_hierarchical_positions(alpha: float) -> None:
    """Up to the table's end nothing changes; place i·n + j is α·u_i + (1 − α)·u_j beyond."""
    plain = random_model(tiny_config(max_positions=5), ())
    longer = random_model(tiny_config(max_positions=5, hierarchical_positions=alpha), ())
    longer.load_state_dict(plain.state_dict())
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    torch.testing.assert_close(longer(ids).sequence, plain(ids).sequence, **EXACT)
    table = plain.state_dict()["embeddings.position.weight"]
    base = (table - alpha * table[0]) / (1 - alpha)
    rows = torch.stack([alpha * base[place // 5] + (1 - alpha) * base[place % 5] for place in range(25)])
    wide = random_model(tiny_config(max_positions=25), ())
    wide.load_state_dict({**plain.state_dict(), "embeddings.position.weight": rows})
    ids = torch.randint(1, 23, (1, 25))
    torch.testing.assert_close(longer(ids).sequence, wide(ids).sequence, **EXACT)


def test_sizes_of_heads() -> None:
    """Keys of zeros beyond the first channels, and values too, change nothing but the scale."""
    small = random_model(tiny_config(attention_key_size=6, attention_head_size=5), ())
    big = random_model(tiny_config(attention_key_size=8, attention_head_size=9), ())
    state = dict(small.state_dict())
    for name, value in state.items():
        if ".attention." not in name:
            continue
        wanted = big.state_dict()[name].shape
        old, new = (6, 8) if "query" in name or "key" in name else (5, 9)
        if value.shape != wanted:
            state[name] = widened(value, 2, old, new, axis=1 if "output" in name else 0)
        if "query" in name:
            state[name] = state[name] * math.sqrt(8 / 6)
    big.load_state_dict(state)
    rows = random_rows(small.config, (6, 1, 4))
    torch.testing.assert_close(run_packed(big, rows)[0], run_packed(small, rows)[0], **EXACT)


def widened(value: Tensor, heads: int, old: int, new: int, axis: int) -> Tensor:
    parts = value.movedim(axis, 0).unflatten(0, (heads, old))
    zeros = parts.new_zeros(heads, new - old, *parts.shape[2:])
    return torch.cat([parts, zeros], 1).flatten(0, 1).movedim(0, axis)


def test_a_narrow_embedding_is_mapped() -> None:
    model = random_model(tiny_config(embedding_size=12), ())
    state, ids = model.state_dict(), torch.tensor([[5, 6]])
    summed = state["embeddings.token.weight"][ids] + state["embeddings.segment.weight"][0]
    summed = summed + state["embeddings.position.weight"][:2]
    gain, bias = (state[f"embeddings.norm.{part}"] for part in ("weight", "bias"))
    normed = naive_norm(summed, gain, bias, 1e-12)
    expected = normed @ state["embeddings.mapping.weight"].T + state["embeddings.mapping.bias"]
    found = model(ids, hidden_states=True).hidden_states[0]
    torch.testing.assert_close(found, expected, **EXACT)


# ----------------------------------------------------------------------------------------- on request
@pytest.mark.parametrize("changes", [{}, {"position": "relative_sinusoidal"}, {"residual_attention": True}])
def test_asking_for_more_changes_nothing(changes: dict[str, object]) -> None:
    model = random_model(tiny_config(norm_place="pre", **changes), ())
    ids = torch.tensor([[0, 5, 6, 7], [4, 5, 0, 0]])
    plain, more = model(ids), model(ids, hidden_states=True, attention_scores=True)
    torch.testing.assert_close(plain.sequence, more.sequence, **EXACT)
    assert plain.hidden_states is None and plain.attention_scores is None
    assert torch.equal(more.hidden_states[-1], more.sequence)
    weights = more.attention_scores[0]
    assert weights.shape == (2, 2, 3, 3)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 3).double(), **EXACT)
    assert not weights[1, :, 2].any() and not weights[1, :, :, 2].any()
