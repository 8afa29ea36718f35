"""Scores of a corpus: means of the single ones, and sacrebleu's own numbers and signatures."""

from __future__ import annotations

import importlib.util
from statistics import fmean

import pytest
import sacrebleu

from hanformer.errors import UserError
from hanformer.tasks.rouge import rouge_l, rouge_n, sentence_bleu
from hanformer.tasks.scoring import corpus_scores, repetition_of, score_texts

WRITTEN = ["今天天气很好", "", "基于深度学习的文本分类", "好好好好"]
REFERENCES = ["今天天气不错", "我们去公园", "深度学习文本分类方法", "好"]


def test_corpus_scores_are_those_of_sacrebleu() -> None:
    found = score_texts(WRITTEN, REFERENCES).corpus
    assert found.bleu == sacrebleu.corpus_bleu(WRITTEN, [REFERENCES], tokenize="char").score > 0
    assert found.chrf == sacrebleu.corpus_chrf(WRITTEN, [REFERENCES]).score > 0
    assert "tok:char" in found.bleu_signature and "case:mixed" in found.bleu_signature
    assert "nc:6|nw:0" in found.chrf_signature
    for signature in (found.bleu_signature, found.chrf_signature):
        assert f"version:{sacrebleu.__version__}" in signature and "nrefs:1" in signature


def test_corpus_bleu_by_hand() -> None:
    """3/4, 2/3, no trigram and no more: smoothed as sacrebleu's default does, by 1/2 and 1/4 of a match."""
    found = corpus_scores(["今天天气"], ["今天气好"])
    assert found.bleu == pytest.approx(100 * (3 / 4 * 2 / 3 * (1 / 2) / 2 * (1 / 4) / 1) ** 0.25)


def test_means_over_texts_count_empty_ones() -> None:
    found = score_texts(WRITTEN, REFERENCES)
    pairs = list(zip(WRITTEN, REFERENCES, strict=True))
    assert found.texts == 4 and rouge_l(*pairs[1]) == sentence_bleu(*pairs[1]) == 0
    assert found.rouge_1 == pytest.approx(fmean(rouge_n(*pair, 1) for pair in pairs))
    assert found.rouge_2 == pytest.approx(fmean(rouge_n(*pair, 2) for pair in pairs))
    assert found.rouge_l == pytest.approx(fmean(rouge_l(*pair) for pair in pairs))
    assert found.sentence_bleu == pytest.approx(fmean(sentence_bleu(*pair) for pair in pairs))


def test_repetition_by_hand() -> None:
    # 好好好好: 1 - 4 different of 4 + 3 + 2 + 1 n-grams; 3 of 4 stand in the window; all lie in the bigram 好好.
    found = repetition_of(["好 好好好"])
    assert (found.ngrams, found.in_window, found.bigrams) == (pytest.approx(0.6), 0.75, 1.0)
    both = score_texts(WRITTEN, REFERENCES)
    assert both.repetition.ngrams > both.reference_repetition.ngrams


def test_tables_and_records_hold_every_number() -> None:
    found = score_texts(WRITTEN, REFERENCES)
    told, record = found.table(), found.to_dict()
    for value in (found.rouge_1, found.rouge_2, found.rouge_l, found.sentence_bleu, found.repetition.bigrams):
        assert f"{100 * value:.2f}" in told
    assert found.corpus.bleu_signature in told and f"{found.corpus.chrf:.2f}" in told
    assert record["corpus"]["bleu"] == found.corpus.bleu and record["texts"] == 4


def test_mistakes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="got 1 hypotheses and 2 references"):
        score_texts(["今"], ["今", "天"])
    with pytest.raises(UserError, match="at least 1 of each"):
        score_texts([], [])
    with pytest.raises(UserError, match="reference 2: expected some text"):
        score_texts(["今", "天"], ["今", " \t"])
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sacrebleu" else found(name)
    )
    with pytest.raises(UserError, match=r"pip install 'hanformer\[score\]'"):
        score_texts(["今"], ["今"])
