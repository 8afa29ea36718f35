"""Vocabularies cut down and extended while loading: rows, averages, and the logits that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.token_rows import TokenRows
from tests.models.families.tiny import tiny_family

KEEP = [0, 5, 3, 22, 7]
IDS, FULL = torch.tensor([[1, 4, 2]]), torch.tensor([[5, 7, 3]])
NEAR = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(params=["bert", "albert", "gpt2", "llama", "t5.1.0", "t5.1.1", "roformer_v2"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model of each kind of vocabulary head."""
    save(tiny_family(request.param, torch.float64), tmp_path)
    return tmp_path


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    more = {"decoder_input_ids": ids} if model.config.decoder_layers else {}
    return model(ids, **more).lm_logits


def test_kept_rows(saved: Path) -> None:
    """The logits of what is kept are those of the full model, in the new order."""
    whole, cut = load(saved), load(saved, keep_tokens=KEEP)
    assert cut.config.vocab_size == len(KEEP)
    assert torch.equal(cut.embeddings.token.weight, whole.embeddings.token.weight[KEEP])
    torch.testing.assert_close(logits(cut, IDS), logits(whole, FULL)[..., KEEP], **NEAR)


def test_padding_goes_where_its_row_goes(tmp_path: Path) -> None:
    save(tiny_family("bert", pad_id=22), tmp_path)
    assert load(tmp_path, keep_tokens=KEEP).config.pad_id == KEEP.index(22)
    assert load(tmp_path, keep_tokens=[0, 5]).config.pad_id is None
    assert load(tmp_path, keep_tokens=[5, 0], changes={"pad_id": 1}).config.pad_id == 1
    assert load(tmp_path, compound_tokens=[[1, 2]]).config.pad_id == 22


def test_compounds(saved: Path) -> None:
    """A new token's row is the average of rows, its logit the average of logits."""
    compounds = [[1, 2], ([3, 4, 4], [1.0, 2.0, 1.0]), [2]]
    whole = load(saved)
    longer = load(saved, keep_tokens=KEEP, compound_tokens=compounds)
    assert longer.config.vocab_size == len(KEEP) + 3
    table, rows = whole.embeddings.token.weight[KEEP], longer.embeddings.token.weight
    torch.testing.assert_close(rows[5], table[[1, 2]].mean(0), **NEAR)
    torch.testing.assert_close(rows[6], (table[3] + 3 * table[4]) / 4, **NEAR)
    torch.testing.assert_close(rows[7], table[2], **NEAR)
    expected, found = logits(whole, FULL)[..., KEEP], logits(longer, IDS)
    torch.testing.assert_close(found[..., :5], expected, **NEAR)
    torch.testing.assert_close(found[..., 5], expected[..., [1, 2]].mean(-1), **NEAR)
    torch.testing.assert_close(found[..., 6], (expected[..., 3] + 3 * expected[..., 4]) / 4, **NEAR)


def test_compounds_alone(saved: Path) -> None:
    longer = load(saved, compound_tokens=[[5, 7]])
    assert longer.config.vocab_size == 24
    torch.testing.assert_close(
        logits(longer, FULL)[..., 23], logits(longer, FULL)[..., [5, 7]].mean(-1), **NEAR
    )


def test_a_cut_model_is_saved_as_it_is(saved: Path, tmp_path: Path) -> None:
    cut = load(saved, keep_tokens=KEEP)
    save(cut, tmp_path / "cut")
    torch.testing.assert_close(logits(load(tmp_path / "cut"), IDS), logits(cut, IDS), **NEAR)


@pytest.mark.parametrize(
    ("keep", "compounds", "message"),
    [
        ([0, 23], [], r"keep_tokens: ids are whole numbers from 0 to 22, got \[23\]"),
        ([-1], [], r"keep_tokens: .*got \[-1\]"),
        (
            [0, 1],
            [[0], [2]],
            r"compound_tokens\[1\]: ids are whole numbers from 0 to 1 \(after keep_tokens\), got \[2\]",
        ),
        (None, [[]], r"compound_tokens\[0\]: expected ids"),
        (None, [([1, 2], [1.0])], r"compound_tokens\[0\]: expected ids, or ids and as many weights"),
        (None, [([1, 2], [1.0, -1.0])], r"compound_tokens\[0\]"),
    ],
)
def test_mistakes(keep: list[int] | None, compounds: list[Any], message: str, tmp_path: Path) -> None:
    save(tiny_family("bert"), tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path, keep_tokens=keep, compound_tokens=compounds)


@given(st.lists(st.integers(0, 8), min_size=1), st.lists(st.lists(st.integers(0, 8), min_size=1), max_size=4))
def test_rows_by_definition(keep: list[int], wanted: list[list[int]]) -> None:
    table = torch.arange(18.0, dtype=torch.float64).reshape(9, 2).square()
    compounds = tuple([token % len(keep) for token in ids] for ids in wanted)
    rows = TokenRows(tuple(keep), compounds)
    rows.check(9)
    found = rows.apply(table).tolist()
    assert len(found) == rows.count(9)
    assert found[: len(keep)] == [table[token].tolist() for token in keep]
    for row, ids in zip(found[len(keep) :], compounds, strict=True):
        average = [sum(float(table[keep[token]][axis]) for token in ids) / len(ids) for axis in range(2)]
        assert row == pytest.approx(average)
