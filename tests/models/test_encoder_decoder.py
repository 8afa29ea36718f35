"""Encoder and decoder: cached = uncached, rows = each row alone, beam search, both conventions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hanformer.decode import Beam, Greedy, generate
from hanformer.decode.search import Rule
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, load, save
from hanformer.nn.functional.packing import Layout
from tests.harness import EXACT
from tests.models.families.tiny import tiny_family

KINDS = [("t5.1.0", "standard"), ("t5.1.1", "standard"), ("t5.1.1", "bert4keras"), ("mt5.1.1", "bert4keras")]
SOURCES = [[5, 9, 3, 7, 2], [], [4], [8, 8, 6, 3, 2, 9, 10]]
TARGETS = [[0, 4, 7], [0, 5, 5, 6, 3], [0], [0, 9]]


def tiny(name: str, convention: str, **changes: object) -> EncoderDecoder:
    small = {"relative_buckets": 8, "relative_distance": 6}
    model: EncoderDecoder = tiny_family(name, torch.float64, convention=convention, **small, **changes)
    return model


def states(
    model: EncoderDecoder, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> Tensor:
    """The decoder's states at every token of the targets, end to end."""
    source, target = (Layout.of([len(row) for row in rows]) for rows in (sources, targets))
    ids = [torch.tensor([token for row in rows for token in row]).long() for rows in (sources, targets)]
    return model.decode(ids[1], target, model.encode(ids[0], source), source)


