"""Labelled texts from the usual and the published files, and what is said about wrong ones."""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hanformer.errors import UserError
from hanformer.tasks.classify import ClassifyRecipe
from hanformer.tasks.classify.texts import open_texts, read_texts, read_unlabelled, rows_to_judge

ONE, MANY = ClassifyRecipe(valid=2), ClassifyRecipe(valid=2, loss="zlpr")


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def pairs(path: Path, recipe: ClassifyRecipe) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.text, row.labels) for row in read_texts(path, recipe)]


def test_forms_of_one_label(tmp_path: Path) -> None:
    expected = [("好书", ("1",)), ("差", ("0",))]
    for name, text in {
        "a.tsv": "好书\t1\n差\t0\n",
        "b.tsv": "label\ttext_a\n1\t好书\n0\t差\n",
        "c.csv": 'cat,label,review\n书,1,"好书"\n书,0,差\n',
        "d.json": '{"sentence": "好书", "label": 1}\n{"sentence": "差", "label": "0"}\n',
        "e.tsv": "\ufeff好书\t1\n差\t0\n",
        "g.csv": "类别,评论\n1,好书\n0,差\n",
    }.items():
        assert pairs(written(tmp_path, name, text), ONE) == expected
    turned = written(tmp_path, "f.tsv", "1\t好书\n0\t差\n")
    assert pairs(turned, replace(ONE, text="2", label="1")) == expected


def test_a_record_may_hold_sentences_with_a_label_each(tmp_path: Path) -> None:
    file = written(
        tmp_path, "a.json", '{"text": ["好书", "差"], "label": [1, 0]}\n{"text": "好", "label": 1}\n'
    )
    assert pairs(file, ONE) == [("好书", ("1",)), ("差", ("0",)), ("好", ("1",))]
    many = written(tmp_path, "b.json", '{"text": ["甲", "乙"], "label": [["书", "好"], []]}')
    assert pairs(many, MANY) == [("甲", ("书", "好")), ("乙", ())]
    for labels in ("[1]", "1"):
        wrong = written(tmp_path, "c.json", f'{{"text": ["好书", "差"], "label": {labels}}}')
        with pytest.raises(UserError, match="row 1: expected a label for each of the 2 texts"):
            read_texts(wrong, ONE)


def test_forms_of_many_labels(tmp_path: Path) -> None:
    expected = [("好书", ("a", "b")), ("差", ())]
    for name, text in {
        "a.tsv": "好书\ta|b|a\n差\t\n",
        "b.csv": "label,content\na|b,好书\n,差\n",
        "c.jsonl": '{"text": "好书", "label": ["a", "b"]}\n{"text": "差", "label": []}\n',
    }.items():
        assert pairs(written(tmp_path, name, text), MANY) == expected
    one_hot = written(tmp_path, "d.csv", "content,a,b,|\n好书,1,1,0\n差,0,0,0\n")
    assert pairs(one_hot, replace(MANY, label="*")) == expected
    slashes = written(tmp_path, "e.tsv", "好书\ta/b\n差\t|\n")
    assert pairs(slashes, replace(MANY, separator="/")) == [("好书", ("a", "b")), ("差", ("|",))]


