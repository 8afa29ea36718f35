"""ALiBi and both layouts of rotary positions: against their formulas and against transformers."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import GatedUnit
from hanformer.models import build
from hanformer.models.padded import PaddedTransformer
from hanformer.nn.attention.relative import AlibiBias, relative_of
from hanformer.nn.functional.positions import alibi_slopes, rotary_table, rotate, rotate_halves
from tests.harness import EXACT, random_model, random_rows, run_packed, tiny_config

HEADS = (1, 2, 4, 6, 8, 12, 16, 20)


def test_slopes() -> None:
    assert alibi_slopes(8) == tuple(2.0**-head for head in range(1, 9))
    assert alibi_slopes(2) == (1 / 16, 1 / 256) and alibi_slopes(1) == (1 / 256,)
    assert alibi_slopes(6) == (2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3)


@pytest.mark.parametrize("heads", HEADS)
def test_slopes_and_weights_of_bloom(heads: int) -> None:
    """Bloom adds slope · position of the key: the same up to a constant for each query, so the same softmax."""
    bloom = import_module("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 9), heads, torch.float32).view(heads, 1, 9)
    torch.testing.assert_close(theirs[:, 0, 1], torch.tensor(alibi_slopes(heads)))
    _same_weights(theirs.expand(heads, 9, 9), heads)


@pytest.mark.parametrize("heads", HEADS)
def test_weights_of_mpt(heads: int) -> None:
    mpt = import_module("transformers.models.mpt.modeling_mpt")
    theirs = mpt.build_mpt_alibi_tensor(heads, 9).view(heads, 1, 9)
    _same_weights(theirs.expand(heads, 9, 9), heads)


def _same_weights(theirs: Tensor, heads: int) -> None:
    scores, past = torch.randn(heads, 9, 9), torch.ones(9, 9, dtype=torch.bool).tril()
    distance = (torch.arange(9)[None, :] - torch.arange(9)[:, None])[None]
    ours = AlibiBias(heads).logits(torch.zeros(1, heads, 9, 4), distance)[0]
    found, expected = ((scores + bias).masked_fill(~past, -torch.inf).softmax(-1) for bias in (ours, theirs))
    torch.testing.assert_close(found, expected)


def test_alibi_in_a_model() -> None:
    """Logits −m|i − j| beside q·k/√d, in an encoder too: by hand from the weights of one layer."""
    model = random_model(tiny_config(position="alibi", layers=1, attention_heads=2), ())
    attention, kept = model.stack.blocks[0].attention, {}
    attention.output.register_forward_pre_hook(lambda module, given: kept.update(mixed=given[0]))
    row = random_rows(model.config, (7,))
    run_packed(model, row)
    x = model.embed(row.packed, row.layout)
    query, key, value = attention.project(x)
    far = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    for head, slope in enumerate((1 / 16, 1 / 256)):
        logits = query[:, head] @ key[:, head].T / 8**0.5 - slope * far
        torch.testing.assert_close(
            kept["mixed"].unflatten(-1, (2, 8))[:, head], logits.softmax(-1) @ value[:, head], **EXACT
        )


def test_alibi_has_no_longest_distance_and_no_parameters() -> None:
    bias = relative_of(tiny_config(position="alibi"), bidirectional=True)
    assert isinstance(bias, AlibiBias) and not list(bias.parameters()) and not bias.state_dict()
    far = bias.logits(torch.zeros(1, 2, 1, 4, dtype=torch.bfloat16), torch.tensor([[[100_000]]]))
    assert far.dtype == torch.bfloat16 and far.flatten().tolist() == pytest.approx([-6250, -390.6], rel=4e-3)


@pytest.mark.parametrize("position", ["rotary", "rotary_halves"])
def test_pairs_need_an_even_size(position: str) -> None:
    for changes in ({"attention_key_size": 7}, {"attention": GatedUnit(key_size=7)}):
        with pytest.raises(UserError, match=f"attention: {position} positions turn pairs.* keys of 7"):
            build(tiny_config(position=position, **changes))


# ------------------------------------------------------------------------------------------- buckets
@pytest.mark.parametrize(("application", "exact"), [("encoder", 2), ("lm", 4), ("unilm", 2)])
def test_the_longest_distance_lies_beyond_the_buckets_of_one_distance(application: str, exact: int) -> None:
    def config(distance: int) -> ModelConfig:
        changes = {"position": "relative_buckets", "relative_buckets": 8, "relative_distance": distance}
        return tiny_config(application=application, **changes)

    for distance in (1, exact):
        with pytest.raises(UserError, match=f"relative_distance must be above {exact}, .* got {distance}"):
            build(config(distance))
    model = random_model(config(exact + 1))
    assert run_packed(model, random_rows(model.config, (30, 1)))[0].isfinite().all()


def test_who_looks_ahead_knows_how_far() -> None:
    """A source of UniLM sees both sides, as an encoder does; what a language model never sees needs no bucket."""
    distance = torch.tensor([[[-3, -1, 0, 1, 3]]])
    for application, count in (("encoder", 5), ("unilm", 5), ("lm", 3)):
        model = random_model(tiny_config(application=application, position="relative_buckets"))
        biases = model.stack.relative.logits(torch.zeros(1, 2, 1, 4), distance)
        assert len(biases[0, 0, 0].unique()) == count


# ------------------------------------------------------------------------------------------- rotary
def to_halves(x: Tensor) -> Tensor:
    """Channels 2i and 2i + 1 to i and i + D/2."""
    return torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)


def test_halves_are_neighbours_moved() -> None:
    x, table = torch.randn(9, 3, 8).double(), rotary_table(torch.arange(9), 8, dtype=torch.float64)
    assert torch.equal(rotate_halves(to_halves(x), table), to_halves(rotate(x, table)))


def test_halves_are_llamas() -> None:
    llama = import_module("transformers.models.llama.modeling_llama")
    x, table = torch.randn(9, 3, 8).double(), rotary_table(torch.arange(9), 8, dtype=torch.float64)
    cosine, sine = (part.repeat(1, 2)[None] for part in table.unbind(1))
    query = x.transpose(0, 1)[None]
    theirs, _ = llama.apply_rotary_pos_emb(query, query, cosine, sine)
    torch.testing.assert_close(rotate_halves(x, table), theirs[0].transpose(0, 1), **EXACT)


@pytest.mark.parametrize("heads", [{"attention_heads": 2}, {"attention_heads": 4, "key_value_heads": 2}])
def test_a_model_in_both_layouts(heads: dict[str, int]) -> None:
    """Moving the channels of W_q and W_k makes one of the other."""
    config = tiny_config(position="rotary", application="lm", rotary_base=100.0, **heads)
    first, second = random_model(config), random_model(config.changed({"position": "rotary_halves"}))
    state = first.state_dict()
    for name, value in state.items():
        if ".query." in name or ".key." in name:
            channels = value.unflatten(0, (-1, config.key_size))
            state[name] = to_halves(channels.movedim(1, -1)).movedim(-1, 1).flatten(0, 1)
    rows = random_rows(config, (6, 3))
    before = run_packed(second, rows)[1]
    second.load_state_dict(state)
    expected = run_packed(first, rows)[1]
    torch.testing.assert_close(run_packed(second, rows)[1], expected, **EXACT)
    assert not torch.allclose(before, expected)


@pytest.mark.parametrize("position", ["rotary", "rotary_halves", "alibi"])
def test_the_padded_form_has_the_same_positions(position: str) -> None:
    model = random_model(tiny_config(position=position), ())
    ids = torch.tensor([[5, 6, 7, 0], [0, 8, 9, 4]])
    real = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    segments = torch.zeros_like(ids)
    found = PaddedTransformer(model)(ids, segments, real)["sequence"]
    expected = model(ids, segments, attention_mask=real).sequence
    torch.testing.assert_close(found, expected, **EXACT)


def test_codes_of_one_size_want_keys_and_values_of_one_size() -> None:
    config = tiny_config(position="relative_sinusoidal", attention_heads=2, attention_key_size=4)
    with pytest.raises(
        UserError, match="keys of 4 channels go with values of 8: leave attention_key_size out"
    ):
        build(config)
    build(config.changed({"attention_key_size": 8}))