def packed(
    model: EncoderDecoder, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> Tensor:
    """Logits after every token of the targets, end to end."""
    return model.lm_logits(states(model, sources, targets))


class Uncached:
    """Decoding without a cache: every row read from its beginning at every step."""

    def __init__(self, model: EncoderDecoder, sources: list[list[int]]) -> None:
        self.model, self.sources, self.rows = model, sources, [[model.start_id] for _ in sources]

    @property
    def length(self) -> int:
        return len(self.rows[0]) - 1

    def logits(self, count: int) -> Tensor:
        """[R, count, V]."""
        return self.model.lm_logits(self.hidden(count).flatten(0, 1)).unflatten(0, (-1, count))

    def hidden(self, count: int) -> Tensor:
        """[R, count, C]."""
        found = states(self.model, self.sources, self.rows).split([len(row) for row in self.rows])
        return torch.stack([row[-count:] for row in found])

    def advance(self, tokens: Tensor) -> Tensor:
        self.rows = [[*row, *new] for row, new in zip(self.rows, tokens.tolist(), strict=True)]
        return self.hidden(tokens.shape[1])

    def step(self, tokens: Tensor) -> Tensor:
        self.advance(tokens)
        return self.logits(tokens.shape[1])

    def select(self, rows: Tensor) -> None:
        chosen = rows.tolist()
        self.sources, self.rows = [self.sources[row] for row in chosen], [self.rows[row] for row in chosen]

    def truncate(self, length: int) -> None:
        self.rows = [row[: length + 1] for row in self.rows]


#: What a decoding loop may do with four prompts.
ACTIONS: tuple[tuple[str, object], ...] = (
    ("step", 1),
    ("step", 3),
    ("select", [0, 0, 1, 1, 2, 2, 3, 3]),
    ("step", 1),
    ("select", [1, 0, 3, 3, 5, 4, 6, 6]),
    ("step", 2),
    ("truncate", 4),
    ("step", 1),
    ("select", [6, 0, 2]),
    ("step", 1),
    ("select", [2, 0, 0]),
    ("truncate", 0),
    ("step", 2),
    ("select", [1]),
    ("step", 1),
)


@pytest.mark.parametrize(("name", "convention"), KINDS)
def test_cached_is_uncached(name: str, convention: str) -> None:
    model = tiny(name, convention)
    uncached = Uncached(model, SOURCES)
    logits, state = model.prompt(SOURCES)
    torch.testing.assert_close(logits, uncached.logits(1)[:, 0], **EXACT)
    for action, argument in ACTIONS:
        if action == "step":
            tokens = torch.randint(23, (len(uncached.rows), argument))
            torch.testing.assert_close(model.step(tokens, state), uncached.step(tokens), **EXACT)
        elif action == "select":
            state.select(torch.tensor(argument))
            uncached.select(torch.tensor(argument))
        else:
            state.truncate(argument)
            uncached.truncate(argument)
        assert state.length == uncached.length


@pytest.mark.parametrize(("name", "convention"), KINDS)
def test_cached_states_are_uncached_states(name: str, convention: str) -> None:
    """`read` and `advance` are `prompt` and `step` below the vocabulary head."""
    model = tiny(name, convention)
    uncached = Uncached(model, SOURCES)
    hidden, state = model.read(SOURCES)
    assert model.states_read(SOURCES) == [1, 1, 1, 1]
    torch.testing.assert_close(hidden, uncached.hidden(1)[:, 0], **EXACT)
    for action, argument in ACTIONS:
        if action == "step":
            tokens = torch.randint(23, (len(uncached.rows), argument))
            torch.testing.assert_close(model.advance(tokens, state), uncached.advance(tokens), **EXACT)
            continue
        getattr(state, action)(torch.tensor(argument) if action == "select" else argument)
        getattr(uncached, action)(torch.tensor(argument) if action == "select" else argument)


@pytest.mark.parametrize(("name", "convention"), KINDS)
def test_rows_do_not_know_each_other(name: str, convention: str) -> None:
    """Packed and padded batches equal every row alone, also where an encoder's row is empty."""
    model = tiny(name, convention)
    alone = [packed(model, [source], [target]) for source, target in zip(SOURCES, TARGETS, strict=True)]
    torch.testing.assert_close(packed(model, SOURCES, TARGETS), torch.cat(alone), **EXACT)
    real = [
        torch.arange(8) < torch.tensor([len(row) for row in rows])[:, None] for rows in (SOURCES, TARGETS)
    ]
    ids = [torch.zeros(4, 8, dtype=torch.int64) for _ in range(2)]
    for padded, mask, rows in zip(ids, real, (SOURCES, TARGETS), strict=True):
        padded[mask] = torch.tensor([token for row in rows for token in row])
    for masks in ({}, {"attention_mask": real[0], "decoder_attention_mask": real[1]}):
        output = model(ids[0], decoder_input_ids=ids[1], **masks)
        torch.testing.assert_close(output.lm_logits[real[1]], torch.cat(alone), **EXACT)
        assert not output.lm_logits[~real[1]].any() and not output.encoder_sequence[~real[0]].any()
    left = torch.zeros_like(ids[0])
    left[real[0].flip(1)] = ids[0][real[0]]
    found = model(left, decoder_input_ids=ids[1]).lm_logits[real[1]]
    torch.testing.assert_close(found, torch.cat(alone), **EXACT)


@pytest.mark.parametrize("rule", [Greedy(), Beam(4, results=2)], ids=["greedy", "beam"])
@pytest.mark.parametrize(("name", "convention"), KINDS)
def test_search(name: str, convention: str, rule: Rule) -> None:
    """Cached equals uncached, and together equals one by one."""
    model = tiny(name, convention)

    def search(sources: list[list[int]], cached: bool) -> list[list[tuple[tuple[int, ...], float]]]:
        logits, state = model.prompt(sources)
        other = Uncached(model, sources)
        step = model.step if cached else (lambda tokens, state: state.step(tokens))
        found = generate(step, state if cached else other, logits, rule=rule, end_id=1, maximum_length=6)
        return [[(tuple(one.tokens), pytest.approx(one.score, abs=1e-9)) for one in row] for row in found]

    together = search(SOURCES, cached=True)
    assert together == search(SOURCES, cached=False)
    assert together == [search([source], cached=True)[0] for source in SOURCES]


def test_the_decoder_reads_to_the_left() -> None:
    model = tiny("t5.1.1", "standard")
    first, second = (packed(model, SOURCES[:1], [row]) for row in ([0, 4, 7, 3], [0, 4, 7, 9]))
    assert torch.equal(first[:3], second[:3]) and not torch.equal(first[3], second[3])
    other = packed(model, [[5, 9, 3, 7, 6]], [[0, 4, 7, 3]])
    assert not torch.isclose(other, first).all(-1).any(), "every target token looks at the whole source"


def test_gradients_reach_every_parameter() -> None:
    model = tiny("t5.1.1", "standard").train()
    packed(model, SOURCES, TARGETS).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_own_format(tmp_path: object) -> None:
    for name, convention in KINDS:
        model = tiny(name, convention)
        save(model, f"{tmp_path}/{name}")
        again = load(f"{tmp_path}/{name}")
        assert again.config == model.config
        state = again.state_dict()
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
        outputs = (packed(each, SOURCES, TARGETS) for each in (again, model))
        torch.testing.assert_close(*outputs, **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision(dtype: torch.dtype) -> None:
    model = tiny("t5.1.1", "standard")
    expected = packed(model, SOURCES, TARGETS)
    found = packed(model.to(dtype), SOURCES, TARGETS)
    assert found.dtype == dtype
    assert (found.double() - expected).norm() < 0.05 * expected.norm()


def test_mistakes() -> None:
    model = tiny("t5.1.0", "standard")
    ids = torch.tensor([[5, 6]])
    with pytest.raises(UserError, match="decoder_input_ids: expected 1 rows"):
        model(ids, decoder_input_ids=torch.tensor([[0], [0]]))
    with pytest.raises(UserError, match="no segments"):
        model.prompt([[5]], [[0]])
    with pytest.raises(UserError, match=r"expected tokens \[1, T\], got \[2, 1\]"):
        model.step(torch.tensor([[1], [2]]), model.prompt([[5]])[1])
    with pytest.raises(UserError, match="an encoder-decoder has lm alone, got pool"):
        EncoderDecoder(model.config, ("pool",))
    with pytest.raises(UserError, match="training mode"):
        model.train().prompt([[5]])
