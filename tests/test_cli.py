"""The commands as a user calls them: what they print, and one line with exit code 2 for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.arithmetic.tiny import tiny_run

PROBLEM = "买3支铅笔要6元，买5支这样的铅笔要多少元？"


def hanformer(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs the command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hanformer", *arguments],
        input=given,
        capture_output=True,
        timeout=120,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a refusal."""
    message = result.stderr.decode()
    assert result.returncode == 2, message
    assert message.count("\n") == 1 and message.startswith("hanformer: "), message
    return message


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_solve_reads_arguments_and_standard_input(run: Path) -> None:
    by_argument = hanformer("solve", str(run), PROBLEM, "--threads", "1")
    assert by_argument.returncode == 0, by_argument.stderr.decode()
    by_input = hanformer(
        "predict", str(run), "--threads", "1", given=f"\n{PROBLEM}\n \t\n{PROBLEM}\n".encode()
    )
    assert by_input.stdout == (b"\n" + by_argument.stdout) * 2  # answers stand beside their lines
    assert " = " in by_argument.stdout.decode()
    cut = hanformer("predict", str(run), "--threads", "1", given=f"{PROBLEM}\n".encode() + b"\xff\n")
    assert cut.returncode == 2 and cut.stdout == by_argument.stdout  # what came before is answered
    assert "line 2 is not UTF-8" in cut.stderr.decode()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "no text"),
        (b"\n \n", "no text"),
        (b"\xff\xfe\xfa", "UTF-8"),
        ("题".encode() * 10_000, "at most"),
        (b"\x00\x01", "empty"),
    ],
)
def test_bad_problems_are_refused(run: Path, given: bytes, said: str) -> None:
    assert said in refused(hanformer("solve", str(run), "--threads", "1", given=given))


def test_missing_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    assert "no such run folder" in refused(hanformer("solve", str(tmp_path / "none"), PROBLEM))
    assert "not a run folder" in refused(hanformer("evaluate", str(tmp_path)))


def test_wrong_paths_and_choices_are_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert "no such file" in refused(hanformer("train", "arithmetic", "--out", out, "--data", "nowhere"))
    assert "unknown name" in refused(hanformer("train", "arithmetic", "--out", out, "--set", "depth=3"))
    assert "name=value" in refused(hanformer("train", "arithmetic", "--out", out, "--set", "depth"))
    assert "GPU" in refused(hanformer("train", "arithmetic", "--out", out, "--device", "cuda"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "assignment",
    [
        *("train.betas=0.9", "sizes=4", "train.epochs.x=1", "train.learning_rate=none", "label_smoothing=2"),
        *(
            "train.seed=-1",
            "sizes.initial_deviation=-1",
            "noise.mask=2",
            "label_smoothing=nan",
            "train.knots=1,2",
        ),
        *(
            "optimizer=sgd",
            "sizes.hidden_size=63",
            "generated=0",
            "train.learning_rate=inf",
            "slots.constants=1/0",
        ),
    ],
)
def test_senseless_choices_are_refused(assignment: str) -> None:
    from hanformer.arithmetic.recipe import DEFAULT
    from hanformer.arithmetic.training import make_layout, make_model
    from hanformer.errors import UserError
    from tests.arithmetic.tiny import tiny_data

    with pytest.raises(UserError):
        name, value = assignment.split("=")
        recipe = DEFAULT.changed({name: value})
        make_model(recipe, make_layout(recipe, tiny_data().train))


def test_choices_of_every_kind_can_be_set() -> None:
    from hanformer.arithmetic.recipe import DEFAULT

    changes = {
        "slots.constants": "1,3.14",
        "train.betas": "0.8,0.9",
        "train.clip_norm": "none",
        "sizes.layers": "2",
    }
    recipe = DEFAULT.changed(changes)
    assert [str(value) for value in recipe.slots.constants] == ["1", "157/50"]
    assert (recipe.train.betas, recipe.train.clip_norm, recipe.sizes.layers) == ((0.8, 0.9), None, 2)


def test_usage_errors_are_one_line(run: Path) -> None:
    assert "beams" in refused(hanformer("solve", str(run), PROBLEM, "--beams", "0"))
    assert "beams" in refused(hanformer("solve", str(run), PROBLEM, "--beams", "10000"))
    assert "threads" in refused(hanformer("solve", str(run), PROBLEM, "--threads", "100000"))
    assert "device" in refused(hanformer("solve", str(run), PROBLEM, "--device", "meta"))
    assert "frobnicate" in refused(hanformer("frobnicate"))
    assert "no number" in refused(hanformer("solve", str(run), "小明有一些苹果", "--threads", "1"))


def test_data_check_lists_dropped_rows_with_reasons(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "original_text": "3个和5个", "equation": "x=3+5", "ans": "8"},
        {"id": "2", "original_text": "3个和5个", "equation": "x=3+5", "ans": "9"},
        {"id": "3", "original_text": "3个和5个", "equation": "x=3/0", "ans": "9"},
    ]
    path = tmp_path / "problems.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("problems.json", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    result = hanformer("data", "check", str(path))
    lines = result.stdout.decode().splitlines()
    assert result.returncode == 0
    assert lines[-1].endswith("kept 1 of 3 problems, dropped 2")
    assert lines[0].startswith("dropped 2:") and lines[1].startswith("dropped 3:")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text('{"id": "1", "original_text": "3个和5个", "equation": "x=3', encoding="utf-8")
    assert "cut.json" in refused(hanformer("data", "check", str(path)))


def test_help_speaks_both_languages() -> None:
    for arguments in (
        ["--help"],
        ["train", "arithmetic", "--help"],
        ["solve", "--help"],
        ["data", "check", "--help"],
    ):
        result = hanformer(*arguments)
        text = result.stdout.decode()
        assert result.returncode == 0
        assert any("\u4e00" <= character <= "\u9fff" for character in text) and "Usage" in text


def test_real_data_has_the_published_counts(data_folder: Path) -> None:
    math = data_folder / "math"
    for path, said in (
        (math / "math23k" / "Math_23K.zip", "kept 23,155 of 23,162 problems, dropped 7"),
        (math / "ape210k" / "valid.ape.json.gz", "kept 4,999 of 5,000 problems, dropped 1"),
    ):
        result = hanformer("data", "check", str(path))
        assert result.stdout.decode().splitlines()[-1].endswith(said)


def test_waiting_threads_sleep_and_torch_is_not_there_yet() -> None:
    """The policy is set before torch, which reads it, is imported; what the user set stays."""
    program = (
        "import os, sys, hanformer.cli as cli; sys.argv = ['hanformer', '--version']\n"
        "early = 'torch' in sys.modules\n"
        "try: cli.main()\n"
        "except SystemExit: print(early, os.environ['OMP_WAIT_POLICY'])"
    )
    for own, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | own
        found = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.splitlines()[-1] == f"False {expected}"
