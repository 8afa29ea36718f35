"""Random features: what they are drawn from, what they estimate, and that they are saved and drawn anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hanformer.mechanisms import Performer
from hanformer.models import build, load, save
from hanformer.nn.attention.feature_maps import Positive, Rectified
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.performer import (
    PerformerAttention,
    chi_quantiles,
    count_of,
    digits_of,
    random_features,
)
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Causal, Full
from tests.harness import EXACT, random_model, tiny_config

GOLDEN = {
    name: torch.from_numpy(value)
    for name, value in np.load(Path(__file__).parents[2] / "golden" / "linear_attention.npz").items()
}


def unit(size: int) -> Tensor:
    drawn = torch.randn(size, dtype=torch.float64)
    return drawn / drawn.norm()


def estimate(query: Tensor, key: Tensor, projection: Tensor) -> Tensor:
    """Mean over features of exp(ω·q − |q|²/2) exp(ω·k − |k|²/2)."""
    map_ = Positive(projection.double(), 1.0)
    return (map_.exponents(query) + map_.exponents(key)).exp().mean(-1)


# ------------------------------------------------------------------------------------------- features
def test_golden_features() -> None:
    """Those of performer-pytorch: its maxima, its ε = 10⁻⁴, its factor m^(-1/2), and the generalised kernel."""
    features = Positive(GOLDEN["projection"], 8**-0.5)
    for name, over in (("q", (-1,)), ("k", (-1, -2))):
        x = GOLDEN[name]
        largest = (x * 8**-0.25 @ GOLDEN["projection"].T).amax(over, keepdim=True)
        found = ((features.exponents(x) - largest).exp() + 1e-4) / math.sqrt(24)
        torch.testing.assert_close(found, GOLDEN[f"feature_{name}"], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_golden_outputs(causal: bool) -> None:
    """Without ε, outputs differ from those of performer-pytorch by what ε does: nothing where it is relu."""
    name = "causal" if causal else "full"
    for kernel, tolerance in (("relu", 1e-5), ("softmax", 0.2)):
        record = Performer(features=24, kernel=kernel)
        config = tiny_config(attention=record, hidden_size=24, attention_heads=3)
        made = attention_of(config).double().eval()
        made.projection = GOLDEN["projection"]
        layout = Layout.of((13, 13))
        inputs = [GOLDEN[x].transpose(1, 2).flatten(0, 1) for x in "qkv"]
        found = made.mix(*inputs, Pass((Causal() if causal else Full()).bind(layout)))
        word = "relu" if kernel == "relu" else "performer"
        expected = GOLDEN[f"{word}_{name}"].transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_stabilisers_change_nothing() -> None:
    """Products of features are those of the plain exponentials, up to a factor for each query."""
    query, key = torch.randn(2, 9, 6, dtype=torch.float64)
    projection = torch.randn(40, 6, dtype=torch.float64)
    features = Positive(projection, 0.5)
    found = features.query(query) @ features.key(key).T
    plain = features.exponents(query).exp() @ features.exponents(key).exp().T
    torch.testing.assert_close(
        found / found.sum(-1, keepdim=True), plain / plain.sum(-1, keepdim=True), **EXACT
    )
    assert (features.query(query) > 0).all() and (features.key(key) > 0).all()


def test_key_features_are_bounded() -> None:
    """ω·k − |k|²/2 − |ω|²/2 = −|k − ω|²/2: no key, however long, comes above the bound, and none below e⁻⁶⁰."""
    features = Positive(torch.randn(50, 64), 1.0)
    key = torch.cat([torch.randn(100, 64) * scale for scale in (0.0, 0.1, 1.0, 10.0, 1e4)])
    found = features.key(key)
    assert found.isfinite().all() and found.max() <= math.exp(32.01) and found.min() >= math.exp(-60.01)


def test_generalised_kernel() -> None:
    query, key, projection = torch.randn(3, 7, 5, dtype=torch.float64)
    features = Rectified(projection, 0.25)
    expected = ((query / 2) @ projection.T).clamp(min=0) + 1e-3
    torch.testing.assert_close(features.query(query), expected, **EXACT)
    assert (features.key(key) >= 1e-3).all()


# ------------------------------------------------------------------------------------------- random vectors
def drawings(record: Performer, size: int, count: int) -> Tensor:
    return torch.stack([random_features(record, size) for _ in range(count)])


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("norms", ["chi", "stratified"])
def test_unbiased(orthogonal: bool, norms: str) -> None:
    """The mean of many estimates is e^(q·k) within 5 standard errors; those of independent vectors vary as they must.

    Stratified norms leave out what lies beyond the outermost quantile, which at unit norms does not show here.
    """
    size, count = 16, 800
    query, key = unit(size), unit(size)
    record = Performer(features=32, orthogonal=orthogonal, norms=norms)
    found = torch.stack([estimate(query, key, p) for p in drawings(record, size, count)])
    exact = math.exp(float(query @ key))
    assert abs(float(found.mean()) - exact) < 5 * float(found.std()) / math.sqrt(count)
    known = exact**2 * (math.exp(float((query + key).square().sum())) - 1) / 32
    if not orthogonal and norms == "chi":
        assert float(found.var()) == pytest.approx(known, rel=0.25)
    else:
        assert float(found.var()) < known


def test_root_norms_are_biased_and_vary_less() -> None:
    """|ω| = √D gives E e^(ω·x − |x|²/2) < 1 for every x: it is below the exponential, by a power of |q + k|⁴ / D."""
    size, x = 16, unit(16) * 1.5
    drawn = drawings(Performer(features=64, norms="root"), size, 300)
    found = torch.stack([estimate(x, x, p) for p in drawn])
    assert float(found.mean()) < math.exp(float(x @ x)) - 5 * float(found.std()) / math.sqrt(300)


def test_errors_fall_with_the_root_of_the_number_of_features() -> None:
    query, key = unit(8), unit(8)
    exact = math.exp(float(query @ key))
    deviations = []
    for count in (8, 32, 128, 512):
        found = torch.stack(
            [estimate(query, key, p) for p in drawings(Performer(features=count, orthogonal=False), 8, 200)]
        )
        deviations.append(math.log(float((found - exact).square().mean()) ** 0.5))
    slope = (deviations[-1] - deviations[0]) / math.log(512 / 8)
    assert slope == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize(("features", "size"), [(24, 8), (20, 8), (3, 8), (8, 1)])
def test_blocks_are_orthogonal(features: int, size: int) -> None:
    drawn = random_features(Performer(features=features), size).double()
    assert drawn.shape == (features, size)
    for start in range(0, features, size):
        block = drawn[start : start + size]
        lengths = block.norm(dim=1)
        cosines = block @ block.T / (lengths[:, None] * lengths)
        torch.testing.assert_close(cosines, torch.eye(len(block), dtype=torch.float64), rtol=0, atol=1e-6)


def test_norms_are_those_of_gaussian_vectors() -> None:
    """|ω|² is chi-square: mean D, variance 2 D; stratified ones are its quantiles, in any order."""
    size, count = 12, 20_000
    drawn = random_features(Performer(features=count, orthogonal=False), size).double().square().sum(1)
    assert float(drawn.mean()) == pytest.approx(size, abs=5 * math.sqrt(2 * size / count))
    assert float(drawn.var()) == pytest.approx(2 * size, rel=0.1)
    lengths = random_features(Performer(features=99, norms="stratified"), size).norm(dim=1).sort().values
    levels = torch.special.gammainc(torch.full((99,), size / 2), lengths.square() / 2)
    torch.testing.assert_close(levels, torch.arange(1, 100) / 100, rtol=0, atol=1e-4)
    roots = random_features(Performer(features=9, norms="root"), size).norm(dim=1)
    torch.testing.assert_close(roots, torch.full((9,), math.sqrt(12)))


def test_quantiles_of_two_channels() -> None:
    """For D = 2, P(|ω| ≤ R) = 1 − e^(−R²/2)."""
    levels = torch.tensor([0.001, 0.5, 0.999], dtype=torch.float64)
    expected = (-2 * torch.log1p(-levels)).sqrt()
    torch.testing.assert_close(chi_quantiles(levels, 2), expected, **EXACT)


def test_directions_are_even() -> None:
    """Every channel and every octant is as likely as any other."""
    drawn = drawings(Performer(features=30), 3, 150).flatten(0, 1)
    octants = (drawn > 0).long() @ torch.tensor([1, 2, 4])
    share = octants.bincount(minlength=8) / len(drawn)
    assert (share - 0.125).abs().max() < 5 * math.sqrt(0.125 * 0.875 / 4000)


# ------------------------------------------------------------------------------------------- models
def redrawing(**changes: object) -> PerformerAttention:
    made = attention_of(tiny_config(attention=Performer(features=9, redraw=3), **changes))
    assert isinstance(made, PerformerAttention)
    return made


def run(made: PerformerAttention, passes: int) -> list[Tensor]:
    """The projection after each pass."""
    batch, hidden = Pass(Full().bind(Layout.of((4,)))), torch.randn(4, 16)
    found = []
    for _ in range(passes):
        made.begin_pass()
        made(hidden, batch)
        found.append(made.projection)
    return found


def changes(projections: Sequence[Tensor]) -> list[int]:
    pairs = enumerate(pairwise(projections), 1)
    return [place for place, (before, after) in pairs if not torch.equal(before, after)]


def test_features_are_drawn_anew() -> None:
    made = redrawing().train()
    assert changes(run(made, 10)) == [3, 6, 9]
    assert changes(run(made.eval(), 10)) == []
    never = attention_of(tiny_config(attention=Performer(features=9, redraw=0))).train()
    assert changes(run(never, 10)) == []


def test_a_resumed_run_draws_the_same() -> None:
    """The features and the count are in the state; the rest is torch's generator."""
    made, other = redrawing().train(), redrawing().train()
    run(made, 5)
    other.load_state_dict(made.state_dict())
    random_state = torch.get_rng_state()
    first = run(made, 5)
    torch.set_rng_state(random_state)
    assert all(torch.equal(a, b) for a, b in zip(first, run(other, 5), strict=True)) and changes(first) == [
        1,
        4,
    ]


