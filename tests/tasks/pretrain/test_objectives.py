"""Rows as a model is trained on them: masked, causal, split; and the loss on them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.models import build
from hanformer.tasks.pretrain.joining import Borders, causal, masked, mixture_of, pack, split
from hanformer.tasks.pretrain.masking import Masker
from hanformer.tasks.pretrain.recipe import MaskOptions, PretrainRecipe
from hanformer.tasks.pretrain.row_set import RowSet
from hanformer.tasks.pretrain.store import write_store
from hanformer.tasks.pretrain.training import predict_chunked
from hanformer.text.vocabulary import Vocabulary
from hanformer.train.sequence import predict_targets

SIZE, MASK, BORDERS = 40, 4, Borders(2, 3)
SPECIALS = (0, 1, 2, 3, 4)
VOCABULARY = Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(0x4E00, 0x4E00 + 35))])
ROW = st.lists(st.tuples(st.integers(1, SIZE - 1), st.booleans()), min_size=1, max_size=20)


def stored(row: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    ids, begins = zip(*row, strict=True)
    return np.array(ids), np.array([True, *begins[1:]])


def masker(options: MaskOptions | None = None) -> Masker:
    return Masker(options or MaskOptions(), SIZE, MASK, SPECIALS)


@given(ROW, st.integers(0, 99))
def test_whole_words_are_hidden_and_nothing_else_changes(row: list, seed: int) -> None:
    ids, begins = BORDERS.around(stored(row))
    (part,) = masked(BORDERS, masker())([stored(row)], np.random.default_rng(seed))
    places = set(part.places.tolist())
    assert part.labels.tolist() == [ids[place] for place in part.places]
    assert all(part.ids[place] == ids[place] for place in range(len(ids)) if place not in places)
    ordinary = [place for place in range(len(ids)) if ids[place] not in SPECIALS]
    assert places <= set(ordinary) and bool(places) == bool(ordinary)
    word = np.cumsum(begins)
    for place in places:
        assert {other for other in ordinary if word[other] == word[place]} <= places
    assert not part.segments.any()


@given(st.lists(ROW, min_size=2, max_size=6), st.integers(0, 99))
def test_rows_are_masked_together_and_come_back_apart(found: list, seed: int) -> None:
    whole = [BORDERS.around(stored(row))[0] for row in found]
    parts = masked(BORDERS, masker())([stored(row) for row in found], np.random.default_rng(seed))
    for ids, part in zip(whole, parts, strict=True):
        assert len(part.ids) == len(ids) == len(part.segments)
        assert part.labels.tolist() == ids[part.places].tolist()
        rest = np.delete(np.arange(len(ids)), part.places)
        assert part.ids[rest].tolist() == ids[rest].tolist()


def test_shares_are_those_of_the_options() -> None:
    random = np.random.default_rng(0)
    ids, begins = random.integers(5, SIZE, 200_000), random.random(200_000) < 0.5
    begins[0] = True
    shown, places = masker(MaskOptions(0.2, 0.7, 0.2)).hide(ids, begins, random)
    assert len(places) / len(ids) == pytest.approx(0.2, abs=0.005)
    masks = (shown[places] == MASK).mean()
    kept = (shown[places] == ids[places]).mean()
    others = np.bincount(
        shown[places][(shown[places] != MASK) & (shown[places] != ids[places])], minlength=SIZE
    )
    assert masks == pytest.approx(0.7, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.2 / 35, abs=0.01)
    assert not others[:5].any() and others[5:].min() > 0.8 * others[5:].mean()


def test_causal_rows_say_every_next_token() -> None:
    (part,) = causal(BORDERS)([(np.array([7, 8, 9]), np.array([True] * 3))], np.random.default_rng(0))
    assert part.ids.tolist() == [2, 7, 8, 9] and part.labels.tolist() == [7, 8, 9, 3]
    assert part.places.tolist() == [0, 1, 2, 3] and part.segments.tolist() == [0, 1, 1, 1]


@given(ROW, st.integers(0, 99))
def test_split_rows_are_pairs(row: list, seed: int) -> None:
    ids, begins = stored(row)
    (part,) = split(BORDERS)([(ids, begins)], np.random.default_rng(seed))
    if not begins[1:].any():
        assert part.labels.tolist() == [*ids.tolist(), 3]
        return
    cut = len(ids) - len(part.labels) + 1
    assert begins[cut]
    left, right = ids[:cut].tolist(), ids[cut:].tolist()
    assert equal(pack([part], segments=True), join_pairs([Pair((2, *left, 3), (*right, 3))]))


def equal(one: SequenceBatch, other: SequenceBatch) -> bool:
    return one.layout.lengths == other.layout.lengths and all(
        torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True)
    )


def tensors(batch: SequenceBatch) -> list[Tensor]:
    return [batch.token_ids, batch.layout.segments, batch.predictors, batch.labels]


def rows(count: int) -> list[tuple[list[int], list[bool]]]:
    random = Random(0)
    return [
        ([random.randrange(5, SIZE) for _ in range(length)], [True] * length)
        for length in (random.randrange(3, 12) for _ in range(count))
    ]


def test_batches_depend_on_seed_epoch_and_place_alone(tmp_path: Path) -> None:
    store = RowSet.all(write_store(tmp_path / "tokens", rows(60), SIZE))
    recipe = PretrainRecipe(objective="unilm", mixture=(1.0, 1.0, 2.0))
    mixture = mixture_of(recipe, VOCABULARY)
    batches = store.batches(mixture, 64, seed=5)
    again = store.batches(mixture, 64, seed=5)
    places = range(len(batches.batches(1)))
    assert len(places) > 6
    for place in [*reversed(places), 0]:
        assert equal(batches.batches(1)[place], again.batches(1)[place])
    assert not equal(batches.batches(1)[0], batches.batches(2)[0])
    assert not equal(batches.batches(1)[0], store.batches(mixture, 64, seed=6).batches(1)[0])
    assert all(batches.batches(1)[place].layout.total <= 64 for place in places)


def test_every_row_is_in_each_epoch_once_and_is_drawn_anew(tmp_path: Path) -> None:
    found = rows(30)
    store = RowSet.all(write_store(tmp_path / "tokens", found, SIZE))
    batches = store.batches(mixture_of(PretrainRecipe(objective="lm"), VOCABULARY), 40)
    for epoch in (0, 1):
        seen = [
            tuple(part.tolist())
            for batch in batches.batches(epoch)
            for part in batch.token_ids.split(list(batch.layout.lengths))
        ]
        assert sorted(seen) == sorted((2, *ids) for ids, _ in found)
    masks = store.batches(mixture_of(PretrainRecipe(), VOCABULARY), 10_000)
    one, other = masks.batches(0)[0], masks.batches(1)[0]
    assert int((one.token_ids == MASK).sum()) > 10
    assert not torch.equal(one.labels, other.labels)


def test_the_mixture_has_its_shares(tmp_path: Path) -> None:
    store = RowSet.all(write_store(tmp_path / "tokens", rows(900), SIZE))
    mixture = mixture_of(PretrainRecipe(objective="unilm", mixture=(1.0, 0.0, 3.0)), VOCABULARY)
    assert set(mixture.makers) == {"mlm", "seq2seq"}
    (batch,) = store.batches(mixture, 100_000).batches(0)
    segments = batch.layout.segments.split(list(batch.layout.lengths))
    masked_rows = sum(not own.any() for own in segments)
    assert masked_rows / 900 == pytest.approx(0.25, abs=0.05)
    with pytest.raises(UserError, match="mask token"):
        mixture_of(PretrainRecipe(), Vocabulary(["[UNK]", "[CLS]", "[SEP]"]))


@pytest.mark.parametrize("objective", ["mlm", "lm", "unilm"])
def test_the_chunked_loss_is_the_plain_one(tmp_path: Path, objective: str) -> None:
    recipe = PretrainRecipe(objective=objective)
    config = ModelConfig(
        SIZE,
        hidden_size=16,
        layers=1,
        attention_heads=2,
        intermediate_size=16,
        application=recipe.application,
        dropout=0.0,
        attention_dropout=0.0,
        embedding_size=8,
    )
    model = build(config).double()
    store = RowSet.all(write_store(tmp_path / "tokens", rows(12), SIZE))
    batch = store.batches(mixture_of(recipe, VOCABULARY), 1000).batches(0)[0]
    found = []
    for loss_of in (predict_chunked, predict_targets()):
        loss = loss_of(model, batch)
        loss.total.backward()
        found.append([loss.total.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
        assert float(loss.count) == len(batch.labels)
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)


def test_rows_of_a_batch_do_not_see_each_other(tmp_path: Path) -> None:
    model = build(ModelConfig(SIZE, hidden_size=16, layers=2, attention_heads=2, intermediate_size=16)).eval()
    maker = causal(BORDERS)
    parts = maker([(np.array(ids), np.array(begins)) for ids, begins in rows(5)], np.random.default_rng(0))
    together, alone = pack(parts, segments=False), pack(parts[3:4], segments=False)
    hidden = model.body(model.embed(together.token_ids, together.layout), together.layout)
    own = hidden.split(list(together.layout.lengths))[3]
    torch.testing.assert_close(own, model.body(model.embed(alone.token_ids, alone.layout), alone.layout))
