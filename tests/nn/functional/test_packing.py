"""Packed batches: layouts by hand, and the way there and back from any padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout, find_packing
from hanformer.nn.functional.positions import rotary_table, rotate


def test_layout_by_hand() -> None:
    layout = Layout.of((2, 0, 3), torch.tensor([0, 1, 1, 0, 1]))
    assert (layout.rows, layout.total, layout.offsets) == (3, 5, (0, 2, 2, 5))
    assert layout.positions.tolist() == layout.index_of_token.tolist() == [0, 1, 0, 1, 2]
    assert layout.row_of_token.tolist() == [0, 0, 2, 2, 2]
    assert layout.reach_of_token.tolist() == [0, 1, 1, 1, 2]


def test_given_positions_are_names_and_not_places() -> None:
    layout = Layout.of((2, 2), positions=torch.tensor([7, 5, 0, 0]))
    assert layout.positions.tolist() == [7, 5, 0, 0]
    assert layout.index_of_token.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_layout_of_nothing(lengths: tuple[int, ...]) -> None:
    layout = Layout.of(lengths)
    assert layout.total == 0 and layout.rows == len(lengths) and layout.positions.dtype == torch.int64
    for values in (layout.row_of_token, layout.index_of_token, layout.reach_of_token, layout.segments):
        assert values.shape == (0,)


def test_everything_counts_in_int64() -> None:
    layout = Layout.of([1, 2])
    for values in (layout.positions, layout.segments, layout.row_of_token, layout.index_of_token):
        assert values.dtype == torch.int64


@pytest.mark.parametrize("name", ["segments", "positions"])
def test_one_entry_a_token(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}: expected shape \[3\].*got \[2\]"):
        Layout.of((1, 2), **{name: torch.zeros(2, dtype=torch.int64)})


def test_to_another_device() -> None:
    layout = Layout.of((1, 2)).to("meta")
    assert layout.lengths == (1, 2) and layout.positions.device.type == layout.segments.device.type == "meta"


def test_records_of_tensors_are_compared_by_identity() -> None:
    layout = Layout.of((1, 2))
    assert layout == layout and layout != Layout.of((1, 2)) and len({layout, layout}) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotary_tables_are_made_once_and_are_the_same_bits(dtype: torch.dtype) -> None:
    layout = Layout.of((3, 2), positions=torch.tensor([5, 1, 70_000, 0, 3]))
    table = layout.rotary(8, dtype)
    assert torch.equal(table, rotary_table(layout.positions, 8, dtype=dtype)) and table.dtype == dtype
    assert layout.rotary(8, dtype) is table
    assert layout.rotary(4, dtype).shape == (5, 2, 2) and layout.rotary(8, torch.float16) is not table


def test_a_rotary_table_of_inference_serves_training() -> None:
    layout = Layout.of((2,))
    with torch.inference_mode():
        layout.rotary(4, torch.float32)
    x = torch.randn(2, 1, 4, requires_grad=True)
    rotate(x, layout.rotary(4, torch.float32)).sum().backward()
    assert x.grad is not None


def test_packing_by_hand() -> None:
    real = torch.tensor([[False, True, True], [True, False, True], [False, False, False]])
    segments = torch.arange(9).view(3, 3)
    packing = find_packing(real, segments, position_ids := segments + 10)
    assert packing.layout.lengths == (2, 2, 0)
    assert packing.layout.segments.tolist() == [1, 2, 3, 5]
    assert packing.layout.positions.tolist() == packing.pack(position_ids).tolist() == [11, 12, 13, 15]
    assert find_packing(real).layout.positions.tolist() == [0, 1, 0, 1]
    assert packing.unpack(torch.tensor([1, 2, 3, 4])).tolist() == [[0, 1, 2], [3, 0, 4], [0, 0, 0]]


def test_batch_must_have_two_dimensions() -> None:
    with pytest.raises(UserError, match="rows, length"):
        find_packing(torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("name", ["segment_ids", "position_ids"])
def test_companions_must_have_the_shape_of_the_batch(name: str) -> None:
    wrong = torch.zeros(1, 3, dtype=torch.int64)
    segments, positions = (wrong if name == word else None for word in ("segment_ids", "position_ids"))
    with pytest.raises(UserError, match=rf"{name}: expected shape \[2, 3\], got \[1, 3\]"):
        find_packing(torch.ones(2, 3, dtype=torch.bool), segments, positions)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=5))
def test_round_trip(rows: list[list[bool]]) -> None:
    real = torch.tensor(rows, dtype=torch.bool).reshape(-1, 4)
    packing = find_packing(real)
    padded = torch.randn(len(rows), 4, 3)
    packed = packing.pack(padded)
    assert packed.shape == (int(real.sum()), 3) and torch.equal(packed, padded[real])
    assert torch.equal(packing.unpack(packed), padded * real[..., None])
    assert packing.layout.lengths == tuple(map(sum, rows))


def test_gradients_pass_both_ways() -> None:
    packing = find_packing(torch.tensor([[True, False], [True, True]]))
    padded = torch.randn(2, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: packing.unpack(packing.pack(x) ** 2), padded)