def test_a_gradient_outlives_a_new_drawing() -> None:
    made = redrawing().train()
    batch, hidden = Pass(Full().bind(Layout.of((4,)))), torch.randn(4, 16, requires_grad=True)
    losses = []
    for _ in range(5):
        made.begin_pass()
        losses.append(made(hidden, batch).sum())
    torch.stack(losses).sum().backward()
    assert hidden.grad.isfinite().all()


def test_shared_layers_are_one_pass() -> None:
    """However many layers share them, features are counted once a pass, and are the same in all layers of it."""
    config = tiny_config(attention=Performer(features=9, redraw=2), share_layers=True, layers=3)
    model = random_model(config, dtype=torch.float32).train()
    part = model.stack.blocks[0].attention
    seen: list[Tensor] = []
    part.register_forward_hook(lambda *_: seen.append(part.projection))
    for _ in range(5):
        model(torch.ones(1, 4, dtype=torch.int64))
    assert count_of(part.passes) == 1 and changes(seen) == [6, 12]


@pytest.mark.parametrize("count", [0, 1, 255, 257, 1000, 2**31 - 1])
def test_counts_survive_half_precision(count: int) -> None:
    assert count_of(digits_of(count).bfloat16()) == count


def test_a_checkpoint_of_softmax_attention(tmp_path: Path) -> None:
    """Weights are kept; the features are new, drawn as they should be, and named in a warning."""
    model = random_model(tiny_config(), dtype=torch.float32)
    save(model, tmp_path)
    with pytest.warns(UserWarning, match="projection"):
        other = load(tmp_path, attention=Performer(features=16))
    part = other.stack.blocks[0].attention
    assert torch.equal(part.query.weight, model.stack.blocks[0].attention.query.weight)
    cosines = (
        torch.nn.functional.normalize(part.projection[:8])
        @ torch.nn.functional.normalize(part.projection[:8]).T
    )
    torch.testing.assert_close(cosines, torch.eye(8), rtol=0, atol=1e-5)
    assert count_of(part.passes) == 0 and float(part.projection.norm(dim=1).mean()) > 2
    save(other, tmp_path / "other")
    again = load(tmp_path / "other")
    assert torch.equal(again.stack.blocks[0].attention.projection, part.projection)


