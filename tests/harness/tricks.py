"""What every trick of training must satisfy, and the small models and batches that the checks work on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.models import Transformer
from hanformer.nn.functional.packing import Layout
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.objective import Loss, Objective
from hanformer.train.precision import Precision
from hanformer.train.sequence import predict_targets
from hanformer.train.step import backward, scale_and_clip
from tests.harness.material import random_model, tiny_config

CLASSES = 3
Wrap = Callable[[Objective[Any], float], Objective[Any]]


class Classifier(nn.Module):
    """A Transformer inside another module, and classes of its pooled vectors."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.output = nn.Linear(transformer.config.hidden_size, CLASSES)

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        hidden = self.transformer.body(self.transformer.embed(ids, layout), layout)
        assert self.transformer.pooler is not None
        logits: Tensor = self.output(self.transformer.pooler(hidden[torch.tensor(layout.offsets[:-1])]))
        return logits


@dataclass(frozen=True, eq=False)
class Texts:
    """Packed texts, each of one class."""

    ids: Tensor
    layout: Layout
    labels: Tensor

    def __getitem__(self, rows: slice) -> Texts:
        parts = self.ids.split(list(self.layout.lengths))[rows]
        return Texts(torch.cat(parts), Layout.of([len(part) for part in parts]), self.labels[rows])


def classify(model: nn.Module, batch: Texts) -> Loss:
    """Cross-entropy, one answer a text."""
    logits = model(batch.ids, batch.layout)
    loss = cross_entropy(logits, batch.labels)
    return Loss(loss.total, loss.count, {"logits": logits, "labels": batch.labels})


