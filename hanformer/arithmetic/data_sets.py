"""What the main job trains and tests on: generated problems, or published files that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from hanformer.arithmetic.cleaning import clean_all
from hanformer.arithmetic.generated import generate
from hanformer.arithmetic.records import Problem, read_problems
from hanformer.arithmetic.splits import read_split
from hanformer.errors import UserError

GENERATED = "generated"
GENERATED_TESTS = {"unseen numbers": "unseen_numbers", "unseen wordings": "unseen_wordings"}


@dataclass(frozen=True)
class DataSet:
    """Cleaned problems in their original writing: to learn from, to choose by, and to be judged on.

    训练、验证与测试题（原始写法，已剔除错误行）。

    `tests` maps a name to its problems; `source` says where they came from; `dropped` counts refused rows, `copies` the
    near copies of test problems that other data sets brought.
    """

    source: str
    train: Sequence[Problem]
    valid: Sequence[Problem]
    tests: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    dropped: int = 0
    copies: int = 0


def open_data(source: str, *, seed: int = 0, count: int = 20000, valid: int = 500) -> DataSet:
    """The data set of that name: `generated`, or the path of a file or folder of published files.

    打开数据集：generated 表示内置生成器，否则为文件或文件夹路径。

    `count` is the number of generated training problems, `valid` the number of problems held out of training to
    choose the best checkpoint by. Held-out problems are chosen by a hash of their text, the same in every run.
    Raises UserError for a path that does not exist or holds no problems.
    """
    if source == GENERATED:
        return generated_data(count=count, seed=seed, valid=valid)
    path = Path(source)
    if not path.exists():
        raise UserError(
            f'{path}: no such file or folder; expected published problem files, or the word "generated"'
        )
    split = read_split(path)
    cleaned = clean_all(split.train)
    if not cleaned.originals:
        raise UserError(
            f"{path}: holds no problem to train on; files of a folder whose names hold test, valid or dev are held "
            "out: name such a file itself to train on it"
        )
    tests = {"test": split.test} if split.test else {}
    if split.valid:
        chosen = sorted(clean_all(split.valid).originals, key=_place)[:valid]
        return DataSet(str(path), cleaned.originals, chosen, tests, len(cleaned.dropped), split.copies)
    held = sorted(cleaned.originals, key=_place)[:valid]
    if len(held) == len(cleaned.originals):
        raise UserError(
            f"{path}: {len(held)} usable problems are too few to hold out {valid}; hold out fewer (--set valid=N)"
        )
    hidden = set(map(id, held))
    train = [problem for problem in cleaned.originals if id(problem) not in hidden]
    return DataSet(str(path), train, held, tests, len(cleaned.dropped), split.copies)


def generated_data(*, count: int, seed: int, valid: int) -> DataSet:
    """Generated problems; the tests hold unseen numbers and, apart, wordings that training never saw.

    生成的题目；测试集分为未见过的数与未见过的措辞。
    """
    tests = {title: generate(1000, seed, split) for title, split in GENERATED_TESTS.items()}  # type: ignore[arg-type]
    return DataSet(
        GENERATED, generate(count, seed, "train"), generate(valid, seed + 1, "unseen_numbers"), tests
    )


def problems_to_judge(source: str, *, seed: int = 0) -> dict[str, Sequence[Problem]]:
    """The problems that `evaluate` judges on: the tests of a data set, or all problems of one file.

    用于评测的题目：数据集的测试部分，或单个文件的全部题目。
    """
    if source == GENERATED:
        return dict(generated_data(count=1, seed=seed, valid=1).tests)
    path = Path(source)
    if not path.exists():
        raise UserError(
            f'{path}: no such file or folder; expected published problem files, or the word "generated"'
        )
    if path.is_dir():
        split = read_split(path)
        if split.test:
            return {"test": split.test}
        return {"all": [*split.train, *split.valid]}
    problems = read_problems(path)
    kept = clean_all(problems).originals
    return {f"{path.name}, {len(kept):,} of {len(problems):,} rows usable": kept}


def all_problems(path: str | Path) -> list[Problem]:
    """Every problem of a file or folder, whatever its split. 文件或文件夹中的全部题目。"""
    path = Path(path)
    if path.is_dir():
        split = read_split(path)
        return [*split.train, *split.valid, *split.test]
    return read_problems(path)


def _place(problem: Problem) -> bytes:
    return blake2b(problem.text.encode(), digest_size=8).digest()
