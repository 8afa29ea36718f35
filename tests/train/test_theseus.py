"""BERT-of-Theseus: forced choices, chances, the schedule, and the model that is left."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer, load, save
from hanformer.train.options import TrainOptions
from hanformer.train.theseus import TheseusStack, begin_theseus, draw_modules, end_theseus
from hanformer.train.trainer import Trainer
from tests.harness.material import random_model, random_rows, run_packed, tiny_config
from tests.harness.tricks import Classifier, Texts, classify, texts
from tests.train.tiny import SameSource, same_weights


def old_model(layers: int = 6, **changes: Any) -> Transformer:
    return random_model(tiny_config(layers=layers, **changes))


def stack_of(model: Transformer) -> TheseusStack:
    assert isinstance(model.stack, TheseusStack)
    return model.stack


ROWS = random_rows(tiny_config(), (5, 2, 7))


def hidden(model: Transformer) -> Tensor:
    return run_packed(model, ROWS)[0]


@pytest.mark.parametrize("changes", [{}, {"norm_place": "pre"}, {"position": "rotary"}])
@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_forced_choices(layers: int, changes: dict[str, Any]) -> None:
    """Probability 0 is the predecessor, 1 is the successor, which is its first blocks; so is eval mode."""
    predecessor = old_model(**changes)
    successor = copy.deepcopy(predecessor)
    successor.stack.blocks, successor.stack.layers = successor.stack.blocks[:layers], layers
    for first, expected in ((0.0, predecessor), (1.0, successor)):
        model = begin_theseus(copy.deepcopy(predecessor), layers, first=first)
        torch.testing.assert_close(hidden(model.train()), hidden(expected))
        torch.testing.assert_close(hidden(model.eval()), hidden(successor))


def test_every_pass_draws_every_module() -> None:
    """Of 2^3 mixtures all but the old model appear, each as often as the other."""
    model = begin_theseus(old_model(), 3).train()
    stack, seen = stack_of(model), Counter()
    for _ in range(700):
        blocks = [block for _, block in stack.each()]
        chosen = tuple(any(block is own for block in blocks) for own in stack.blocks)
        assert len(blocks) == sum(1 if is_new else 2 for is_new in chosen)
        seen[chosen] += 1
    assert len(seen) == 7 and (False, False, False) not in seen
    assert max(abs(count - 100) for count in seen.values()) < 35


def test_rare_new_modules_are_rare_together() -> None:
    """The conditional distribution: P(i new | any) = p / (1 − (1 − p)^k)."""
    draws = torch.tensor([draw_modules(3, 0.1) for _ in range(4000)]).double()
    share = 0.1 / (1 - 0.9**3)
    torch.testing.assert_close(draws.mean(0), torch.full((3,), share, dtype=torch.float64), rtol=0.1, atol=0)
    assert draws.any(1).all() and draw_modules(4, 0.0) == [False] * 4 and draw_modules(4, 1.0) == [True] * 4


def test_the_old_blocks_keep_their_places() -> None:
    model = begin_theseus(old_model(), 3, first=0.0).train()
    stack = stack_of(model)
    assert [block for _, block in stack.each()] == list(stack.old)
    assert [number for number, _ in stack.each()] == list(range(6))


def test_the_chance_grows_to_one() -> None:
    model = begin_theseus(old_model(), 2, first=0.4, grows_over=4).train()
    found = []
    for _ in range(6):
        found.append(stack_of(model).probability)
        hidden(model)
    assert found == pytest.approx([0.4, 0.55, 0.7, 0.85, 1.0, 1.0])
    hidden(model.eval())
    assert int(stack_of(model).passes) == 6


def learner() -> Classifier:
    return Classifier(random_model(tiny_config(layers=4, dropout=0.1), ("pool",), torch.float32))


OPTIONS = TrainOptions(updates=12, learning_rate=1e-2, checkpoint_every=3)


def test_only_new_blocks_learn_and_then_all() -> None:
    model = begin_theseus(learner(), 2)
    before = copy.deepcopy(model.state_dict())
    Trainer(model, classify, SameSource([texts()]), OPTIONS).fit()  # type: ignore[list-item]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith("transformer.stack.blocks") or name.endswith("passes") for name in moved)
    assert {name.split(".")[3] for name in moved if "blocks" in name} == {"0", "1"}
    output = model(texts().ids, texts().layout)
    end_theseus(model)
    assert torch.equal(model(texts().ids, texts().layout), output)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("old" in name or "passes" in name for name in model.state_dict())
    Trainer(model, classify, SameSource([texts()]), OPTIONS).fit()  # type: ignore[list-item]
    assert not torch.equal(model.output.weight, before["output.weight"])


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    """The draws and the schedule are part of what is saved."""
    whole, cut = (begin_theseus(learner(), 2, first=0.2, grows_over=10) for _ in range(2))
    source: SameSource = SameSource([texts()])  # type: ignore[list-item]
    Trainer(whole, classify, source, OPTIONS).fit()
    calls: list[int] = []

    def breaking(model: nn.Module, batch: Texts) -> Any:
        calls.append(0)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return classify(model, batch)

    with pytest.raises(KeyboardInterrupt):
        Trainer(cut, breaking, source, OPTIONS, run_folder=tmp_path / "run").fit()
    fresh = begin_theseus(learner(), 2, first=0.2, grows_over=10)
    Trainer(fresh, classify, source, OPTIONS, run_folder=tmp_path / "run").fit(resume=True)
    assert same_weights(fresh, whole)


def test_the_successor_is_saved_and_decodes(tmp_path: Path) -> None:
    model = old_model(application="lm")
    begin_theseus(model, 3)
    end_theseus(model)
    assert model.config.layers == 3 and len(model.stack.blocks) == 3
    save(model, tmp_path / "model")
    torch.testing.assert_close(hidden(load(tmp_path / "model", dtype=torch.float64)), hidden(model))
    logits, state = model.prompt([[4, 5, 6]])
    after = model.step(logits.argmax(-1)[:, None], state)
    assert after.isfinite().all()


def test_generation_in_between_is_that_of_the_successor() -> None:
    model = begin_theseus(old_model(application="lm"), 2).eval()
    between, _ = model.prompt([[4, 5, 6]])
    torch.testing.assert_close(end_theseus(model).prompt([[4, 5, 6]])[0], between)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"layers": 4}, "divides 6, got 4"),
        ({"layers": 0}, "divides 6, got 0"),
        ({"layers": 12}, "divides 6, got 12"),
        ({"layers": 3, "first": 1.5}, "from 0 to 1"),
        ({"layers": 3, "grows_over": 0}, "1 or more passes"),
    ],
)
def test_senseless_numbers(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        begin_theseus(old_model(), **numbers)


def test_models_that_cannot_be_replaced() -> None:
    with pytest.raises(UserError, match="not shared"):
        begin_theseus(old_model(share_layers=True), 2)
    with pytest.raises(UserError, match="not yet replaced"):
        begin_theseus(begin_theseus(old_model(), 2), 1)
    with pytest.raises(UserError, match="call begin_theseus first"):
        end_theseus(old_model())
    with pytest.raises(UserError, match="EncoderDecoder has 0"):
        begin_theseus(EncoderDecoder(tiny_config(application="lm")), 1)
