"""Models and batches that no memory holds are refused with their sizes."""

from __future__ import annotations

import subprocess
import sys

import pytest

PREAMBLE = """
import resource
import torch
from hanformer import ModelConfig, build
from hanformer.errors import UserError
from hanformer.mechanisms import Performer, Synthesizer
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.loading import room_for
from hanformer.nn.attention.feature_maps import Positive
from hanformer.nn.attention.feature_memory import room_for_features
from hanformer.nn.functional.packing import Layout
from hanformer.train.objective import Loss
from hanformer.train.precision import Precision
from hanformer.train.step import backward

SMALL = {"vocab_size": 9, "hidden_size": 16, "layers": 1, "attention_heads": 2, "intermediate_size": 8}
WRITTEN = {**SMALL, "position": "none", "max_positions": 60000}


def built(**words):
    with room_for(config := ModelConfig(**words)):
        return EncoderDecoder(config).initialise()


def trained():
    model = build(ModelConfig(**SMALL, attention=Performer(features=65536, orthogonal=False), position="none"), ())
    layout = Layout.of([20000])
    ids = torch.ones(20000, dtype=torch.int64)
    objective = lambda model, batch: Loss(model.body(model.embed(ids, layout), layout).sum(), 1)
    backward(model, objective, [None], Precision("fp32", torch.device("cpu")))


def crowded():
    model = build(ModelConfig(**SMALL), ())
    objective = lambda model, batch: Loss(torch.ones(1 << 36).sum(), 1)
    backward(model, objective, [None], Precision("fp32", torch.device("cpu")))


def mapped():
    features, query = Positive(torch.ones(60000, 8), 1.0), torch.ones(20000, 2, 8)
    with room_for_features(features, query):
        features.query(query)


CASES = [
    lambda: build(ModelConfig(**WRITTEN, attention=Synthesizer("random"))),
    lambda: build(ModelConfig(**WRITTEN, attention=Synthesizer("fixed_random"))),
    lambda: build(ModelConfig(**SMALL, max_positions=2**31 - 1)),
    lambda: built(**SMALL, max_positions=2**31 - 1, decoder_layers=1),
    mapped,
    trained,
    crowded,
]
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 29)
torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for case in CASES:
    try:
        case()
        print("no error")
    except UserError as error:
        print(str(error).replace(chr(10), " "))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS")
def test_what_no_memory_holds_is_told_with_its_size() -> None:
    found = subprocess.run([sys.executable, "-c", PREAMBLE], capture_output=True, text=True, timeout=100)
    assert not found.returncode, found.stderr
    said = [
        (
            "config: no memory for a model of 7,200,",
            "written.0.table.weight has 7,200,000,000",
        ),
        ("config: no memory for a model of 7,200,", "max_positions=60000, hidden_size=16"),
        ("(128.0 GiB at once)", "embeddings.position.weight has 34,359,738,352"),
        ("config: no memory for a model of", "max_positions=2147483647"),
        (
            "no memory for 60000 features x 2 heads x 20000 tokens (",
            "need about 17.9 GiB; take fewer features",
        ),
        ("no memory for 65536 features x 2 heads x 20000 tokens (", "smaller batches"),
        ("training: no memory for a batch (256.0 GiB at once)", "smaller batches (token_budget)"),
    ]
    lines = found.stdout.splitlines()
    assert len(lines) == len(said)
    for line, parts in zip(lines, said, strict=True):
        assert all(part in line for part in parts), line
