"""The generation benchmark compares the same model, refuses different ids, and knows its limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import generation, generation_memory
from benchmarks.measure import Difference
from benchmarks.peer_gpt2 import build_gpt2_peer, gpt2_config
from hanformer import models
from hanformer.errors import UserError

TINY = gpt2_config(vocabulary=97, width=16, layers=2, heads=2, positions=64)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(generation.SIZES, "tiny", TINY)


def test_the_peer_gives_the_same_logits() -> None:
    model = models.build(TINY).double().eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        found = build_gpt2_peer(model)(ids).logits
        torch.testing.assert_close(found, model(ids).lm_logits, rtol=1e-9, atol=1e-10)


def test_a_small_run_from_end_to_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--sizes", "tiny", "--shapes", "1x2x5,4x2x9", "--new-tokens", "6", "--rounds", "1"]
    words += [
        "--precision",
        "both",
        "--threads",
        "1",
        "--allocator",
        "default",
        "--out",
        str(tmp_path / "a.json"),
    ]
    assert generation.main(words) == 0
    (session,) = json.loads((tmp_path / "a.json").read_text())["sessions"]
    sides = {result["side"] for result in session["results"]}
    assert sides == {"hanformer, prepacked", "hanformer", "transformers", "stream limit"}
    assert set(session["checks"]) == {
        f"tiny, {precision}, {rule}, batch 2, prompt {length}"
        for precision in ("fp32", "bf16")
        for rule, length in (("greedy", 5), ("beam 4", 9))
    }
    exact = [told for name, told in session["checks"].items() if "fp32" in name]
    assert all(told.startswith("100.0% of ") for told in exact)


def test_other_ids_are_a_difference() -> None:
    with pytest.raises(Difference, match="first in row 1"):
        generation.check(lambda: [[1, 2], [3, 4]], lambda: [[1, 2], [3, 5]], True)
    with pytest.raises(Difference, match="against"):
        generation.check(lambda: [[1]], lambda: [[1, 2]], False)


@pytest.mark.parametrize("shapes", ["1x2", "1x2xa", "0x1x1", "", "4x8x16x2"])
def test_shapes_that_are_none(shapes: str) -> None:
    with pytest.raises(UserError, match="beams x batch x prompt"):
        generation.read_shapes(shapes)


def test_memory_is_that_beyond_the_weights() -> None:
    held = generation_memory.peak_of(lambda: torch.ones(48 << 20, dtype=torch.uint8).amax())
    assert 40 << 20 <= held <= 72 << 20
    words = ("tiny", None, generation.Shape(4, 2, 20), 4, 1)
    assert all(generation_memory.measure(side, *words) >= 0 for side in generation_memory.SIDES)
    assert generation_memory.main(["--shape", "4x2"]) == 2
