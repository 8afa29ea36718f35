"""The curves of the lab on positions, and the derivation behind sinusoidal ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.lab.positions import Options, inner_products, integral, rotary_bounds
from hanformer.nn.functional.positions import frequencies, sinusoidal


def test_digits() -> None:
    options = Options()
    products, limit, bounds = inner_products(options), integral(options), rotary_bounds(options)
    for distance, mean in ((1, 0.97021), (8, 0.71438), (32, 0.55747), (128, 0.33279)):
        assert float(products[distance]) == pytest.approx(mean, abs=6e-6)
    for distance, mean in ((8, 0.72485), (32, 0.56282), (128, 0.41115)):
        assert float(limit[distance]) == pytest.approx(mean, abs=6e-6)
    for distance, bound in ((0, 32.5), (1, 31.538), (8, 19.817), (32, 13.384), (128, 9.273), (256, 6.543)):
        assert float(bounds[distance]) == pytest.approx(bound, abs=6e-4)


def test_the_bound_holds() -> None:
    """|⟨R_m q, k⟩| ≤ max_i |h_{i+1} − h_i| · Σ_j |S_j|, with h = 0 after the last pair: Abel's summation."""
    options = Options(size=16, distance=40)
    query, key = torch.randn(2, 8, dtype=torch.complex128)
    products = torch.cat([query * key.conj(), torch.zeros(1)])
    largest, bounds = products.diff().abs().max(), 8 * rotary_bounds(options)
    for distance in range(41):
        turned = query * torch.polar(torch.ones(8).double(), distance * frequencies(16))
        assert (turned * key.conj()).sum().abs() <= largest * bounds[distance] + 1e-12


def test_only_the_mixed_second_derivative_mixes_positions() -> None:
    """f(x + p, y + q) to second order: the difference of differences in p and q is pᵀ H q alone, H = ∂²f/∂x∂y."""
    x, y, p, q = torch.randn(4, 6, dtype=torch.float64)
    first, second = torch.randn(2, 6, 6, dtype=torch.float64)

    def f(x: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(x @ first @ y) + torch.sin(x @ second @ x) + torch.cos(y @ y)

    hessian = torch.autograd.functional.hessian(f, (x, y))[0][1]
    for small, error in ((1e-2, 1e-1), (1e-3, 1e-2)):
        mixed = f(x + small * p, y + small * q) - f(x + small * p, y) - f(x, y + small * q) + f(x, y)
        assert float(mixed / small**2) == pytest.approx(float(p @ hessian @ q), rel=error)


def test_a_diagonal_hessian_adds_sums_of_positions() -> None:
    """Σ h p_m p_n is ½(h_s + h_c)cos((m−n)θ) + ½(h_c − h_s)cos((m+n)θ) for each pair (sin, cos)."""
    weights, m, n = torch.randn(8, dtype=torch.float64), 5, 12
    code = sinusoidal(torch.tensor([m, n]), 8, dtype=torch.float64)
    sines, cosines, angles = weights[0::2], weights[1::2], frequencies(8)
    near = (sines + cosines) / 2 * ((m - n) * angles).cos()
    far = (cosines - sines) / 2 * ((m + n) * angles).cos()
    torch.testing.assert_close((weights * code[0] * code[1]).sum(), (near + far).sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("changes", [{"distance": 0}, {"distance": 10_001}, {"size": 7}, {"base": 1.0}])
def test_options_that_say_nothing_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UserError, match="a distance from 1 to 10,000"):
        Options(**changes)
