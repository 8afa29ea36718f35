"""Positions: golden values, and the properties from which the two codes are derived."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.nn.functional.positions import frequencies, rotary_table, rotate, sinusoidal

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "functions.npz")


def turned(x: torch.Tensor, position: int) -> torch.Tensor:
    table = rotary_table(torch.full((x.shape[0],), position), x.shape[-1], dtype=x.dtype)
    return rotate(x, table)


def test_sinusoidal_golden() -> None:
    expected = torch.from_numpy(GOLDEN["sinusoidal__32x16"])
    torch.testing.assert_close(sinusoidal(torch.arange(32), 16), expected, rtol=0, atol=1e-6)


def test_rotary_golden() -> None:
    x, expected = (torch.from_numpy(GOLDEN[f"rope__{key}"]) for key in ("x", "out"))
    positions = torch.arange(x.shape[1]).expand(x.shape[:2])
    torch.testing.assert_close(rotate(x, rotary_table(positions, 16)), expected, rtol=0, atol=1e-6)


def test_frequencies() -> None:
    assert frequencies(4).tolist() == [1.0, pytest.approx(0.01, rel=1e-12)]
    assert frequencies(4, base=100.0).tolist() == [1.0, pytest.approx(0.1, rel=1e-12)]
    with pytest.raises(UserError, match="even"):
        frequencies(5)


@pytest.mark.parametrize(("distance", "mean"), [(1, 0.97021), (8, 0.71438), (32, 0.55747), (128, 0.33279)])
def test_inner_products_decay_with_distance(distance: int, mean: float) -> None:
    code = sinusoidal(torch.tensor([0, distance]), 128, dtype=torch.float64)
    assert float(code[0] @ code[1]) / 64 == pytest.approx(mean, abs=5e-6)


@pytest.mark.parametrize(("distance", "value"), [(8, 0.72485), (32, 0.56282), (128, 0.41115)])
def test_inner_products_near_their_integral(distance: int, value: float) -> None:
    """∫₀¹ cos(m · 10000^(−t)) dt, by the midpoint rule: the limit of many channels."""
    middle = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    integral = float((distance * 10000.0**-middle).cos().mean())
    assert integral == pytest.approx(value, abs=5e-6)
    code = sinusoidal(torch.tensor([0, distance]), 40_000, dtype=torch.float64)
    assert float(code[0] @ code[1]) / 20_000 == pytest.approx(integral, abs=1e-3)


@pytest.mark.parametrize(
    ("distance", "bound"), [(0, 32.5), (1, 31.538), (8, 19.817), (32, 13.384), (128, 9.273), (256, 6.543)]
)
def test_rotary_bound_decays(distance: int, bound: float) -> None:
    """The mean of |S_j|, where S_j = Σ_{i<j} exp(i·m·θ_i): what bounds the rotary inner product."""
    cosine, sine = rotary_table(torch.tensor(distance), 128, dtype=torch.float64)
    sums = torch.complex(cosine, sine).cumsum(0).abs()
    assert float(sums.mean()) == pytest.approx(bound, abs=6e-4)


def test_sinusoidal_gram_matrix_is_toeplitz() -> None:
    code = sinusoidal(torch.arange(40), 32, dtype=torch.float64)
    gram = code @ code.T
    torch.testing.assert_close(gram[1:, 1:], gram[:-1, :-1], rtol=0, atol=1e-12)
    assert torch.equal(code[0, 0::2], torch.zeros(16).double()) and code[0, 1::2].eq(1).all()


def test_one_rotation_shifts_every_position() -> None:
    """p[m + s] is p[m] turned by s: pairs are (sin, cos), so the turn is rotary with the pair swapped."""
    code = sinusoidal(torch.arange(30), 16, dtype=torch.float64)
    swapped = code.unflatten(-1, (8, 2)).flip(-1).flatten(-2)
    shifted = turned(swapped[:-7, None], 7)[:, 0]
    torch.testing.assert_close(shifted, swapped[7:], rtol=0, atol=1e-12)


def test_rotation_knows_the_difference_alone() -> None:
    query, key = torch.randn(2, 1, 1, 16, dtype=torch.float64).unbind(0)
    scores = [float((turned(query, 5 + shift) * turned(key, 2 + shift)).sum()) for shift in (0, 1, 77, 1000)]
    assert scores == [pytest.approx(scores[0], abs=1e-12)] * 4
    relative = float((query * turned(key, -3)).sum())
    assert relative == pytest.approx(scores[0], abs=1e-12)


def test_rotations_form_a_group() -> None:
    x = torch.randn(3, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(turned(turned(x, 4), 9), turned(x, 13), rtol=0, atol=1e-12)
    assert torch.equal(turned(x, 0), x)
    torch.testing.assert_close(turned(x, 321).norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=0)


def test_pairs_are_neighbours() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    out = turned(x, 1)[0, 0]
    torch.testing.assert_close(out, torch.tensor([np.cos(1.0), np.sin(1.0), 0.0, 0.0], dtype=torch.float32))


def test_far_positions_keep_their_precision() -> None:
    far = torch.tensor([1_000_003])
    exact = sinusoidal(far, 8, dtype=torch.float64)
    torch.testing.assert_close(sinusoidal(far, 8).double(), exact, rtol=0, atol=1e-7)
    half = sinusoidal(far, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(half.double(), exact, rtol=0, atol=4e-3)


def test_rotation_keeps_the_dtype() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert rotate(torch.ones(2, 1, 4, dtype=dtype), rotary_table(torch.arange(2), 4)).dtype == dtype
