"""A run at work: what it says of the data it judges, and how candidates are counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hanformer.arithmetic.data_sets import open_data
from hanformer.arithmetic.service import open_service
from hanformer.arithmetic.training import train
from hanformer.errors import UserError
from hanformer.tasks.serving import ServingOptions
from hanformer.tasks.serving import open_service as open_any
from tests.arithmetic.tiny import RECIPE

OPTIONS = ServingOptions(beams=2, precision="fp32")


def write_problems(path: Path, thing: str, first: int, count: int) -> None:
    rows = []
    for number in range(first, first + count):
        text = f"小明有{number + 2}个{thing}，吃了1个，还剩几个？"
        rows.append(
            {"id": str(number), "text": text, "equation": f"x={number + 2}-1", "ans": str(number + 1)}
        )
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    (folder / "problems").mkdir()
    write_problems(folder / "problems" / "all.json", "苹果", 0, 30)
    write_problems(folder / "problems" / "the_test.json", "梨", 100, 5)
    write_problems(folder / "others.json", "桃", 200, 5)
    data = open_data(str(folder / "problems"), valid=5)
    train(RECIPE.changed({"train.updates": "2"}), data, folder / "run")
    return folder


@pytest.mark.parametrize(
    ("name", "is_memory"),
    [
        ("problems", False),
        ("problems/all.json", True),
        ("problems/the_test.json", False),
        ("others.json", False),
    ],
)
def test_it_warns_of_problems_that_were_trained_on(folder: Path, name: str, is_memory: bool) -> None:
    found = open_service(folder / "run", OPTIONS).evaluate(str(folder / name))
    assert found.text.startswith("careful: ") == is_memory
    assert "beam 2" in found.text


def test_values_vote_unless_told_otherwise(folder: Path) -> None:
    told = ServingOptions(beams=2, precision="fp32", vote=False)
    service = open_any(folder / "run", told)
    assert "without voting by value" in service.evaluate(str(folder / "others.json")).text
    assert "voting" not in open_service(folder / "run", OPTIONS).evaluate(str(folder / "others.json")).text


def test_only_word_problems_vote(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('version = 1\ntask = "classify"\ndata = "x"\n[recipe]\n')
    with pytest.raises(UserError, match="--no-voting"):
        open_any(tmp_path, ServingOptions(vote=False))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_run_that_lost_a_file_is_no_puzzle(folder: Path, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "best" / name).unlink()
    with pytest.raises(UserError, match=f"{name} missing; put back a copy of the run folder, or train again"):
        open_service(run, OPTIONS)
