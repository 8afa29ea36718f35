"""Scores of generated Chinese: ROUGE, BLEU and chrF by character, and how much it repeats itself.

生成文本的评分：按字的 ROUGE、BLEU、chrF，以及重复率。
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from hanformer.errors import UserError
from hanformer.tasks.rouge import characters, rouge_l, rouge_n, sentence_bleu
from hanformer.theory.repetition import repeated_bigrams, repeated_in_window, repeated_ngrams


@dataclass(frozen=True)
class CorpusScores:
    """BLEU by character and chrF of a whole corpus, 0 to 100, with sacrebleu's signatures. 语料级得分与签名。"""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


@dataclass(frozen=True)
class Repetition:
    """Means over texts, by character: rep-w, seq-rep-n (1- to 4-grams together), rep-r of `theory.repetition`.

    重复率的平均。
    """

    in_window: float
    ngrams: float
    bigrams: float


@dataclass(frozen=True)
class TextScores:
    """What `score_texts` measures; ROUGE and sentence BLEU are means over texts, 0 to 1.

    评分结果；ROUGE 与单句 BLEU 为各文本的平均（0 到 1）。

    `repetition` is that of the hypotheses, `reference_repetition` what the references have themselves.
    """

    texts: int
    rouge_1: float
    rouge_2: float
    rouge_l: float
    sentence_bleu: float
    corpus: CorpusScores
    repetition: Repetition
    reference_repetition: Repetition

    def to_dict(self) -> dict[str, object]:
        """All of it, for JSON. 转为字典。"""
        return asdict(self)

    def table(self) -> str:
        """All of it as lines to read, in hundredths. 供阅读的表格（百分制）。"""
        shares = (
            ("ROUGE-L", self.rouge_l),
            ("ROUGE-1", self.rouge_1),
            ("ROUGE-2", self.rouge_2),
            ("sentence BLEU", self.sentence_bleu),
        )
        lines = [f"{name:<15}{100 * value:8.2f}" for name, value in shares]
        lines += [
            f"{'corpus BLEU':<15}{self.corpus.bleu:8.2f}   {self.corpus.bleu_signature}",
            f"{'chrF':<15}{self.corpus.chrf:8.2f}   {self.corpus.chrf_signature}",
        ]
        names = (("rep-w", "in_window"), ("seq-rep-n", "ngrams"), ("rep-r", "bigrams"))
        for name, field in names:
            ours, theirs = (
                100 * getattr(side, field) for side in (self.repetition, self.reference_repetition)
            )
            lines.append(f"{name:<15}{ours:8.2f}   (references {theirs:.2f})")
        return "\n".join(lines)


def score_texts(hypotheses: Sequence[str], references: Sequence[str]) -> TextScores:
    """Scores hypotheses against one reference each, character by character.

    逐条与参考文本比较，按字评分。

    ROUGE and sentence BLEU follow the conventions of `tasks.rouge`; an empty hypothesis scores 0 in them and counts.
    Corpus BLEU (13a's place is taken by characters) and chrF are sacrebleu's, which sees the texts as they are.
    Raises UserError where numbers differ, there is no text, a reference is empty, or sacrebleu is not installed.
    Source: kexue.fm/archives/7867; Post 2018, arXiv 1804.08771; Popović 2015, chrF.
    """
    _check(hypotheses, references)
    corpus = corpus_scores(hypotheses, references)
    return TextScores(
        texts=len(references),
        rouge_1=_mean(lambda ours, theirs: rouge_n(ours, theirs, 1), hypotheses, references),
        rouge_2=_mean(lambda ours, theirs: rouge_n(ours, theirs, 2), hypotheses, references),
        rouge_l=_mean(rouge_l, hypotheses, references),
        sentence_bleu=_mean(sentence_bleu, hypotheses, references),
        corpus=corpus,
        repetition=repetition_of(hypotheses),
        reference_repetition=repetition_of(references),
    )


def _mean(
    measure: Callable[[str, str], float], hypotheses: Sequence[str], references: Sequence[str]
) -> float:
    return fmean(measure(ours, theirs) for ours, theirs in zip(hypotheses, references, strict=True))


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not references:
        raise UserError(
            f"expected as many hypotheses as references, at least 1 of each; got {len(hypotheses)} hypotheses "
            f"and {len(references)} references"
        )
    empty = [number for number, text in enumerate(references, start=1) if not characters(text)]
    if empty:
        raise UserError(
            f"reference {empty[0]}: expected some text, got an empty one; nothing can be scored by it"
        )


def corpus_scores(hypotheses: Sequence[str], references: Sequence[str]) -> CorpusScores:
    """sacrebleu's BLEU by character and chrF, with their signatures. 语料级 BLEU（按字）与 chrF。

    Raises UserError where sacrebleu is not installed. Source: Post 2018, arXiv 1804.08771.
    """
    if importlib.util.find_spec("sacrebleu") is None:
        raise UserError("scoring needs sacrebleu: pip install 'hanformer[score]'")
    metrics = importlib.import_module("sacrebleu.metrics")
    found = []
    for metric in (metrics.BLEU(tokenize="char"), metrics.CHRF()):
        score = metric.corpus_score(list(hypotheses), [list(references)]).score
        found.append((float(score), str(metric.get_signature())))
    (bleu, bleu_signature), (chrf, chrf_signature) = found
    return CorpusScores(bleu, chrf, bleu_signature, chrf_signature)


def repetition_of(texts: Sequence[str]) -> Repetition:
    """How much texts repeat themselves, by character, in the mean. 平均重复率。"""
    rows = [characters(text) for text in texts]
    return Repetition(
        fmean(map(repeated_in_window, rows)),
        fmean(map(repeated_ngrams, rows)),
        fmean(map(repeated_bigrams, rows)),
    )