def classifier(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> Classifier:
    """In training mode, every weight random."""
    config = tiny_config(dropout=dropout, attention_dropout=dropout)
    model = Classifier(random_model(config, ("pool",), dtype))
    return model.to(dtype).train()


def texts(lengths: Sequence[int] = (5, 2, 7, 1), seed: int = 3) -> Texts:
    """Random tokens, some of them twice in a text."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 9, (sum(lengths),), generator=generator)
    return Texts(ids, Layout.of(lengths), torch.randint(CLASSES, (len(lengths),), generator=generator))


def writer(dropout: float = 0.0, dtype: torch.dtype = torch.float64, layers: int = 2) -> Transformer:
    """A UniLM in training mode."""
    config = tiny_config(application="unilm", dropout=dropout, attention_dropout=dropout, layers=layers)
    return random_model(config, dtype=dtype).train()


PAIRS = [
    Pair((1, 5, 6, 2), (7, 8, 9, 2)),
    Pair((1, 3, 2), (4, 2)),
    Pair((1, 6, 2), (2,)),
    Pair((1, 4, 4, 2), (5, 5, 3, 8, 2)),
]


@dataclass(frozen=True, eq=False)
class Bench:
    """What a trick is tried on: a model by its dropout and dtype, an objective, a batch and its parts."""

    model: Callable[[float, torch.dtype], nn.Module]
    objective: Objective[Any]
    batch: Any
    parts: Sequence[Any]


TEXTS = texts()
ON_TEXTS = Bench(classifier, classify, TEXTS, (TEXTS[0:1], TEXTS[1:4]))
ON_PAIRS: Bench = Bench(
    writer, predict_targets(), join_pairs(PAIRS), (join_pairs(PAIRS[:1]), join_pairs(PAIRS[1:]))
)


def check_trick(make: Wrap, strength: float, bench: Bench, *, accumulates: bool, passes: int) -> None:
    """Every check below. `accumulates`: micro-batches give what the large batch gives; `passes` forward."""
    check_strength_zero(make, bench)
    check_finite(make, strength, bench)
    check_passes(make, strength, bench, passes)
    check_no_trace(make, strength, bench)
    check_repeatable(make, strength, bench)
    check_half_precision(make, strength, bench)
    check_without_gradients(make, strength, bench)
    if accumulates:
        check_accumulation(make, strength, bench)


def gradients(model: nn.Module, objective: Objective[Any], batches: Sequence[Any]) -> dict[str, Tensor]:
    """Of one update by these micro-batches, as the trainer computes it."""
    model.zero_grad()
    sums = backward(model, objective, batches, Precision("fp32", torch.device("cpu")))
    scale_and_clip(list(model.parameters()), sums.scale, None)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_strength_zero(make: Wrap, bench: Bench) -> None:
    """Strength 0 is the objective itself; senseless strengths are refused."""
    assert make(bench.objective, 0.0) is bench.objective
    for strength in (-1.0, float("nan"), float("inf")):
        with pytest.raises(Exception, match="expected"):
            make(bench.objective, strength)


def check_finite(make: Wrap, strength: float, bench: Bench) -> None:
    """A loss of the same count but another gradient, finite, for every weight that learns without the trick."""
    model = bench.model(0.1, torch.float64)
    torch.manual_seed(1)
    plain = gradients(model, bench.objective, [bench.batch])
    torch.manual_seed(1)
    found = gradients(model, make(bench.objective, strength), [bench.batch])
    loss = make(bench.objective, strength)(model, bench.batch)
    assert loss.total.ndim == 0 and loss.total.isfinite()
    assert int(loss.count) == int(bench.objective(model, bench.batch).count)
    assert found.keys() == plain.keys() and all(value.isfinite().all() for value in found.values())
    assert any(not torch.allclose(found[name], plain[name]) for name in plain)


def check_passes(make: Wrap, strength: float, bench: Bench, passes: int) -> None:
    """As many forward passes as the table says."""
    calls = []

    def counted(model: nn.Module, batch: Any) -> Loss:
        calls.append(batch)
        return bench.objective(model, batch)

    make(counted, strength)(bench.model(0.0, torch.float64), bench.batch)
    assert len(calls) == passes


def hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def check_no_trace(make: Wrap, strength: float, bench: Bench) -> None:
    """Weights, gradients, modes and hooks are as before, after a pass and after one that failed."""
    model = bench.model(0.1, torch.float32)
    next(model.children()).eval()
    before, modes, hung = (
        copy.deepcopy(model.state_dict()),
        [m.training for m in model.modules()],
        hooks(model),
    )

    def failing(model: nn.Module, batch: Any) -> Loss:
        bench.objective(model, batch)
        raise RuntimeError("on purpose")

    for objective in (bench.objective, failing):
        try:
            make(objective, strength)(model, bench.batch)
        except RuntimeError as error:
            assert str(error) == "on purpose" and objective is failing
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert [m.training for m in model.modules()] == modes and hooks(model) == hung


def check_repeatable(make: Wrap, strength: float, bench: Bench) -> None:
    """The same draws give the same loss: what is random draws from torch."""
    model, wrapped, totals = bench.model(0.1, torch.float64), make(bench.objective, strength), []
    for seed in (1, 1):
        torch.manual_seed(seed)
        totals.append(wrapped(model, bench.batch).total.item())
    assert totals[0] == totals[1]


def check_half_precision(make: Wrap, strength: float, bench: Bench) -> None:
    """Under autocast every weight still learns, and about the same as without."""
    model, wrapped = bench.model(0.0, torch.float32), make(bench.objective, strength)
    torch.manual_seed(1)
    plain = gradients(model, wrapped, [bench.batch])
    model.zero_grad()
    torch.manual_seed(1)
    backward(model, wrapped, [bench.batch], Precision("bf16", torch.device("cpu")))
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == plain.keys()
    ours, theirs = (torch.cat([g.flatten() for g in each.values()]) for each in (found, plain))
    assert ours.isfinite().all() and torch.cosine_similarity(ours, theirs, dim=0) > 0.98


def check_without_gradients(make: Wrap, strength: float, bench: Bench) -> None:
    """A loss can be looked at where gradients are off."""
    with torch.no_grad():
        assert make(bench.objective, strength)(bench.model(0.0, torch.float64), bench.batch).total.isfinite()


def check_accumulation(make: Wrap, strength: float, bench: Bench) -> None:
    """Micro-batches of unequal size give the gradient of the large batch."""
    model, wrapped = bench.model(0.0, torch.float64), make(bench.objective, strength)
    whole = gradients(model, wrapped, [bench.batch])
    for name, value in gradients(model, wrapped, bench.parts).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-8, atol=1e-10)


def sequences(count: int = 4) -> SequenceBatch:
    """The first pairs, joined."""
    return join_pairs(PAIRS[:count])
