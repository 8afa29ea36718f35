"""TeaForN against N passes written out, row by row, and what each pass may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer
from hanformer.nn.functional.packing import Layout
from hanformer.train.objective import Loss
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks.adversarial import fgm
from hanformer.train.tricks.crossing import cross_pairs, predict_decoded
from hanformer.train.tricks.r_drop import r_drop
from hanformer.train.tricks.tea_forn import _Pass, features, most_likely, tea_forn
from tests.harness.material import random_model, tiny_config
from tests.harness.tricks import PAIRS, Classifier, classify, gradients, sequences, texts, writer

Vectors = Callable[[Tensor, Tensor], Tensor]
"""Features and logits of some places, to what the places behind them read."""


def embed(model: Any, vectors: Tensor, segments: list[int]) -> Tensor:
    """Token vectors of one row with its segments and positions, normed."""
    part = model.embeddings
    return part.norm(vectors + part.segment.weight[segments] + part.position.weight[: len(vectors)])


def naive_row(model: Transformer, pair: Pair, passes: int, decay: float, vectors_of: Vectors) -> Tensor:
    """One pair, alone: every pass with a list of vectors of its own."""
    ids = list(pair.source + pair.target[:-1])
    segments = [0] * len(pair.source) + [1] * (len(pair.target) - 1)
    layout = Layout.of([len(ids)], torch.tensor(segments))
    first = len(pair.source) - 1
    vectors, total = list(model.embeddings.token.weight[ids]), torch.zeros((), dtype=torch.float64)
    for number in range(passes):
        hidden = model.body(embed(model, torch.stack(vectors), segments), layout)[first:]
        logits = model.lm_logits(hidden)
        total = total + decay**number * F.cross_entropy(logits, torch.tensor(pair.target), reduction="sum")
        vectors[first + 1 :] = list(vectors_of(hidden, logits))[:-1]
    return total


def naive(model: Transformer, passes: int, decay: float, vectors_of: Vectors) -> Tensor:
    return torch.stack([naive_row(model, pair, passes, decay, vectors_of) for pair in PAIRS]).sum()


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_equal_to_passes_written_out(passes: int) -> None:
    model = writer()
    found = tea_forn(predict_targets(), passes, decay=0.7)(model, sequences())
    expected = naive(model, passes, 0.7, lambda hidden, logits: hidden)
    torch.testing.assert_close(found.total, expected)
    assert int(found.count) == sum(len(pair.target) for pair in PAIRS)
    weights = list(model.parameters())
    ours, theirs = (
        torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
        for total in (found.total, expected)
    )
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("count", [1, 4, 23, 99])
def test_the_likeliest_tokens_in_place_of_features(count: int) -> None:
    model = writer()
    table = model.embeddings.token.weight

    def mean(hidden: Tensor, logits: Tensor) -> Tensor:
        p = logits.softmax(-1)
        kept = p * (p >= p.topk(min(count, 23), -1).values[:, -1:])
        return (kept / kept.sum(-1, keepdim=True)) @ table

    found = tea_forn(predict_targets(), 3, feed=most_likely(count))(model, sequences())
    torch.testing.assert_close(found.total, naive(model, 3, 0.5, mean))


def test_one_likeliest_token_is_the_greedy_one_and_all_are_p_times_the_table() -> None:
    model = writer()
    table, logits = model.embeddings.token, torch.randn(5, 23, dtype=torch.float64)
    greedy = most_likely(1)(table, logits, logits)
    assert torch.equal(greedy, table.weight[logits.argmax(-1)])
    torch.testing.assert_close(
        most_likely(23)(table, logits, logits), logits.softmax(-1) @ table.weight, rtol=1e-6, atol=1e-6
    )


def two_stacks() -> EncoderDecoder:
    torch.manual_seed(1)
    model = EncoderDecoder(tiny_config(application="lm"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.double()


def naive_decoder_row(model: EncoderDecoder, pair: Pair, passes: int, decay: float) -> Tensor:
    source, target = Layout.of([len(pair.source)]), Layout.of([len(pair.target)])
    memory = model.encode(torch.tensor(pair.source), source)
    vectors = list(model.embeddings.token.weight[[0, *pair.target[:-1]]])
    total = torch.zeros((), dtype=torch.float64)
    for number in range(passes):
        embedded = embed(model, torch.stack(vectors), [0] * len(vectors))
        cross = model.decoder.begin_cross(target, source)
        hidden = model.decoder(embedded, model.decoder.begin(target), memory=(memory, cross))
        logits = model.lm_logits(hidden)
        total = total + decay**number * F.cross_entropy(logits, torch.tensor(pair.target), reduction="sum")
        vectors[1:] = list(hidden)[:-1]
    return total


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_an_encoder_decoder_encodes_once(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = two_stacks(), cross_pairs(PAIRS)
    expected = torch.stack([naive_decoder_row(model, pair, passes, 0.5) for pair in PAIRS]).sum()
    calls, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda *given: calls.append(given) or encode(*given))
    found = tea_forn(predict_decoded(), passes)(model, batch)
    torch.testing.assert_close(found.total, expected)
    assert len(calls) == 1


def pass_logits(model: Transformer, batch: SequenceBatch, passes: int) -> list[Tensor]:
    """What each pass predicts."""
    kept: list[Tensor] = []

    def watched(model: nn.Module, batch: SequenceBatch) -> Loss:
        loss = predict_targets()(model, batch)
        kept.append(loss.outputs["logits"].detach())
        return loss

    tea_forn(watched, passes)(model, batch)
    return kept


def test_pass_i_sees_true_tokens_up_to_i_places_back() -> None:
    """Input j changes what place t predicts in pass i where j <= t − i, counted from 0; the start does always."""
    model, source, target = writer(), (1, 5, 2), (7, 8, 9, 10, 11, 2)
    plain = pass_logits(model, join_pairs([Pair(source, target)]), 3)
    for changed in range(len(target) - 1):
        other = (*target[:changed], 12, *target[changed + 1 :])
        moved = pass_logits(model, join_pairs([Pair(source, other)]), 3)
        for number, (before, after) in enumerate(zip(plain, moved, strict=True)):
            differs = (before - after).abs().amax(-1) > 1e-9
            # Input j is target token `changed`, j = changed + 1; place t predicts target token t; i = number.
            assert differs.tolist() == [changed + 1 <= t - number for t in range(len(target))]
    started = pass_logits(model, join_pairs([Pair((1, 5, 3), target)]), 3)
    assert all(bool(((a - b).abs().amax(-1) > 1e-9).all()) for a, b in zip(plain, started, strict=True))


def test_a_linear_decoder_in_closed_form() -> None:
    """h² = A shift(A e) for a body that is a causal matrix, by the mechanism of packed rows alone."""
    batch = join_pairs(PAIRS)
    embedded, fed = torch.randn(batch.layout.total, 4), torch.randn(len(batch.labels), 4)
    found = _Pass(batch)._replaced(embedded, fed)
    expected = embedded.clone()
    for place in batch.layout.segments.nonzero().flatten().tolist():
        expected[place] = fed[batch.predictors.tolist().index(place - 1)]
    assert torch.equal(found, expected)


def test_it_stacks() -> None:
    model = writer(dropout=0.2)
    wrapped = r_drop(fgm(tea_forn(predict_targets(), 2), 0.1), 1.0)
    assert all(value.isfinite().all() for value in gradients(model, wrapped, [sequences()]).values())
    objective = predict_targets()
    assert tea_forn(objective, 1) is objective
    with pytest.raises(UserError, match="innermost"):
        tea_forn(fgm(objective, 0.1), 2)(model, sequences())


def test_what_does_not_fit_is_refused() -> None:
    narrow = random_model(tiny_config(application="unilm", embedding_size=8)).train()
    with pytest.raises(UserError, match="width 16 cannot stand for embeddings of width 8"):
        tea_forn(predict_targets(), 2)(narrow, sequences())
    assert tea_forn(predict_targets(), 2, feed=most_likely(4))(narrow, sequences()).total.isfinite()
    with pytest.raises(UserError, match="embeds its tokens once"):
        tea_forn(predict_decoded(), 2, prepare=lambda model, batch: batch)(two_stacks(), cross_pairs(PAIRS))
    headless = Classifier(random_model(tiny_config(), ("pool",)))
    with pytest.raises(UserError, match="vocabulary head"):
        tea_forn(classify, 2)(headless, _Movable())  # type: ignore[arg-type, type-var]
    with pytest.raises(UserError, match="decay"):
        tea_forn(predict_targets(), 2, decay=1.5)
    with pytest.raises(UserError, match="most_likely"):
        most_likely(0)
    assert features(nn.Embedding(3, 2), torch.ones(1, 2), torch.ones(1, 3)).shape == (1, 2)


class _Movable:
    """A batch of texts that pretends to be of a decoder."""

    def to(self, device: torch.device) -> Any:
        return texts()


def test_other_models_than_encoder_decoders_are_refused() -> None:
    with pytest.raises(UserError, match="expected an EncoderDecoder, got Transformer"):
        predict_decoded()(writer(), cross_pairs(PAIRS))


def test_the_objective_of_two_stacks_by_rows() -> None:
    model, batch = two_stacks(), cross_pairs(PAIRS, start_id=3)
    found = predict_decoded(label_smoothing=0.1)(model, batch)
    total = torch.zeros((), dtype=torch.float64)
    for pair in PAIRS:
        inputs = torch.tensor([[3, *pair.target[:-1]]])
        logits = model(torch.tensor([pair.source]), decoder_input_ids=inputs).lm_logits[0]
        target = torch.tensor(pair.target)
        total = total + F.cross_entropy(logits, target, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(found.total, total)