@pytest.mark.parametrize(
    ("text", "recipe", "said"),
    [
        ("好\t1\n \t0\n", ONE, "row 2: expected a text that is not empty"),
        ("好\t1\n差\t\n", ONE, "row 2: expected one label, got ''"),
        ("好\t1\n差\n", replace(ONE, label="2"), "row 2 has 1 columns, too few for text and label"),
        ("", ONE, "holds no rows"),
        (
            "text\ta\n好\t2\n",
            replace(MANY, label="*"),
            "row 2: expected 0 or 1 in the columns of classes, got '2'",
        ),
        ("a\tb\n好\t1\n", replace(MANY, label="*"), "needs a first row with a name for the text"),
        ("好\t1\n差\t0\n", replace(ONE, label="sentiment"), "no column 'sentiment'"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, text: str, recipe: ClassifyRecipe, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_texts(written(tmp_path, "wrong.tsv", text), recipe)


def test_a_few_rows_without_a_text_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "flawed.tsv", f"{rows(150)}\ufeff\t1\n")
    with pytest.warns(UserWarning, match="1 rows without a text are left out, the first is row 151"):
        assert len(read_texts(path, ONE)) == 150
    with pytest.raises(UserError, match="record 1: expected a text, got 5|row 1: expected a text, got 5"):
        read_texts(written(tmp_path, "number.json", '{"text": 5, "label": 1}'), ONE)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "gbk.tsv").write_bytes("好书\t1\n".encode("gbk"))
    with pytest.raises(UserError, match=r"gbk.tsv: line 1 is not UTF-8"):
        open_texts(tmp_path / "gbk.tsv", ONE)


def rows(count: int) -> str:
    return "".join(f"文{number}\t{number % 2}\n" for number in range(count))


def test_data_sets_are_divided(tmp_path: Path) -> None:
    whole = written(tmp_path, "all.tsv", rows(20))
    data = open_texts(whole, ONE)
    assert len(data.train) == 18 and len(data.valid) == 2 and data.names.names == ("0", "1")
    assert {row.row for row in data.train} | {row.row for row in data.valid} == set(range(1, 21))
    assert len(open_texts(whole, replace(ONE, limit=5)).train) == 5
    named = open_texts(whole, ONE, valid_file=written(tmp_path, "other.tsv", rows(3)))
    assert len(named.train) == 20 and len(named.valid) == 2
    with pytest.raises(UserError, match="20 rows, 20 are held out"):
        open_texts(whole, replace(ONE, valid=20))
    splits = "split\ttext\tlabel\ntrain\t甲\t1\ntrain\t乙\t0\ndev\t丙\t1\ntest\t丁\t0\n"
    column = written(tmp_path, "splits.tsv", splits)
    data = open_texts(column, ONE)
    assert [row.text for row in (*data.train, *data.valid)] == ["甲", "乙", "丙"]
    assert [row.text for row in rows_to_judge(column, lambda file: read_texts(file, ONE))] == ["丁"]


def test_zips_are_read_as_the_folders_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("train", 6), ("valid", 2), ("test", 4)):
            archive.writestr(f"set/set.{split}.data", rows(count))
        archive.writestr("__MACOSX/set.train.data", "nothing")
    data = open_texts(path, ONE)
    assert (len(data.train), len(data.valid)) == (6, 2)
    assert len(rows_to_judge(path, lambda file: read_texts(file, ONE))) == 4
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("only.csv", "label,review\n1,\n")
    with pytest.raises(UserError, match=r"set.zip.*only.csv: row 2: expected a text"):
        open_texts(path, ONE)
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"set.zip: cannot be unpacked"):
        open_texts(path, ONE)


def test_tabs_under_the_name_of_csv(tmp_path: Path) -> None:
    path = written(tmp_path, "train.csv", rows(6))
    assert {row.labels for row in open_texts(path, ONE).train} == {("0",), ("1",)}
    written(tmp_path, "train.csv", "文\t1\n文\t\n")
    with pytest.raises(UserError, match=r"train.csv: row 2: expected one label"):
        open_texts(path, ONE)


def test_classes_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path, "all.tsv", rows(20))
    names = written(tmp_path, "class.txt", "bad\ngood\n")
    data = open_texts(path, replace(ONE, classes=str(names)))
    assert data.names.names == ("bad", "good")
    with pytest.raises(UserError, match=r"row \d+: the label '1' is none of the 2 classes"):
        open_texts(path, replace(ONE, classes=str(written(tmp_path, "c.txt", "0\n2\n"))))
    with pytest.raises(UserError, match="1 classes have no training row"):
        open_texts(path, replace(ONE, classes=str(written(tmp_path, "d.txt", "0\n1\n2\n"))))
    valid = written(tmp_path, "more.tsv", "文\t7\n")
    with pytest.warns(UserWarning, match=r"1 classes have no training row \(7\); they are never predicted"):
        assert open_texts(path, ONE, valid_file=valid).names.names == ("0", "1", "7")
    with pytest.raises(UserError, match="a label of its own"):
        open_texts(path, replace(ONE, label="1", text="2"))


