"""FGM and PGD against their definitions, written with loops over examples."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder
from hanformer.train.objective import Objective
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks.adversarial import fgm, fgm_of_table, pgd
from hanformer.train.tricks.crossing import cross_pairs, predict_decoded
from hanformer.train.tricks.rows import Rows, signs
from hanformer.train.tricks.seam import embeddings_changed
from tests.harness.material import tiny_config
from tests.harness.tricks import (
    ON_PAIRS,
    ON_TEXTS,
    PAIRS,
    Classifier,
    Texts,
    classifier,
    classify,
    gradients,
    sequences,
    texts,
    writer,
)


def naive_logits(model: Classifier, batch: Texts, shift: Tensor) -> Tensor:
    """The classifier with embedded tokens + shift, by the parts of its embeddings."""
    part, layout = model.transformer.embeddings, batch.layout
    summed = part.token.weight[batch.ids] + shift + part.position.weight[layout.positions]
    embedded = part.norm(summed + part.segment.weight[layout.segments])
    hidden = model.transformer.body(embedded, layout)
    return model.output(model.transformer.pooler(hidden[torch.tensor(layout.offsets[:-1])]))


def naive_pgd(model: Classifier, batch: Texts, radius: float, steps: int, length: float) -> Tensor:
    """The perturbation after some steps, one example after the other."""
    shift = torch.zeros(len(batch.ids), model.transformer.config.hidden_size, dtype=torch.float64)
    for _ in range(steps):
        shift.requires_grad_()
        loss = nn.functional.cross_entropy(naive_logits(model, batch, shift), batch.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, shift)
        moved = []
        for own, slope in zip(
            *(t.detach().split(list(batch.layout.lengths)) for t in (shift, gradient)), strict=True
        ):
            own = own + length * slope / slope.norm()
            moved.append(own * min(1.0, radius / float(own.norm())))
        shift = torch.cat(moved)
    return shift


@pytest.mark.parametrize(
    ("wrapped", "radius", "steps", "length"),
    [
        (fgm(classify, 0.3), 0.3, 1, 0.3),
        (pgd(classify, 0.3), 0.3, 3, 0.09),
        (pgd(classify, 0.2, steps=5, step_size=0.15), 0.2, 5, 0.15),
    ],
    ids=["fgm", "pgd", "pgd that leaves the ball"],
)
def test_the_definition(wrapped: Objective[Any], radius: float, steps: int, length: float) -> None:
    model, batch = classifier(), texts()
    logits = naive_logits(model, batch, naive_pgd(model, batch, radius, steps, length))
    expected = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
    found = wrapped(model, batch)
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.outputs["logits"], logits)
    theirs = torch.autograd.grad(expected / len(batch.labels), list(model.parameters()))
    ours = gradients(model, wrapped, [batch])
    for (name, _), value in zip(model.named_parameters(), theirs, strict=True):
        torch.testing.assert_close(ours[name], value)


@pytest.mark.parametrize("trick", [fgm, pgd, fgm_of_table])
def test_the_clean_gradient_is_added_where_it_is_wanted(trick: Any) -> None:
    model, batch = classifier(), texts()
    parts = (classify, trick(classify, 0.3), trick(classify, 0.3, accumulate_clean=True))
    clean, attacked, both = (gradients(model, objective, [batch]) for objective in parts)
    for name, value in both.items():
        torch.testing.assert_close(value, clean[name] + attacked[name])


def test_pgd_of_one_step_as_long_as_the_radius_is_fgm() -> None:
    model, batch = classifier(), texts()
    one = pgd(classify, 0.3, steps=1, step_size=0.3)(model, batch).total
    torch.testing.assert_close(one, fgm(classify, 0.3)(model, batch).total)


def test_the_sign_method() -> None:
    model, batch, seen = classifier(), texts(), []

    def watch(embedded: Tensor, rows: Rows) -> Tensor:
        seen.append(embedded.detach())
        return embedded

    with embeddings_changed(model, watch):
        fgm(classify, 0.25, direction=signs)(model, batch)
    torch.testing.assert_close((seen[1] - seen[0]).abs(), torch.full_like(seen[0], 0.25))


def test_an_attack_raises_the_loss_more_than_noise_of_its_size() -> None:
    model, batch = classifier(), texts()
    plain, attacked = classify(model, batch).total, fgm(classify, 0.1)(model, batch).total
    assert attacked > plain and pgd(classify, 0.1, steps=9)(model, batch).total > attacked - 1e-3


def test_an_encoder_decoder_is_attacked_on_both_sides() -> None:
    model = EncoderDecoder(tiny_config(application="lm")).initialise().double()
    batch, seen = cross_pairs(PAIRS), []

    def watch(embedded: Tensor, rows: Rows) -> Tensor:
        seen.append((embedded.detach(), rows))
        return embedded

    with embeddings_changed(model, watch):
        fgm(predict_decoded(), 0.2)(model, batch)
    for (clean, rows), (moved, _) in zip(seen[:2], seen[2:], strict=True):
        torch.testing.assert_close(rows.norms(moved - clean), torch.full((4,), 0.2, dtype=torch.float64))


@pytest.mark.parametrize("bench", ["classes", "tied writer"])
def test_the_form_of_bert4keras_moves_the_whole_table(bench: str) -> None:
    """Against the classical way: change the weights, backward, change them back; the tied output moves too."""
    chosen = ON_TEXTS if bench == "classes" else ON_PAIRS
    model = chosen.model(0.0, torch.float64)
    twin = copy.deepcopy(model)
    found = gradients(model, fgm_of_table(chosen.objective, 0.5), [chosen.batch])
    stack = twin if bench != "classes" else twin.transformer
    slope = gradients(twin, chosen.objective, [chosen.batch])
    table = stack.embeddings.token.weight
    name = next(name for name, weight in twin.named_parameters() if weight is table)
    kept = table.detach().clone()
    with torch.no_grad():
        table += 0.5 * slope[name] / slope[name].norm()
    expected = gradients(twin, chosen.objective, [chosen.batch])
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-8)
    original = dict(model.named_parameters())[name]
    assert torch.equal(original, kept)


def test_the_table_must_be_one_that_learns() -> None:
    model = classifier()
    model.transformer.embeddings.requires_grad_(False)
    with pytest.raises(UserError, match="one token table that learns"):
        fgm_of_table(classify, 0.5)(model, texts())


@pytest.mark.parametrize("number", [{"steps": 0}, {"step_size": 0.0}, {"step_size": float("nan")}])
def test_senseless_numbers(number: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="pgd: step"):
        pgd(classify, 0.1, **number)


def test_dropout_differs_between_the_passes() -> None:
    model, kept = writer(dropout=0.3), []

    def watch(model: nn.Module, batch: Any) -> Any:
        loss = predict_targets()(model, batch)
        kept.append(loss.outputs["logits"].detach())
        return loss

    fgm(watch, 1e-9)(model, sequences())
    assert (kept[0] - kept[1]).abs().max() > 0.01
