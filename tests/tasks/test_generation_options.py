"""Options that contradict each other are refused, and words of a command line are read."""

from __future__ import annotations

import pytest

from hanformer.errors import UserError
from hanformer.tasks.generation_options import DEFAULTS, GenerationOptions, read_options


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"rule": "astar"}, "rule: expected one of greedy"),
        ({"frame": "wide"}, "frame"),
        ({"beams": 4}, "beams has no meaning with the rule greedy: choose the rule beam or diverse"),
        ({"rule": "beam", "top_p": 0.9}, "top_p has no meaning with the rule beam: choose the rule sample"),
        ({"rule": "sample", "length_penalty": 1.0}, "choose the rule beam or diverse"),
        ({"rule": "beam", "prompt_lookup": 4}, "choose the rule greedy or sample"),
        ({"results": 2}, "results has no meaning with the rule greedy"),
        ({"rule": "contrastive", "stop": ("。",)}, "stop cannot be had with the rule contrastive"),
        ({"maximum_length": 0}, "maximum_length >= 1"),
        ({"maximum_length": 3, "minimum_length": 4}, "got 4 and 3"),
        ({"rule": "sample", "results": 0}, "results: expected at least 1"),
        ({"alternatives": -1}, "alternatives: expected at least 0"),
        ({"without": "山"}, "give guidance"),
        ({"rule": "beam", "gnmt": True}, "give length_penalty"),
        ({"rule": "sample", "consistent": True}, "give a truncation"),
        ({"penalise_prompt": True}, "give a penalty"),
        ({"pattern": "a", "copy_prompt": True}, "copy_prompt and pattern: choose one"),
        ({"rule": "sample", "temperature": 2.0, "mirostat": 3.0}, "temperature and mirostat"),
        ({"forbidden": "坏话"}, "write ('坏话',)"),
        ({"suppress": "坏"}, "write ('坏',)"),
        ({"also_end": "。"}, "write ('。',)"),
        ({"stop": "。"}, "write ('。',)"),
        ({"force": {-1: "今"}}, "force: expected steps in 0..63, got -1"),
        ({"force": {8: "今"}, "maximum_length": 8}, "force: expected steps in 0..7, got 8"),
        ({"force": {"0": "今"}}, "force: expected steps in 0..63, got '0'"),
        ({"guidance": float("nan")}, "guidance: expected a finite number"),
    ],
)
def test_contradictions_are_told(choices: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as told:
        GenerationOptions(**choices)  # type: ignore[arg-type]
    assert said in str(told.value)


def test_words_of_a_command_line() -> None:
    words = {
        "rule": "beam",
        "beams": 3,
        "bias": ["好=1.5", "==-inf"],
        "force": ["0==", "2=今"],
        "decay": "5,1.25",
        "stop": ["。", "！"],
        "suppress": [],
        "top_k": None,
        "threads": 4,
    }
    options = read_options(words)
    assert options.bias == {"好": 1.5, "=": float("-inf")} and options.force == {0: "=", 2: "今"}
    assert (options.decay, options.stop, options.suppress) == ((5, 1.25), ("。", "！"), ())
    assert set(options.chosen()) == {"rule", "beams", "bias", "force", "decay", "stop"}
    assert read_options({"rule": "greedy", "bias": []}) == DEFAULTS
    for wrong in ({"bias": ["好"]}, {"bias": ["=1"]}, {"force": ["今"]}, {"force": ["0="]}, {"decay": "5"}):
        with pytest.raises(UserError, match="expected .*such as"):
            read_options(wrong)