def test_another_number_of_features_draws_them_anew(tmp_path: Path) -> None:
    model = random_model(tiny_config(attention=Performer(features=16)), dtype=torch.float32)
    save(model, tmp_path)
    with pytest.warns(UserWarning, match="new, with initial weights.*projection"):
        other = load(tmp_path, attention=Performer(features=24))
    first, second = (found.stack.blocks[0].attention for found in (model, other))
    assert torch.equal(first.query.weight, second.query.weight) and second.projection.shape[0] == 24
    met = second.projection[:8] @ second.projection[:8].T
    torch.testing.assert_close(met, torch.diag(met.diagonal()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("other", [{"norms": "root"}, {"orthogonal": False}])
def test_vectors_that_are_drawn_otherwise_are_drawn_anew(tmp_path: Path, other: dict[str, object]) -> None:
    config = tiny_config(attention=Performer(features=16, redraw=0))
    model = random_model(config, dtype=torch.float32)
    save(model, tmp_path)
    with pytest.warns(UserWarning, match="new, with initial weights.*projection"):
        found = load(tmp_path, attention=Performer(features=16, redraw=0, **other))
    first, second = (each.stack.blocks[0].attention for each in (model, found))
    assert torch.equal(first.query.weight, second.query.weight)
    lengths, size = second.projection.norm(dim=1), config.key_size
    assert torch.allclose(lengths, torch.full_like(lengths, size**0.5)) == ("norms" in other)
    met = second.projection[:size] @ second.projection[:size].T
    assert torch.allclose(met, torch.diag(met.diagonal()), atol=1e-4) == ("norms" in other)


def test_vectors_that_are_drawn_alike_are_kept(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = random_model(tiny_config(attention=Performer(features=16)), dtype=torch.float32)
    save(model, tmp_path)
    found = load(tmp_path, attention=Performer(features=16, kernel="relu", redraw=5))
    assert not recwarn.list
    first, second = (each.stack.blocks[0].attention for each in (model, found))
    assert torch.equal(first.projection, second.projection)


def test_many_features_are_near_softmax() -> None:
    """With small queries and keys and many features, the output is that of softmax attention."""
    config = tiny_config(application="lm", attention=Performer(features=4096))
    made, softmax = attention_of(config).double(), SoftmaxAttention(config).double()
    layout = Layout.of((20,))
    query, key, value = torch.randn(3, 20, 2, 8, dtype=torch.float64)
    batch = Pass(Causal().bind(layout))
    found, expected = (part.eval().mix(query * 0.5, key * 0.5, value, batch) for part in (made, softmax))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_building_draws_from_the_generator() -> None:
    parts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        parts.append(build(tiny_config(attention=Performer(features=9))).stack.blocks[1].attention.projection)
    assert torch.equal(parts[0], parts[1]) and not torch.equal(parts[0], parts[2])
