"""The seam: which vectors, of which rows, in which order, for every kind of model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder
from hanformer.train.objective import Loss
from hanformer.train.tricks.crossing import cross_pairs, predict_decoded
from hanformer.train.tricks.rows import Rows, signs, unit, within
from hanformer.train.tricks.seam import embeddings_changed, look_ups, token_tables, without_dropout
from tests.harness.material import tiny_config
from tests.harness.tricks import PAIRS, classifier, classify, texts, writer
from tests.train.tiny import objective as tiny_objective
from tests.train.tiny import tiny_model


def two_stacks() -> EncoderDecoder:
    return EncoderDecoder(tiny_config(application="lm")).initialise().double()


def test_what_is_seen_is_the_token_vector_before_anything_is_added() -> None:
    model, batch = classifier(), texts((3, 1, 4))
    _, found = look_ups(classify, model, batch)
    assert [look_up.rows.lengths for look_up in found] == [(3, 1, 4)]
    assert torch.equal(found[0].embedded, model.transformer.embeddings.token.weight[batch.ids])
    assert torch.equal(found[0].rows.of_token, batch.layout.row_of_token)


def test_an_encoder_decoder_looks_up_source_and_target() -> None:
    batch = cross_pairs(PAIRS)
    _, found = look_ups(predict_decoded(), two_stacks(), batch)
    assert [look_up.rows.lengths for look_up in found] == [(4, 3, 3, 4), (4, 2, 1, 5)]


def test_a_padded_call_shows_real_tokens_alone() -> None:
    model = writer()
    padded = torch.tensor([[4, 5, 6], [7, 0, 0]])

    def objective(model: nn.Module, batch: Tensor) -> Loss:
        return Loss(model(batch, attention_mask=(batch > 0).long()).lm_logits.sum(), 1)

    _, found = look_ups(objective, model, padded)
    assert found[0].rows.lengths == (3, 1) and len(found[0].embedded) == 4


def test_segments_that_share_the_table_are_left() -> None:
    config = tiny_config(shared_segment_embeddings=True)
    model = EncoderDecoder(config.changed({"application": "lm"})).double()
    _, found = look_ups(predict_decoded(), model, cross_pairs(PAIRS))
    assert len(found) == 2


def test_the_innermost_changes_first() -> None:
    model, batch, order = classifier(), texts(), []

    def named(name: str) -> object:
        def change(embedded: Tensor, rows: Rows) -> Tensor:
            order.append(name)
            return embedded

        return change

    with embeddings_changed(model, named("outer")), embeddings_changed(model, named("inner")):  # type: ignore[arg-type]
        classify(model, batch)
    assert order == ["inner", "outer"]


def test_a_frozen_table_has_gradients_too() -> None:
    model, batch = classifier(), texts()
    model.transformer.embeddings.requires_grad_(False)
    loss, found = look_ups(classify, model, batch)
    assert found[0].embedded.requires_grad and torch.autograd.grad(loss.total, found[0].embedded)[0].any()


def test_a_model_of_another_kind_has_one_table() -> None:
    model = tiny_model()
    _, found = look_ups(tiny_objective, model, (torch.tensor([1, 2]), torch.tensor([3, 4])))
    assert found[0].rows.lengths == (1, 1) and token_tables(model) == [model.embedding]


@pytest.mark.parametrize("tables", [0, 2])
def test_models_without_a_place_are_refused(tables: int) -> None:
    model = nn.Sequential(nn.Linear(2, 2), *(nn.Embedding(3, 2) for _ in range(tables)))
    with (
        pytest.raises(UserError, match=f"Sequential has {tables}"),
        embeddings_changed(model, lambda e, r: e),
    ):
        pass


def test_an_objective_that_looks_nothing_up_is_refused() -> None:
    with pytest.raises(UserError, match="looks up no tokens"):
        look_ups(lambda model, batch: Loss(torch.zeros(()), 1), classifier(), texts())


def test_modes_come_back_one_by_one() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    model[0].eval()
    with without_dropout(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == [True, False, True]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 10**6), st.floats(0.1, 3.0))
def test_rows_are_measured_each_by_itself(lengths: list[int], seed: int, radius: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(lengths), 3, generator=generator, dtype=torch.float64)
    row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    rows = Rows(row, tuple(lengths))
    parts = values.split(lengths)
    torch.testing.assert_close(rows.norms(values), torch.stack([part.norm() for part in parts]))
    filled = torch.tensor([float(bool(length)) for length in lengths], dtype=torch.float64)
    torch.testing.assert_close(rows.norms(unit(values, rows)), filled)
    shortened = within(values, rows, radius)
    torch.testing.assert_close(rows.norms(shortened), rows.norms(values).clamp(max=radius))
    torch.testing.assert_close(unit(shortened, rows), unit(values, rows))


def test_rows_of_the_first_axis_and_of_zeros() -> None:
    embedded = torch.zeros(2, 3, 4)
    rows = Rows.of_first_axis(embedded)
    assert rows.of_token.tolist() == [[0, 0, 0], [1, 1, 1]] and rows.lengths == (3, 3)
    assert not unit(embedded, rows).any() and not within(embedded, rows, 1.0).any()
    assert rows.offsets.tolist() == [0, 3]
    half = torch.full((2, 3, 4), 200.0, dtype=torch.float16)
    assert rows.norms(half).dtype == torch.float32 and rows.norms(half).isfinite().all()
    assert unit(half, rows).dtype == torch.float16
    assert signs(torch.tensor([[-2.0, 0.0, 3.0]]), rows).tolist() == [[-1, 0, 1]]
