"""Spans and tags, labels and their legal paths, windows and the way back: each against its definition."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.tasks.tag.cutting import Cutter
from hanformer.tasks.tag.labels import LabelSet, TokenSpan
from hanformer.tasks.tag.spans import TextSpan, cut_at, of_words, overlapping, spans_of_tags
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer

TOKENIZER = WordPieceTokenizer(
    Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地玄黄，１a", "20", "##0", "##1"]),
    lowercase=True,
)
SETS = [
    LabelSet(("LOC", "PER"), "bio"),
    LabelSet(("LOC", "PER"), "bmes"),
    LabelSet(("word",), "bmes", outside=False),
]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-A I-A O B-B", [("A", 0, 2), ("B", 3, 4)]),
        ("I-A I-A I-B", [("A", 0, 2), ("B", 2, 3)]),
        ("B-A B-A", [("A", 0, 1), ("A", 1, 2)]),
        ("B-A M-A E-A S-A", [("A", 0, 3), ("A", 3, 4)]),
        ("B-A L-A U-A I-A", [("A", 0, 2), ("A", 2, 3), ("A", 3, 4)]),
        ("B-A O I-A", [("A", 0, 1), ("A", 2, 3)]),
        ("E-A E-A O", [("A", 0, 1), ("A", 1, 2)]),
        ("B E S B M E", [("", 0, 2), ("", 2, 3), ("", 3, 6)]),
        ("B-x-y I-x-y", [("x-y", 0, 2)]),
        ("O O", []),
    ],
)
def test_tags_stand_for_spans(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert spans_of_tags(tags.split()) == spans


@pytest.mark.parametrize("tag", ["", "X", "PER", "B-", "-PER", "O-PER", "BI-PER"])
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(UserError, match="expected a tag"):
        spans_of_tags(["O", tag])


@given(st.lists(st.sampled_from(["O", *(f"{a}-{b}" for a in "BI" for b in "XY")]), max_size=8))
@settings(deadline=None, derandomize=True)
def test_spans_of_bio_tags_agree_with_seqeval(tags: list[str]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    assert spans_of_tags(tags) == [
        (kind, first, last + 1) for kind, first, last in seqeval.get_entities(tags)
    ]


def flat_spans(length: int, kinds: int, covering: bool) -> st.SearchStrategy[list[TokenSpan]]:
    """Spans that do not overlap, between some borders."""

    def spans(borders: set[int], chosen: list[int]) -> list[TokenSpan]:
        ends = sorted({0, *borders, length})
        made = [(kind, a, b) for kind, a, b in zip(chosen, ends[:-1], ends[1:], strict=False)]
        return made if covering else [span for span in made if span[0] >= 0]

    low = 0 if covering else -1
    return st.builds(
        spans,
        st.sets(st.integers(1, length - 1)),
        st.lists(st.integers(low, kinds - 1), min_size=length, max_size=length),
    )


@pytest.mark.parametrize("labels", SETS)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_labels_say_what_spans_say(labels: LabelSet, data: st.DataObject) -> None:
    spans = data.draw(flat_spans(9, len(labels.kinds), not labels.outside))
    named = labels.encode(spans, 9)
    assert labels.decode(named) == spans
    assert named[0] in labels.starts and named[-1] in labels.ends
    assert all(labels.legal[a, b] == 0 for a, b in pairwise(named))


@pytest.mark.parametrize("labels", SETS)
def test_legal_paths_are_those_that_spans_can_have(labels: LabelSet) -> None:
    legal = labels.legal
    for path in product(range(len(labels)), repeat=3):
        allowed = path[0] in labels.starts and path[-1] in labels.ends
        allowed = allowed and all(legal[a, b] > -math.inf for a, b in pairwise(path))
        assert allowed == (tuple(labels.encode(labels.decode(path), 3)) == path)


def test_words_keep_every_character() -> None:
    text = of_words(["天地", "玄", "黄"])
    assert text.text == "天地玄黄" and text.words == ["天地", "玄", "黄"]
    assert cut_at("天地玄", [1, 1, 0]) == ["天", "地玄"] and cut_at("", [0]) == []


def test_overlaps_are_found() -> None:
    first, inner, later = TextSpan("A", 0, 4), TextSpan("B", 1, 2), TextSpan("A", 4, 5)
    assert overlapping([later, first]) is None
    assert overlapping([later, inner, first]) == (first, inner)


@given(st.text("天地 玄a\U0001f600é", max_size=40), st.integers(3, 12), st.integers(0, 9))
@settings(deadline=None, derandomize=True)
def test_windows_own_every_character_once(text: str, length: int, overlap: int) -> None:
    cut = Cutter(TOKENIZER, "characters", length, min(overlap, length - 3)).cut(text)
    assert list(cut.offsets) == [(place, place + 1) for place in range(len(text))]
    whole = TOKENIZER.vocabulary
    ids: list[int] = []
    for window in cut.windows:
        assert len(window.ids) <= length and window.ids[0] == whole.cls_id and window.ids[-1] == whole.sep_id
        assert window.owned[0] == len(ids) and window.owned[1] > window.owned[0]
        shift = window.inner[0] - window.begin
        assert window.inner[0] <= window.owned[0] + shift < window.owned[1] + shift <= window.inner[1]
        ids.extend(window.ids[window.owned[0] + shift : window.owned[1] + shift])
    single = [TOKENIZER.encode(one, special_tokens=False).ids for one in text]
    assert ids == [found[0] if len(found) == 1 else whole.unk_id for found in single]


def test_a_token_is_owned_by_the_window_in_which_it_stands_deepest() -> None:
    cut = Cutter(TOKENIZER, "characters", 10, 4).cut("天" * 15)
    assert [(w.begin, w.owned) for w in cut.windows] == [(0, (0, 6)), (4, (6, 10)), (8, (10, 15))]


def test_characters_of_another_width_are_known() -> None:
    ids = Cutter(TOKENIZER, "characters", 20, 0).cut("1１,，Ａ").windows[0].ids
    assert TOKENIZER.vocabulary.tokens_of(ids[1:-1]) == ["１", "１", "，", "，", "a"]


def test_pieces_of_several_characters_widen_spans() -> None:
    cut = Cutter(TOKENIZER, "pieces", 20, 4).cut("天 201地")
    assert list(cut.offsets) == [(0, 1), (2, 4), (4, 5), (5, 6)]
    spans = [TextSpan("A", 0, 1), TextSpan("B", 3, 6)]
    tokens = cut.to_tokens(spans, {"A": 0, "B": 1})
    assert tokens == [(0, 0, 1), (1, 1, 4)]
    assert cut.to_text(tokens, ["A", "B"]) == [spans[0], TextSpan("B", 2, 6)]
    assert cut.to_tokens([TextSpan("A", 1, 2)], {"A": 0}) == []
