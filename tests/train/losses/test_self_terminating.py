"""The loss of heads that must stop: the cross-entropy of their whole distribution, and training that learns."""

from __future__ import annotations

import pytest
import torch

from hanformer.data.sequences import Pair, join_pairs
from hanformer.errors import UserError
from hanformer.models.self_terminating import TerminatingTransformer, terminating_log_p
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating, log_going_on, with_end
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.losses.self_terminating import predict_and_stop, self_terminating_cross_entropy
from hanformer.train.sequence import predict_targets
from tests.harness import random_model, tiny_config

RULES = [SelfTerminating(0.02), NonMonotonic(0.02)]
END = 2
CONFIG = tiny_config(application="unilm")
PAIRS = [Pair((1, 5, 6), (7, 8, END)), Pair((1, 9), (END,)), Pair((1, 3, 3, 4), (4, 3, 3, 3, END))]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("end_id", [0, 2])
def test_equals_the_cross_entropy_of_the_whole_distribution(rule: object, end_id: int) -> None:
    logits = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    z = torch.randn(8, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1, 3, end_id, -100], [end_id, 5, 1, end_id]])
    losses = []
    for fused in (True, False):
        going_on = log_going_on(rule, z, [3, 5]).view(2, 4)
        if fused:
            loss = self_terminating_cross_entropy(logits, going_on, targets, end_id)
        else:
            loss = cross_entropy(with_end(logits, going_on, end_id), targets)
        losses.append((loss.total, loss.count, *torch.autograd.grad(loss.total, (logits, z))))
    for found, expected in zip(*losses, strict=True):
        torch.testing.assert_close(torch.as_tensor(found).double(), torch.as_tensor(expected).double())


def test_extremes_stay_finite() -> None:
    logits = (1e4 * torch.randn(4, 5)).requires_grad_()
    going_on = torch.tensor([-1e-6, -1e4, -50.0, -0.5], requires_grad=True)
    loss = self_terminating_cross_entropy(logits, going_on, torch.tensor([0, 0, 1, -100]), 0)
    loss.total.backward()
    assert loss.total.isfinite() and logits.grad.isfinite().all() and going_on.grad.isfinite().all()


def terminating(rule: object) -> TerminatingTransformer:
    model = random_model(CONFIG)
    wrapped = TerminatingTransformer(model, END, rule)
    torch.nn.init.normal_(wrapped.stop.output.weight)
    return wrapped.eval()


@pytest.mark.parametrize("rule", RULES)
def test_both_objectives_are_the_sum_over_rows_alone(rule: object) -> None:
    model = terminating(rule)
    whole = predict_and_stop()(model, join_pairs(PAIRS))
    plain = predict_targets(logits_of=terminating_log_p)(model, join_pairs(PAIRS))
    alone = [predict_and_stop()(model, join_pairs([pair])) for pair in PAIRS]
    torch.testing.assert_close(whole.total, plain.total)
    torch.testing.assert_close(whole.total, torch.stack([loss.total for loss in alone]).sum())
    assert float(whole.count) == 9


@pytest.mark.parametrize("rule", RULES)
def test_training_teaches_when_to_stop(rule: object) -> None:
    torch.manual_seed(0)
    model, batch = TerminatingTransformer(random_model(CONFIG), END, rule).float(), join_pairs(PAIRS)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = predict_and_stop()(model, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    ends, stopping = batch.labels == END, terminating_log_p(model, batch).exp()[:, END]
    assert stopping[ends].min() > stopping[~ends].max()
    assert model.stop.output.weight.grad.abs().sum() > 0


def test_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="expected a TerminatingTransformer, got Linear"):
        predict_and_stop()(torch.nn.Linear(1, 1), join_pairs(PAIRS))
