"""The choice of a head that must stop: what it makes, refuses and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.stop_head import STOPS, StopOptions, describer, ended_by_head
from tests.similarity.tiny import tiny_tokenizer
from tests.tasks.writers import tiny_writer

VOCABULARY = tiny_tokenizer().vocabulary


def test_a_head_is_put_on_or_not() -> None:
    assert STOPS == ("none", "self_terminating", "non_monotonic")
    model = tiny_writer("lm")
    assert StopOptions().put_on(model, 3) is model and not StopOptions().chosen
    assert StopOptions("self_terminating", 0.5).termination() == SelfTerminating(0.5)
    made = StopOptions("non_monotonic", 0.25).put_on(model, 3, counts_prompt=True)
    assert isinstance(made, TerminatingTransformer) and made.transformer is model and made.counts_prompt
    assert (made.stop.termination, made.stop.end_id) == (NonMonotonic(0.25), 3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"stop\.kind: expected one of none, self_terminating"):
        StopOptions("never")
    with pytest.raises(UserError, match="epsilon between 0 and 1"):
        StopOptions("self_terminating", 2.0)
    StopOptions().check_smoothing(0.1)
    StopOptions("non_monotonic").check_smoothing(0.0)
    with pytest.raises(UserError, match="--set label_smoothing=0"):
        StopOptions("non_monotonic").check_smoothing(0.1)


def test_config_and_head_are_described(tmp_path: Path) -> None:
    model = tiny_writer("unilm")
    describer(model)(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    describer(StopOptions("non_monotonic", 0.25).put_on(model, 3))(tmp_path)
    assert json.loads((tmp_path / "stop.json").read_text("utf-8")) == {
        "termination": "non_monotonic",
        "epsilon": 0.25,
        "end_id": 3,
        "counts_prompt": False,
    }


def test_the_head_decides_the_end_token() -> None:
    options, end = GenerationOptions(), VOCABULARY.tokens[7]
    plain = tiny_writer("lm")
    assert ended_by_head(options, plain, VOCABULARY) is options
    model = StopOptions("non_monotonic").put_on(plain, 7)
    assert ended_by_head(options, model, VOCABULARY) == GenerationOptions(end=end)
    assert ended_by_head(GenerationOptions(end=end), model, VOCABULARY).end == end
    with pytest.raises(UserError, match=rf"ends texts with {end}, not \[SEP\]"):
        ended_by_head(GenerationOptions(end="[SEP]"), model, VOCABULARY)
    outside = StopOptions("non_monotonic").put_on(plain, plain.config.vocab_size - 1)
    small = type(VOCABULARY)(VOCABULARY.tokens[:12])
    with pytest.raises(UserError, match="do not belong together"):
        ended_by_head(options, outside, small)
