"""Models without weights: the same structure, however they were built, and every part with weights of its own."""

from __future__ import annotations

import pytest
import torch

from hanformer.mechanisms import Local, Performer, Softmax, Synthesizer
from hanformer.models.loading import skeleton
from hanformer.models.skeletons import like, place
from hanformer.models.transformer import Transformer
from tests.harness import random_model, tiny_config

CHOICES = (
    {},
    {"share_layers": True},
    {"position": "relative_buckets", "residual_attention": True},
    {"feedforward": "gated", "norm": "rms", "norm_place": "pre", "biases": "none"},
    {"attention": Performer(features=8)},
    {"attention": Synthesizer()},
    {"attention": Local(2)},
)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_filled_skeletons_equal_the_model_they_are_of(choice: dict[str, object]) -> None:
    whole = random_model(tiny_config(layers=3, **choice), ("lm", "pool"), torch.float32)
    bare = skeleton(whole.config, whole.heads)
    assert [(name, value.shape) for name, value in bare.state_dict().items()] == [
        (name, value.shape) for name, value in whole.state_dict().items()
    ]
    assert str(bare) == str(whole)
    place(bare, {name: value.clone() for name, value in whole.state_dict().items()})
    ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
    assert torch.equal(bare.eval()(ids).sequence, whole.eval()(ids).sequence)
    learning = {name: value.requires_grad for name, value in whole.named_parameters()}
    assert {name: value.requires_grad for name, value in bare.named_parameters()} == learning


def test_layers_are_independent_once_filled() -> None:
    whole = random_model(tiny_config(layers=3), ("lm",), torch.float32)
    bare = skeleton(whole.config, whole.heads)
    place(bare, {name: value.clone() for name, value in whole.state_dict().items()})
    blocks = list(bare.stack.blocks)
    parts = [{id(part) for part in block.modules()} for block in blocks]
    assert not parts[0] & parts[1] and not parts[1] & parts[2]
    assert not {id(value) for value in blocks[0].parameters()} & {
        id(value) for value in blocks[1].parameters()
    }
    bare.eval()
    blocks[0].train()
    blocks[0].register_forward_hook(lambda module, given, output: None)
    assert not blocks[1].training and not blocks[1]._forward_hooks


def test_a_copy_of_structure_shares_tensors_and_nothing_else() -> None:
    first = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)), torch.nn.ReLU()
    )
    second = like(first)
    assert (
        second[0].weight is first[0].weight and second[0] is not first[0] and second[1][0] is not first[1][0]
    )
    second[0].weight = torch.nn.Parameter(torch.zeros(3, 2))
    second.append(torch.nn.ReLU())
    assert len(first) == 3 and bool(first[0].weight.any())


def test_a_missing_tensor_is_an_error() -> None:
    bare = skeleton(tiny_config(attention=Softmax()), ())
    assert isinstance(bare, Transformer)
    with pytest.raises(KeyError, match="token"):
        place(bare, {})


def test_a_model_on_the_meta_device_that_nobody_fills_has_all_its_parameters() -> None:
    config = tiny_config(layers=3)
    with torch.device("meta"):
        bare = Transformer(config, ("lm",))
    count = sum(value.numel() for value in random_model(config, ("lm",), torch.float32).parameters())
    assert sum(value.numel() for value in bare.parameters()) == count
