"""What each head finds and loses, against brute force over all segmentations and label paths."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout
from hanformer.tasks.tag.batches import examples_of, pack
from hanformer.tasks.tag.cutting import Cutter, CutText, Window
from hanformer.tasks.tag.heads import HEADS, CrfHead, TagHead, best_cover, head_named
from hanformer.tasks.tag.labels import LabelSet, TokenSpan
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.train.losses.crf import crf
from hanformer.train.losses.memm import memm

SIZE = 6
TOKENIZER = WordPieceTokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地玄黄"]))
ENTITIES = LabelSet(("LOC", "PER"), "bmes")
WORDS = LabelSet(("word",), "bmes", outside=False)


def cut(length: int, window: int = 30, overlap: int = 2) -> CutText:
    return Cutter(TOKENIZER, "characters", window, overlap).cut(("天地玄黄" * 9)[:length])


def made(name: str, labels: LabelSet) -> TagHead:
    torch.manual_seed(3)
    head = head_named(name, SIZE, labels, rate=2.0, head_size=4)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def score_of_path(head: TagHead, emissions: Tensor, path: tuple[int, ...]) -> float:
    """What makes a path good, by the losses that were tested on their own."""
    layout, labels = Layout.of([len(path)]), torch.tensor(path)
    if isinstance(head, CrfHead) and type(head) is CrfHead:
        return -float(crf(emissions, labels, head.transitions.matrix, layout))
    if isinstance(head, CrfHead):
        return -float(memm(emissions, labels, head.transitions, layout).sum())
    return float(emissions.log_softmax(-1).gather(1, labels[:, None]).sum())


@pytest.mark.parametrize("labels", [ENTITIES, WORDS])
@pytest.mark.parametrize("name", ["softmax", "crf", "memm"])
@torch.no_grad()
def test_chains_find_the_best_of_all_legal_paths(name: str, labels: LabelSet) -> None:
    head = made(name, labels)
    cuts = [cut(length) for length in (4, 1, 3)]
    batch = pack([example for one in cuts for example in examples_of(one, [], labels)])
    emissions = head.split(head(torch.randn(batch.layout.total, SIZE), batch), batch)
    found = head.spans([[(one.windows[0], scores)] for one, scores in zip(cuts, emissions, strict=True)])
    for spans, scores in zip(found, emissions, strict=True):
        paths = product(range(len(labels)), repeat=len(scores))
        legal = (p for p in paths if tuple(labels.encode(labels.decode(p), len(p))) == p)
        best = max(legal, key=lambda path: score_of_path(head, scores, path))
        assert spans == labels.decode(best)


def segmentations(length: int) -> list[list[TokenSpan]]:
    found = []
    for cuts in product([False, True], repeat=length - 1):
        borders = [0, *(place for place, is_cut in enumerate(cuts, start=1) if is_cut), length]
        found.append([(0, a, b) for a, b in pairwise(borders)])
    return found


def test_words_of_pointers_are_the_best_of_all_segmentations() -> None:
    torch.manual_seed(0)
    for length in (1, 2, 5, 7):
        scores = torch.randn(1, length, length).masked_fill(
            torch.ones(length, length).tril(-1).bool(), -torch.inf
        )
        window = Window((2, *range(length), 3), (1, length + 1), 0, (0, length))
        best = max(segmentations(length), key=lambda s: sum(float(scores[0, a, b - 1]) for _, a, b in s))
        assert best_cover([(window, scores)]) == best


def test_words_are_found_across_windows() -> None:
    """Two windows whose scores are those of one text: the spans are those of the text, where windows hold them."""
    torch.manual_seed(1)
    whole = torch.randn(1, 9, 9).masked_fill(torch.ones(9, 9).tril(-1).bool(), -torch.inf)
    near = torch.arange(9)[None] - torch.arange(9)[:, None] < 2
    whole = whole.masked_fill(~near, -torch.inf)
    one = Window((), (1, 10), 0, (0, 9))
    left, right = Window((), (1, 7), 0, (0, 5)), Window((), (1, 6), 4, (5, 9))
    halves = [(left, whole[:, :6, :6]), (right, whole[:, 4:, 4:])]
    assert best_cover(halves) == best_cover([(one, whole)])


@pytest.mark.parametrize("name", ["global_pointer", "efficient_global_pointer"])
@torch.no_grad()
def test_pointers_find_what_scores_above_zero_once(name: str) -> None:
    head = made(name, ENTITIES)
    one = cut(12, window=10, overlap=4)
    batch = pack(examples_of(one, [], ENTITIES))
    scores = head(torch.randn(batch.layout.total, SIZE), batch)
    spans = head.spans([list(zip(one.windows, head.split(scores, batch), strict=True))])[0]
    wanted = [
        (kind, start + window.begin, end + window.begin + 1)
        for row, window in enumerate(one.windows)
        for kind in range(2)
        for start in range(window.owned[0] - window.begin, window.owned[1] - window.begin)
        for end in range(start, window.inner[1] - window.inner[0])
        if scores[row, kind, start, end] > 0
    ]
    assert len(one.windows) == 2 and spans == sorted(wanted, key=lambda span: span[1:] + span[:1])
    assert len(set(spans)) == len(spans) > 3


@pytest.mark.parametrize("labels", [ENTITIES, WORDS])
@pytest.mark.parametrize("name", HEADS)
def test_losses_fall_to_nothing_where_the_answer_is_certain(name: str, labels: LabelSet) -> None:
    """A little training of the head alone, on fixed hidden states, finds the spans that it is told."""
    torch.manual_seed(0)
    head = head_named(name, 16, labels, rate=1.0, head_size=8)
    gold = [(0, 0, 2), (0, 2, 3), (0, 3, 7)] if labels is WORDS else [(1, 0, 2), (0, 3, 4), (1, 5, 7)]
    one = cut(7)
    batch = pack(examples_of(one, gold, labels))
    hidden = torch.randn(batch.layout.total, 16)
    optimizer = torch.optim.Adam(head.parameters(), 0.05)
    for _ in range(120):
        loss = head.loss(head(hidden, batch), batch)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert float(loss.mean().detach()) < 0.3
    with torch.no_grad():
        found = head.spans([list(zip(one.windows, head.split(head(hidden, batch), batch), strict=True))])
    assert found == [gold]


def test_every_token_is_learned_in_one_window_and_no_span_twice() -> None:
    one = cut(20, window=12, overlap=4)
    gold = [(0, 0, 1), (0, 6, 9), (1, 8, 11), (0, 18, 20)]
    examples = examples_of(one, gold, LabelSet(("A", "B"), "bio"))
    assert sum(len(example.labels) for example in examples) == 20
    found = [
        (span.kind, span.start + example.window.begin, span.end + 1 + example.window.begin)
        for example in examples
        for span in example.spans
    ]
    assert found == gold
    batch = pack(examples)
    assert batch.owned.layout.lengths == tuple(len(example.labels) for example in examples)
    assert torch.equal(batch.begins.sum(1), torch.tensor(batch.owned.layout.lengths))
    inner = [TOKENIZER.vocabulary.tokens[i] for i in batch.inner.of(batch.token_ids[:, None])[:, 0]]
    assert "[CLS]" not in inner and "[SEP]" not in inner
    owned = [TOKENIZER.vocabulary.tokens[i] for i in batch.owned.of(batch.token_ids[:, None])[:, 0]]
    assert "".join(owned) == "天地玄黄" * 5


def test_weights_weigh_labels_and_kinds() -> None:
    one = cut(4)
    batch = pack(examples_of(one, [(1, 0, 2)], ENTITIES))
    hidden = torch.randn(batch.layout.total, SIZE)
    for name, count in (("softmax", len(ENTITIES)), ("memm", len(ENTITIES)), ("global_pointer", 2)):
        plain, heavy = made(name, ENTITIES), made(name, ENTITIES)
        heavy.weights = torch.full((count,), 3.0)
        left, right = (head.loss(head(hidden, batch), batch) for head in (plain, heavy))
        assert torch.allclose(right.total, 3 * left.total) and float(right.count) == 3 * float(left.count)
        heavy.weights = torch.zeros(count)
        assert float(heavy.loss(heavy(hidden, batch), batch).total.detach()) == 0
