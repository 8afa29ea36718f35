"""Every rule of generation with a head that must stop, over every kind of model."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch

from hanformer.decode import Greedy
from hanformer.decode import generate as search
from hanformer.errors import UserError
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.terminating_files import save_terminating
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating, Termination
from hanformer.tasks.diagnosis import COMPARED, diagnose_model
from hanformer.tasks.generation import Generated, Writer, generate_texts, open_writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.generation_parts import WritableTokens
from hanformer.theory.termination import certain_end
from tests.similarity.tiny import tiny_tokenizer
from tests.tasks.writers import KINDS, PROMPTS, tiny_writer

TOKENIZER = tiny_tokenizer()
RULE = NonMonotonic(0.1)
SEP, PAD = TOKENIZER.vocabulary.sep_id, TOKENIZER.vocabulary.pad_id


def stopping(kind: str, rule: Termination = RULE) -> TerminatingTransformer:
    torch.manual_seed(5)
    model = TerminatingTransformer(tiny_writer(kind), SEP, rule).eval()
    torch.nn.init.normal_(model.stop.output.weight)
    torch.nn.init.constant_(model.stop.output.bias, rule.start / 2)
    return model


MODELS = {kind: stopping(kind) for kind in KINDS}


def write(kind: str, batch: int = 8, **choices: object) -> list[list[Generated]]:
    options = GenerationOptions(**{"maximum_length": 8, **choices})  # type: ignore[arg-type]
    return generate_texts(MODELS[kind], TOKENIZER, PROMPTS, options, batch=batch)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_loop_by_hand(kind: str) -> None:
    model = MODELS[kind]
    rows = [TOKENIZER.encode(text).ids for text in PROMPTS]
    rows = [row[:-1] for row in rows] if kind == "lm" else rows
    logits, state = model.prompt(rows)
    torch.testing.assert_close(logits.logsumexp(1), torch.zeros(len(rows)))
    found = search(
        model.step,
        state,
        logits,
        rule=Greedy(),
        end_id=SEP,
        maximum_length=8,
        constraint=WritableTokens(len(rows), len(TOKENIZER.vocabulary), PAD, logits.shape[1], logits.device),
    )
    assert [each[0].tokens for each in write(kind)] == [each[0].tokens for each in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "choices",
    [
        {"rule": "beam", "results": 2},
        {"rule": "diverse", "groups": 2},
        {"rule": "bert4keras", "beams": 3},
        {"rule": "sample", "top_p": 0.9, "consistent": True, "results": 2},
        {"rule": "contrastive"},
        {"guidance": 1.5, "without": "山"},
        {"repetition_penalty": 1.3, "decay": (3, 1.2), "forbidden": ("不",)},
        {"prompt_lookup": 3, "no_repeat_ngram": 2, "minimum_length": 3},
        {"pattern": "[今天气]{2,5}", "rule": "sample"},
    ],
    ids=str,
)
def test_batches_change_nothing(kind: str, choices: dict[str, object]) -> None:
    together, apart = write(kind, **choices), write(kind, batch=1, **choices)
    for ours, theirs in zip(together, apart, strict=True):
        assert [each.tokens for each in ours] == [each.tokens for each in theirs]
        assert [each.score for each in ours] == pytest.approx([each.score for each in theirs], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_contrastive_search_with_alpha_zero_is_greedy(kind: str) -> None:
    """The state of the head follows the candidates that are tried and dropped."""
    greedy = [each[0] for each in write(kind)]
    found = [each[0] for each in write(kind, rule="contrastive", alpha=0.0)]
    assert [each.tokens for each in found] == [each.tokens for each in greedy]
    assert [each.score for each in found] == pytest.approx([each.score for each in greedy], abs=1e-4)
    assert all("[PAD]" not in TOKENIZER.vocabulary.tokens_of(each.tokens) for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_and_traces(kind: str) -> None:
    writer = Writer(MODELS[kind], TOKENIZER, GenerationOptions(maximum_length=8, alternatives=2))
    for prompt, (found,) in zip(PROMPTS, writer.write(PROMPTS), strict=True):
        assert "".join(writer.stream(prompt)) == found.text
        assert sum(each.log_probability for each in found.trace) == pytest.approx(found.score, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [SelfTerminating(0.05), NonMonotonic(0.05)])
def test_greedy_texts_end(kind: str, rule: Termination) -> None:
    model = stopping(kind, rule)
    torch.nn.init.zeros_(model.stop.output.weight)
    torch.nn.init.constant_(model.stop.output.bias, 1e3 * rule.start)
    options = GenerationOptions(maximum_length=certain_end(0.05))
    for (found,) in generate_texts(model, TOKENIZER, PROMPTS, options):
        assert found.stopped == "end"


def test_the_end_token_is_that_of_the_head() -> None:
    end = TOKENIZER.vocabulary.tokens[9]
    model = TerminatingTransformer(tiny_writer("lm"), 9, NonMonotonic(0.9)).eval()
    assert Writer(model, TOKENIZER).parts.end_id == 9
    found = generate_texts(model, TOKENIZER, ["今"], GenerationOptions(end=end, maximum_length=8))
    assert found[0][0].stopped == "end" and len(found[0][0].tokens) < 4
    with pytest.raises(UserError, match=rf"a head that ends texts with {end}, not \[SEP\]"):
        Writer(model, TOKENIZER, GenerationOptions(end="[SEP]"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_opened_and_diagnosed(tmp_path: Path, kind: str) -> None:
    save_terminating(MODELS[kind], tmp_path)
    TOKENIZER.save(tmp_path)
    writer = open_writer(tmp_path, GenerationOptions(maximum_length=8))
    assert isinstance(writer.model, TerminatingTransformer)
    assert [each[0].tokens for each in writer.write(PROMPTS)] == [each[0].tokens for each in write(kind)]
    found = diagnose_model(writer.model, writer.tokenizer, PROMPTS, writer.options, samples=2)
    assert [each.repetition.name for each in found.rules] == list(COMPARED) and found.transitions is not None
    greedy = chain.from_iterable(write(kind))
    assert found.rules[0].mean_length == pytest.approx(
        sum(len(each.tokens) for each in greedy) / len(PROMPTS)
    )