def test_classes_that_the_limit_leaves_out_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "".join(f"文{n}\t{n % 3}\n" for n in range(30)))
    with pytest.warns(UserWarning, match="with limit=2 . classes have no training row"):
        data = open_texts(path, replace(ONE, limit=2))
    assert len(data.names) == 3 and len(data.train) == 2


def test_texts_without_labels(tmp_path: Path) -> None:
    assert read_unlabelled(written(tmp_path, "a.txt", "好\n差\n")) == ["好", "差"]
    assert read_unlabelled(written(tmp_path, "b.tsv", "label\ttext\n1\t好\n")) == ["好"]
    several = written(tmp_path, "d.json", '{"text": ["好书", "差"], "label": [1, 0]}\n{"text": "好"}\n')
    assert read_unlabelled(several) == ["好书", "差", "好"]
    with pytest.raises(UserError, match="holds no texts"):
        read_unlabelled(written(tmp_path, "c.txt", "\n"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "magic"}, "loss: expected one of"),
        ({"pooling": "max"}, "pooling"),
        ({"class_weights": "inverse"}, "class_weights"),
        ({"class_weights": "balanced", "loss": "zlpr"}, "balances classes by itself"),
        ({"label_smoothing": 0.1, "loss": "zlpr"}, "label_smoothing"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"freeze": 1}, "pretrained"),
        ({"thresholds": "tuned"}, "thresholds: are for many labels"),
        ({"thresholds": "best", "loss": "zlpr"}, "thresholds: expected one of"),
        ({"label": "*"}, "many labels"),
        ({"separator": "", "loss": "zlpr"}, "separator"),
        ({"tricks": ("tea_forn",)}, "tea_forn"),
        ({"tricks": ("magic",)}, "magic"),
        ({"penalty": "mean"}, "penalty"),
        ({"unlabelled_strength": 0.0}, "unlabelled_strength"),
        ({"maximum_length": 4}, "maximum_length"),
        ({"token_budget": 100}, "token_budget"),
    ],
)
def test_choices_that_contradict_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(ClassifyRecipe(), **changes)


def told_of_headers(path: Path, recipe: ClassifyRecipe = ONE) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_texts(path, recipe)
    return [str(warning.message) for warning in caught if "first row" in str(warning.message)]


def test_a_first_row_that_may_be_a_header_is_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    rows = "好书\t好\n差\t坏\n很好\t好\n很差\t坏\n" * 5
    path = written(tmp_path, "a.tsv", "正文 一\t情感\n" + rows)
    (said,) = told_of_headers(path)
    assert "no other has its label '情感'" in said and "--set 'text=正文 一' --set 'label=情感'" in said
    named = replace(ONE, text="正文 一", label="情感")
    assert not told_of_headers(path, named) and pairs(path, named)[0] == ("好书", ("好",))
    long = "这是第一行，也是一条很长的评论，不会是表头，因为它太长了"
    for name, text in {
        "plain.tsv": rows,
        "long.tsv": f"{long}\t情感\n{rows}",
        "number.tsv": f"正文\t7\n{rows}",
        "repeated.tsv": f"正文\t情感\n{rows}文章\t情感\n",
        "named.tsv": f"text\tlabel\n正文\t情感\n{rows}",
    }.items():
        assert not told_of_headers(written(tmp_path, name, text)), name
    read_texts(path, ONE)
    assert not recwarn.list
