"""Every choice of generation can be made on the command line, and arrives as it was made."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.cli.generate import Generate
from hanformer.cli.generation_options import CHOICES
from hanformer.tasks.generation_options import GenerationOptions, read_options
from tests.cli.conftest import Run

NAMES = {entry.name for entry in fields(GenerationOptions)}
MAKER = typer.Typer(add_completion=False)
MAKER.command()(Generate)
COMMAND = typer.main.get_command(MAKER)

COUNT, SHARE = st.integers(1, 50), st.floats(0.01, 0.99)
TOKEN = st.text("甲乙丙=,", min_size=1, max_size=2)
TOKENS = st.lists(TOKEN, min_size=1, max_size=3).map(tuple)
#: Choices that any rule but contrastive takes, by ones and twos.
ANY: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("repetition_penalty", "presence_penalty", "frequency_penalty", "guidance"), SHARE),
    **dict.fromkeys(("no_repeat_ngram", "prompt_length", "alternatives"), COUNT),
    **dict.fromkeys(("suppress", "stop", "also_end", "forbidden"), TOKENS),
    **{"end": TOKEN, "time_limit": SHARE, "frame": st.just("bare"), "pattern": TOKEN},
    "bias": st.dictionaries(TOKEN, SHARE, min_size=1, max_size=2),
    "force": st.dictionaries(COUNT, TOKEN, min_size=1, max_size=2),
    "decay": st.tuples(COUNT, SHARE),
}
#: What belongs to a rule.
RULES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "greedy": {"prompt_lookup": COUNT},
    "beam": {"beams": COUNT, "length_penalty": SHARE, "stopping": st.just("full"), "results": COUNT},
    "diverse": {"groups": COUNT, "diversity": SHARE},
    "bert4keras": {"minimum_ends": COUNT, "beams": COUNT},
    "sample": {
        **dict.fromkeys(("top_p", "min_p", "typical", "epsilon", "eta", "temperature"), SHARE),
        **{"top_k": COUNT, "seed": COUNT},
    },
}


def words(choices: dict[str, Any]) -> list[str]:
    """Choices as a user types them."""
    told: list[str] = []
    for name, value in choices.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            told.append(option)
        elif name == "decay":
            told += [option, f"{value[0]},{value[1]!r}"]
        elif isinstance(value, dict):
            told += [word for key, item in value.items() for word in (option, f"{key}={item}")]
        elif isinstance(value, tuple):
            told += [word for item in value for word in (option, item)]
        else:
            told += [option, str(value)]
    return told


def asked(*arguments: str) -> Any:
    """The record that the command line makes."""
    return COMMAND.main(["model", "今天", *arguments], standalone_mode=False)


@st.composite
def made(draw: st.DrawFn) -> dict[str, Any]:
    """Some choices that go together."""
    rule = draw(st.sampled_from(sorted(RULES)))
    found = draw(st.fixed_dictionaries({}, optional={**ANY, **RULES[rule]}))
    return {"rule": rule, **found}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(made())
def test_what_is_typed_arrives(choices: dict[str, Any]) -> None:
    assert read_options(vars(asked(*words(choices)))) == GenerationOptions(**choices)


def test_what_is_not_typed_is_left_out() -> None:
    record = asked()
    assert read_options(vars(record)) == GenerationOptions() and record.text == ["今天"]


def test_switches_and_what_needs_another() -> None:
    for choices in (
        {"rule": "beam", "gnmt": True, "length_penalty": 0.5},
        {"rule": "sample", "consistent": True, "mirostat": 2.5},
        {"rule": "contrastive", "alpha": 0.5, "candidates": 3, "minimum_length": 0, "maximum_length": 9},
        {"penalise_prompt": True, "presence_penalty": 1.0},
        {"guidance": 2.0, "without": "坏"},
        {"copy_prompt": True},
        {"passage": "今天"},
    ):
        assert read_options(vars(asked(*words(choices)))) == GenerationOptions(**choices)  # type: ignore[arg-type]


def test_every_choice_stands_in_the_table_once() -> None:
    told = [name for choices in CHOICES.values() for name in choices]
    assert sorted([*told, "alternatives"]) == sorted(NAMES)
    assert set(vars(asked())) >= NAMES


def test_the_help_has_every_choice_in_its_panel(run: Run) -> None:
    _, told, _ = run("generate", "--help")
    places = [told.index(panel) for panel in (*CHOICES, "Machine", "Files and output")]
    assert places == sorted(places)
    for name in NAMES:
        assert f"--{name.replace('_', '-')} " in told


def test_a_switch_has_no_second_name(run: Run, refused: Any) -> None:
    assert "--no-gnmt" in refused("generate", "model", "今", "--no-gnmt")


@pytest.mark.parametrize("option", ["--beams", "--top-p", "--seed", "--results"])
def test_words_where_numbers_stand_are_refused(refused: Any, option: str) -> None:
    assert "hanformer generate --help" in refused("generate", "model", "今", option, "many")
