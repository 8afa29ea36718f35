"""train classify and train pair as a user calls them, with evaluate and predict after; mistakes are exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.tasks.classify.toy import one_label, write_rows

MACHINE = ("--device", "cpu", "--threads", "1")
SMALL = [
    *("--set", "hidden_size=16", "--set", "layers=1", "--set", "attention_heads=2", "--set", "updates=3"),
    *("--set", "minimum_count=1", "--set", "valid=10", "--set", "precision=fp32"),
]


def test_classify_from_file_to_answer(tmp_path: Path, run: Run) -> None:
    data, out = write_rows(tmp_path / "all.tsv", one_label(40, 0)), tmp_path / "run"
    texts = tmp_path / "texts.txt"
    texts.write_text("甲乙丙\n丁戊\n", encoding="utf-8")
    code, said, _ = run(
        *("train", "classify", "--data", data, "--out", out, "--loss", "focal", "--unlabelled", texts),
        *("--trick", "fgm", "--average", "ema", "--optimizer", "adax", *SMALL, *MACHINE),
    )
    assert code == 0 and "30 texts to train on, 10 to choose by, 3 classes, 2 texts without labels" in said
    code, said, _ = run("evaluate", out, "--data", data, *MACHINE, "--out", tmp_path / "rows.jsonl")
    assert code == 0 and "macro_f1" in said
    assert len((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 40
    code, said, _ = run("predict", out, "天甲", *MACHINE)
    assert code == 0 and said.split()[0] in "天地玄"


def test_pair_from_file_to_answer(tmp_path: Path, run: Run) -> None:
    data, out = tmp_path / "all.tsv", tmp_path / "run"
    data.write_text("".join(f"甲{n}\t乙{n}\t{n % 2}\n" for n in range(40)), encoding="utf-8")
    falling = ("--set", "schedule=piecewise", "--set", "knots=0:1,3:0.5")
    code, said, _ = run(
        "train", "pair", "--data", data, "--out", out, "--loss", "cosent", *falling, *SMALL, *MACHINE
    )
    assert code == 0 and "30 pairs to train on, 10 to choose by" in said
    code, said, _ = run("evaluate", out, "--data", data, *MACHINE)
    assert code == 0 and "spearman" in said
    code, said, error = run("predict", out, "甲\t乙", "甲", *MACHINE)
    assert code == 2 and -1 <= float(said) <= 1 and r"printf 'FIRST\tSECOND\n' |" in error


def test_a_validation_file_is_a_choice_of_the_run(tmp_path: Path, run: Run) -> None:
    data, valid = (write_rows(tmp_path / f"{name}.tsv", one_label(40, 0)) for name in ("all", "held"))
    first, again = (
        ("train", "classify", "--data", data, "--out", tmp_path / out, *MACHINE) for out in ("first", "again")
    )
    code, said, _ = run(*first, "--valid", valid, *SMALL)
    assert code == 0 and "40 texts to train on, 10 to choose by" in said
    code, said, _ = run(*again, "--recipe", tmp_path / "first" / "run.toml")
    assert code == 0 and "40 texts to train on, 10 to choose by" in said
    code, _, said = run(*first, "--valid", data, *SMALL, "--resume")
    assert code == 2 and "recipe.valid_file" in said
    write_rows(valid, one_label(40, 1))
    code, _, said = run(*first, "--valid", valid, *SMALL, "--resume")
    assert code == 2 and f"not what the run began with: {valid}" in said


def test_warnings_are_lines(tmp_path: Path, run: Run) -> None:
    data = write_rows(tmp_path / "all.tsv", one_label(40, 0))
    made = ("train", "classify", "--data", data, "--out", tmp_path / "run", "--set", "limit=1")
    code, _, said = run(*made, *SMALL, *MACHINE)
    line = next(line for line in said.splitlines() if "with limit=1 2 classes have no training row" in line)
    assert code == 0 and line.startswith(f"warning: {data}: ") and ".py" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("classify", "--loss", "magic"), "loss: expected one of"),
        (("classify", "--set", "freeze=2"), "freeze keeps layers of a pretrained model"),
        (("classify", "--unlabelled", "nothing.txt"), "nothing.txt: no such file"),
        (("pair", "--loss", "zlpr"), "loss: expected one of"),
        (("pair", "--loss", "simcse", "--trick", "vat"), "vat: has no meaning here"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    run: Run,
    words: tuple[str, ...],
    expected: str,
) -> None:
    data = write_rows(tmp_path / "all.tsv", one_label(40, 0))
    code, _, error = run(
        "train", *words, "--data", data, "--out", tmp_path / "run", "--set", "valid=10", *MACHINE
    )
    assert code == 2 and expected in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
