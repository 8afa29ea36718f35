"""Treebanks: both notations, what is left out, and the published figures of the baselines."""

from __future__ import annotations

from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.parsing.brackets import Brackets
from hanformer.parsing.branching import BASELINES
from hanformer.parsing.scoring import most_possible, unlabelled_f1
from hanformer.parsing.treebank import CURRENCY, DROPPED, penn_trees, read_treebank, sinica_tree

PENN = """
( (S
    (NP-SBJ (NP (NNP Kim) (NNP Lee)) (, ,) (ADJP (NP (CD 61) (NNS years)) (JJ old)) (, ,))
    (VP (MD will) (VP (VB pay) (NP ($ $) (CD 5)) (NP (-NONE- *T*))))
    (. .)))
( (X (NN Stop)) (. .) )
"""
SINICA = "#110:110.[39122] PP(Head:P16:當|DUMMY:NP(quantifier:DM:同一條|Head:Nab:巷子))#，(COMMACATEGORY)"


def test_penn_brackets_without_signs_and_traces(tmp_path: Path) -> None:
    path = tmp_path / "small.mrg"
    path.write_text(PENN, encoding="utf-8")
    first, second = read_treebank(path)
    assert first.text() == "(((Kim Lee) ((61 years) old)) (will (pay ($ 5))))"
    assert second.words == ("Stop",) and not second.spans
    without = read_treebank(path, DROPPED | CURRENCY)[0]
    assert without.text() == "(((Kim Lee) ((61 years) old)) (will (pay 5)))"
    assert [tree.words for tree in read_treebank(path, longest=8)] == [("Stop",)]
    assert read_treebank(tmp_path) == [first, second]
    assert [leaf.tag for leaf in next(penn_trees(PENN)).leaves].count("-NONE-") == 1


def test_a_line_of_the_sinica_treebank() -> None:
    tree = sinica_tree(SINICA).brackets(frozenset())
    assert tree.text() == "(當 (同一條 巷子))"
    assert [leaf.tag for leaf in sinica_tree(SINICA).leaves] == ["P16", "DM", "Nab"]
    assert sinica_tree("#1:1.[7] Nab:嗎#。(X)").brackets(frozenset()) == Brackets.of(["嗎"], [])


def test_tags_of_the_chinese_treebank_s_files_are_no_words(tmp_path: Path) -> None:
    path = tmp_path / "chtb.mrg"
    path.write_text("<DOC>\n<S ID=1>\n( (IP (NN 上海) (VV 开放) (PU 。)) )\n</S>\n</DOC>\n", encoding="utf-8")
    (tree,) = read_treebank(path)
    assert tree.words == ("上海", "开放")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("( (S (NN a) (VB b))", "1 brackets are never closed"),
        ("( (S (NN a)))) ", "closes that never opened"),
        ("( (S (NN a)) )\nhello world", "'hello' stands outside of brackets"),
        ("((the cat) sleeps)", "'sleeps' stands beside brackets; expected .tag word."),
        ("( (S (NP the cat here) (VB b)) )", r"'cat' stands beside \['NP', 'the'\]"),
        ("( (S (NP the cat (NN b))) )", r"'cat' stands beside \['NP', 'the'\]"),
        ("( (S (NP the (NN b))) )", r"holds \['NP', 'the'\] and brackets"),
        ("( (S (NP) (NN b)) )", r"holds \['NP'\]; expected"),
        ("( (S () (NN b)) )", r"holds \[\]; expected"),
        ("hello", "begin with \\( or #, got 'hello'"),
        ("#1 S(Head:a)", "line 1: expected #number tree#sign"),
        ("#1:1. S(Head:V:a#。", "never closed"),
        ("#1:1. Head:V:a)#。", "closes that never opened"),
        ("", "expected trees in brackets, found none"),
    ],
)
def test_what_is_no_treebank_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.mrg"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_treebank(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mrg").write_bytes(b"(S \xff)")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_treebank(tmp_path / "a.mrg")


#: WSJ10 of the NLTK sample: corpus F1 and mean sentence F1 by convention, as computed independently.
PUBLISHED = {
    "counted": {"right": (63.65, 66.80), "left": (29.49, 34.93), "upper": (88.01, None)},
    "excluded": {"right": (55.38, 59.52), "left": (13.45, 18.93), "upper": (85.29, None)},
}


def test_baselines_on_the_sample_of_the_penn_treebank(data_folder: Path) -> None:
    trees = read_treebank(data_folder / "constituency" / "treebank.zip")
    assert (len(trees), sum(len(tree.words) > 1 for tree in trees)) == (3914, 3901)
    gold = [tree for tree in trees if len(tree.words) <= 10]
    assert (len(gold), sum(len(tree.words) > 1 for tree in gold)) == (537, 524)
    for convention, expected in PUBLISHED.items():
        for name, (corpus, sentences) in expected.items():
            guess = most_possible(gold) if name == "upper" else [BASELINES[name](tree.words) for tree in gold]
            score = unlabelled_f1(gold, guess, convention)
            assert score.corpus == pytest.approx(corpus, abs=0.006)
            assert sentences is None or score.sentences == pytest.approx(sentences, abs=0.006)
    without = read_treebank(data_folder / "constituency" / "treebank.zip", DROPPED | CURRENCY)
    short = [tree for tree in without if len(tree.words) <= 10]
    right = unlabelled_f1(short, [BASELINES["right"](tree.words) for tree in short])
    assert len(short) == 555 and right.corpus == pytest.approx(63.26, abs=0.006)


def test_the_sinica_treebank(data_folder: Path) -> None:
    trees = read_treebank(data_folder / "constituency" / "sinica_treebank.zip", frozenset())
    assert len(trees) == 10000 and trees[2].text() == "((嘉珍 和 我) 住在 (同一條 巷子))"
    assert abs(sum(len(tree.words) for tree in trees) - 91_600) < 100
