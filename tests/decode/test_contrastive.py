"""Contrastive search against a naive form that reads every candidate by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from hanformer.config import ModelConfig
from hanformer.decode import Contrastive, Greedy, Hypothesis, TableState, contrastive_search, generate
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder
from hanformer.models.transformer import Transformer
from tests.decode.oracle import END
from tests.models.test_encoder_decoder import states, tiny

SIZE, WIDTH = 7, 3


class Toy:
    """A model whose hidden state is a function of the last two tokens."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(SIZE, SIZE, WIDTH, generator=generator, dtype=torch.float64)
        self.output = 2 * torch.randn(WIDTH, SIZE, generator=generator, dtype=torch.float64)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """[..., L] to [..., L, C]; before the first token stands token 0."""
        before = torch.cat([torch.zeros_like(tokens[..., :1]), tokens[..., :-1]], dim=-1)
        return self.table[before, tokens]

    def advance(self, tokens: torch.Tensor, state: TableState) -> torch.Tensor:
        state.append(tokens)
        return self.hidden(state.tokens)[:, -tokens.shape[1] :]

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.output


def search(toy: Toy, prompts: list[list[int]], rule: Contrastive, length: int) -> list[Hypothesis]:
    # The state knows the last prompt token alone, as two are all that the toy looks at.
    hidden = [toy.hidden(torch.tensor(prompt, dtype=torch.long)) for prompt in prompts]
    state = TableState(torch.tensor([(prompt or [0])[-1:] for prompt in prompts]))
    return contrastive_search(
        toy.advance, toy.head, state, hidden, rule=rule, end_id=END, maximum_length=length
    )


def naive(toy: Toy, prompt: list[int], rule: Contrastive, length: int) -> Hypothesis:
    tokens, total = list(prompt), 0.0
    for step in range(length):
        log_p = toy.head(toy.hidden(torch.tensor(tokens))[-1]).log_softmax(-1)
        if step == 0:
            log_p[END] = -torch.inf
        best = log_p.argsort(descending=True)[: rule.k].tolist()
        seen = toy.hidden(torch.tensor(tokens))

        def value(token: int, log_p=log_p, seen=seen) -> float:
            ahead = toy.hidden(torch.tensor([*tokens, token]))[-1]
            likeness = max(float(cosine_similarity(ahead, each, dim=0)) for each in seen)
            return (1 - rule.alpha) * float(log_p[token].exp()) - rule.alpha * likeness

        chosen = max((t for t in best if log_p[t] > -torch.inf), key=value)
        total += float(log_p[chosen])
        tokens.append(chosen)
        if chosen == END:
            return Hypothesis(tuple(tokens[len(prompt) : -1]), total, True)
    return Hypothesis(tuple(tokens[len(prompt) :]), total, False)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 999),
    st.lists(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=5), min_size=1, max_size=4),
    st.floats(0, 1),
    st.integers(1, 9),
)
def test_equals_the_naive_form_on_ragged_prompts(seed, prompts, alpha, k) -> None:
    toy, rule = Toy(seed), Contrastive(alpha, k)
    for found, prompt in zip(search(toy, prompts, rule, 6), prompts, strict=True):
        expected = naive(toy, prompt, rule, 6)
        assert (found.tokens, found.finished) == (expected.tokens, expected.finished)
        assert found.score == pytest.approx(expected.score)


def test_padding_is_not_a_token_that_was_seen() -> None:
    # Candidate 0 is the opposite of the one token seen; a padded zero vector would look nearer to it.
    seen = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    ahead = torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]])
    probabilities = torch.tensor([[0.3, 0.4]])
    rule = Contrastive(0.5)
    assert rule.choose(probabilities, ahead, seen, torch.tensor([[True, False]])).tolist() == [0]
    assert rule.choose(probabilities, ahead, seen, torch.tensor([[True, True]])).tolist() == [1]


def small_model() -> Transformer:
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=19,
        hidden_size=16,
        layers=2,
        attention_heads=2,
        intermediate_size=32,
        max_positions=32,
        application="lm",
    )
    return Transformer(config, heads=("lm",)).initialise().eval()


def test_alpha_zero_is_greedy_on_a_real_model() -> None:
    model, prompts = small_model(), [[5, 6, 7], [8], [3, 2]]
    hidden, state = model.read(prompts)
    parts = list(hidden.split([len(prompt) for prompt in prompts]))
    common = {"end_id": 1, "maximum_length": 7}
    found = contrastive_search(model.advance, model.lm_logits, state, parts, rule=Contrastive(0.0), **common)
    logits, state = model.prompt(prompts)
    greedy = generate(model.step, state, logits, rule=Greedy(), **common)
    assert [h.tokens for h in found] == [h[0].tokens for h in greedy]


class Reader:
    """An encoder-decoder as the naive form knows models: everything is read anew, and nothing cached."""

    def __init__(self, model: EncoderDecoder, source: list[int]) -> None:
        self.model, self.source, self.head = model, source, model.lm_logits

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        return states(self.model, [self.source], [tokens.tolist()])


@torch.no_grad()
@pytest.mark.parametrize("rule", [Contrastive(), Contrastive(0.3, 7)], ids=repr)
def test_an_encoder_decoder_searches_as_the_naive_form(rule: Contrastive) -> None:
    """What is compared are the states of the decoder, its start token's among them."""
    model, sources = tiny("t5.1.1", "bert4keras"), [[5, 9, 3, 7, 2], [4], [8, 8, 6, 3]]
    hidden, state = model.read(sources)
    found = contrastive_search(
        model.advance,
        model.lm_logits,
        state,
        hidden.split(model.states_read(sources)),
        rule=rule,
        end_id=END,
        maximum_length=6,
    )
    assert len({each.tokens for each in found}) > 1
    for each, source in zip(found, sources, strict=True):
        expected = naive(Reader(model, source), [model.start_id], rule, 6)  # type: ignore[arg-type]
        assert (each.tokens, each.finished) == (expected.tokens, expected.finished)
        assert each.score == pytest.approx(expected.score)


def test_mistakes_are_refused() -> None:
    for make in (lambda: Contrastive(1.5), lambda: Contrastive(0.5, 0)):
        with pytest.raises(UserError, match="expected 0 <= alpha"):
            make()
    toy = Toy(0)
    assert search_empty(toy) == []
    with pytest.raises(UserError, match="at least one token"):
        search(toy, [[1], []], Contrastive(), 4)
    toy.output[:] = torch.nan
    with pytest.raises(UserError, match="got NaN"):
        search(toy, [[1]], Contrastive(), 4)
    toy.output = torch.zeros(WIDTH, SIZE, dtype=torch.float64)
    with pytest.raises(UserError, match="prompt 0: expected a possible token"):
        contrastive_search(
            toy.advance,
            lambda hidden: torch.full((len(hidden), SIZE), -torch.inf),
            TableState(torch.tensor([[1]])),
            [toy.hidden(torch.tensor([1]))],
            rule=Contrastive(),
            end_id=END,
            maximum_length=3,
        )


def search_empty(toy: Toy) -> list[Hypothesis]:
    state = TableState(torch.zeros(0, 1, dtype=torch.long))
    return contrastive_search(
        toy.advance, toy.head, state, [], rule=Contrastive(), end_id=END, maximum_length=3
    )
