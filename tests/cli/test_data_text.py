"""`hanformer data text` as a user calls it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_gathers_and_says_what_is_next(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("今天天气好\n\n明天也好\n\n今天天气好\n", encoding="utf-8")
    (tmp_path / "list.toml").write_text('[lines]\nfiles = ["*.txt"]\n', encoding="utf-8")
    out = tmp_path / "all.txt.gz"
    code, told, _ = run("data", "text", tmp_path / "list.toml", "--data", tmp_path, "--out", out)
    assert code == 0 and out.exists()
    assert "lines: 2 documents, 9 characters; 1 documents repeated, left out" in told
    assert f"next: hanformer train pretrain --data {out}" in told


def test_mistakes_are_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.toml").write_text('[lines]\nfiles = ["*.txt"]\n', encoding="utf-8")
    for given in (("no.toml", tmp_path), ("list.toml", tmp_path / "nowhere")):
        code, _, said = run(
            "data", "text", tmp_path / given[0], "--data", given[1], "--out", tmp_path / "out.txt"
        )
        assert code == 2 and said.startswith("hanformer: ") and said.count("\n") == 1, said
    assert not (tmp_path / "out.txt").exists()
