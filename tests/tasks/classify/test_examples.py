"""Windows, batches and mean scores against naive forms; the model against the padded Transformer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from hanformer.errors import UserError
from hanformer.tasks.classify.examples import (
    Examples,
    class_labels,
    pack,
    text_windows,
    unlabelled_examples,
    windows_of_pair,
)
from hanformer.tasks.classify.model import make_classifier, scores_of
from hanformer.tasks.text_recipe import make_tokenizer
from tests.tasks.classify.toy import NOISE, RECIPE

LENGTH, OVERLAP = 16, 4
TOKENIZER = make_tokenizer(RECIPE, [NOISE * 2])
CHARACTERS = some.text(NOISE, min_size=1, max_size=60)


@settings(deadline=None, derandomize=True)
@given(CHARACTERS)
def test_windows_hold_every_token(text: str) -> None:
    windows = text_windows(TOKENIZER, text, LENGTH, OVERLAP)
    whole = TOKENIZER.encode(text, special_tokens=False).ids
    found = list(windows[0].ids[1:-1])
    for window in windows[1:]:
        assert list(window.ids[1 : 1 + OVERLAP]) == found[-OVERLAP:]
        found += window.ids[1 + OVERLAP : -1]
    assert found == whole and all(len(window.ids) <= LENGTH for window in windows)


@settings(deadline=None, derandomize=True)
@given(CHARACTERS, CHARACTERS)
def test_windows_of_pairs_keep_the_first_text(first: str, second: str) -> None:
    windows = windows_of_pair(TOKENIZER, first, second, LENGTH, OVERLAP)
    assert all(len(window.ids) <= LENGTH for window in windows)
    whole = TOKENIZER.encode_pair(first, second)
    if len(whole) <= LENGTH:
        assert [list(window.ids) for window in windows] == [whole.ids]
    border = [list(window.segments).index(1) for window in windows]
    assert len(set(border)) == 1
    if border[0] == len(first) + 2:
        tails = ["".join(TOKENIZER.decode(window.ids[border[0] : -1])) for window in windows]
        # Whole windows cover the second text; cut ones are a single window.
        assert len(windows) == 1 or (second.startswith(tails[0]) and second.endswith(tails[-1]))


@settings(deadline=None, derandomize=True, max_examples=20)
@given(some.lists(CHARACTERS, min_size=1, max_size=6), some.integers(LENGTH, 80))
def test_scores_are_means_over_windows_whatever_the_batches(texts: list[str], budget: int) -> None:
    torch.manual_seed(0)
    model = make_classifier(RECIPE, TOKENIZER, 3).eval()
    rows = [text_windows(TOKENIZER, text, LENGTH, OVERLAP) for text in texts]
    with torch.no_grad():
        found = unlabelled_examples(rows).scores(lambda batch: scores_of(model, batch), budget)
        naive = [
            torch.stack([model(pack([window], torch.zeros(1)))[0] for window in row]).mean(0) for row in rows
        ]
    assert torch.allclose(found, torch.stack(naive), atol=1e-5)


def test_an_epoch_draws_one_window_of_each_and_the_same_ones_again() -> None:
    rows = [text_windows(TOKENIZER, NOISE * count, LENGTH, OVERLAP) for count in (1, 6, 9)]
    source = Examples(rows, torch.tensor([0, 1, 2])).batches(48, seed=3)
    seen: dict[int, set[tuple[int, ...]]] = {0: set(), 1: set(), 2: set()}
    for epoch in range(30):
        first, again = ([*source.batches(epoch)] for _ in range(2))
        assert sum(len(batch.labels) for batch in first) == 3
        for batch, same in zip(first, again, strict=True):
            assert torch.equal(batch.token_ids, same.token_ids)
            for ids, label in zip(
                batch.token_ids.split(list(batch.layout.lengths)), batch.labels.tolist(), strict=True
            ):
                seen[label].add(tuple(ids.tolist()))
    assert [len(found) for found in seen.values()] == [len({tuple(w.ids) for w in row}) for row in rows]


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "pooled"])
def test_the_classifier_is_a_linear_map_of_the_pooled_text(pooling: str) -> None:
    torch.manual_seed(0)
    model = make_classifier(replace(RECIPE, pooling=pooling), TOKENIZER, 3).eval()
    rows = [text_windows(TOKENIZER, text, LENGTH, OVERLAP)[0] for text in (NOISE, NOISE[:2])]
    lengths = [len(row.ids) for row in rows]
    ids = torch.zeros(2, max(lengths), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : lengths[place]], mask[place, : lengths[place]] = torch.tensor(list(row.ids)), 1
    with torch.no_grad():
        output = model.transformer(ids, attention_mask=mask)
        pooled = {
            "cls": output.sequence[:, 0],
            "mean": output.sequence.sum(1) / mask.sum(1, keepdim=True),
            "last": output.sequence[torch.arange(2), mask.sum(1) - 1],
            "pooled": output.pooled,
        }[pooling]
        expected = model.classifier.dense(pooled)
        assert torch.allclose(model(pack(rows, torch.zeros(2))), expected, atol=1e-5)


def test_labels_take_the_form_of_their_loss() -> None:
    targets = torch.tensor([[False, True], [True, False]])
    assert class_labels(targets, many=False).tolist() == [1, 0]
    assert class_labels(targets, many=True).dtype == torch.float32


def test_pieces_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="maximum_length"):
        text_windows(TOKENIZER, NOISE, 2, 0)
