"""Reading by several threads: the same parameters as by one, the same errors, and not the memory of two models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.models import load, save
from tests.harness import random_model, tiny_config

HEADS = ("lm", "pool", "nsp")


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("format", ["safetensors", "tensorflow", "transformers"])
def test_any_number_of_threads_reads_the_same(threads: int, format: str, tmp_path: Path) -> None:
    model = random_model(tiny_config(), HEADS, torch.float32)
    save(model, tmp_path, format=format)
    found = load(tmp_path, family="bert", heads=HEADS).state_dict()
    assert found.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_damage_is_told_whoever_reads_it(threads: int, tmp_path: Path) -> None:
    save(random_model(tiny_config(), HEADS, torch.float32), tmp_path, format="tensorflow")
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match=r"data-00000.*tensor .* at byte \d+.*CRC-32C differs"):
        load(tmp_path, family="bert", heads=HEADS)


def test_misshapen_tensors_are_listed_in_the_order_of_the_names(threads: int, tmp_path: Path) -> None:
    save(random_model(tiny_config(), ("lm",), torch.float32), tmp_path, format="tensorflow")
    with pytest.raises(UserError) as told:
        load(tmp_path, family="bert", heads=("lm",), changes={"intermediate_size": 8})
    message = str(told.value)
    assert message.index("layer_0/intermediate/dense/kernel") < message.index("layer_1/output/dense/kernel")
