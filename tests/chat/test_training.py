"""Chat from dialogues to replies: learned by heart in both layouts and with every head; resumed; refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hanformer
from hanformer.chat import ChatRecipe, train
from hanformer.chat.opening import OpenedChat, open_chat
from hanformer.data.dialogues import DialogueData
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.tasks.stop_head import StopOptions
from hanformer.train.runs import read_recipe
from tests.chat.talks import DATA, RECIPE, TALKS, TUNED, learned
from tests.similarity.tiny import tiny_folder


def said_by_heart(chat: OpenedChat) -> None:
    """Greedy replies reproduce every turn from those before it."""
    replier = chat.replier(chat.options({"rule": "greedy"}, plain=True))
    asked = [(turns[:count], turns[count]) for turns in TALKS for count in range(1, len(turns))]
    replies = replier.replies([history for history, _ in asked], batch=2)
    assert [reply.text for reply in replies] == [reply for _, reply in asked]
    assert all(reply.finished for reply in replies)


def test_dialogues_are_learned_by_heart(run_folder: Path, talker: OpenedChat) -> None:
    said_by_heart(talker)
    assert isinstance(hanformer.load(run_folder), Transformer)


@pytest.mark.parametrize(("layout", "stop"), [("speakers", "none"), ("alternating", "non_monotonic")])
def test_other_layouts_and_heads(tmp_path: Path, layout: str, stop: str) -> None:
    said_by_heart(learned(tmp_path / "run", layout, stop))
    with pytest.raises(UserError, match="was trained with the layout"):
        open_chat(tmp_path / "run", layout="speakers" if layout == "alternating" else "alternating")
    with pytest.raises(UserError, match="its own family"):
        open_chat(tmp_path / "run", family="nezha")


@pytest.mark.parametrize("stop", ["none", "self_terminating"])
def test_a_cut_run_goes_on_as_if_it_had_not_been(tmp_path: Path, stop: str) -> None:
    short = replace(
        RECIPE, stop=StopOptions(stop), train=replace(RECIPE.train, updates=6, schedule="constant")
    )
    train(short, DATA, tmp_path / "whole")
    train(replace(short, train=replace(short.train, updates=3)), DATA, tmp_path / "cut")
    train(short, DATA, tmp_path / "cut", resume=True)
    for name in ("model.safetensors", *(["stop.safetensors"] if stop != "none" else [])):
        whole, cut = ((tmp_path / run / "best" / name).read_bytes() for run in ("whole", "cut"))
        assert whole == cut, name
    with pytest.raises(UserError, match="already holds a run"):
        train(short, DATA, tmp_path / "whole")
    with pytest.raises(UserError, match="layout"):
        train(replace(short, layout="speakers"), DATA, tmp_path / "whole", resume=True)
    assert read_recipe(ChatRecipe(), tmp_path / "whole" / "run.toml") == short


@pytest.mark.parametrize("position", ["learned", "relative_sinusoidal"])
def test_a_pretrained_model_goes_on_learning(tmp_path: Path, position: str) -> None:
    """NEZHA kinds keep their relative positions; the frozen part stays bit for bit."""
    folder = tiny_folder(tmp_path / "old", heads=("lm",), application="lm", position=position)
    talks = (("今天", "天气好"), ("雨", "不好"))
    recipe = replace(
        TUNED, start_from=str(folder), freeze=1, train=replace(RECIPE.train, updates=2), tricks=("r_drop:1",)
    )
    train(recipe, DialogueData("talks", talks, ()), tmp_path / "run")
    old, new = hanformer.load(folder).state_dict(), hanformer.load(tmp_path / "run").state_dict()
    kept = [name for name in old if name.startswith(("embeddings.", "stack.blocks.0."))]
    assert kept and all((old[name] == new[name]).all() for name in kept)
    assert any((old[name] != new[name]).any() for name in old)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": "nezha"}, "layout: expected one of"),
        ({"learn": "some"}, "learn: expected one of"),
        ({"learn": "all", "layout": "speakers"}, "closes every turn"),
        ({"stop": StopOptions("self_terminating"), "label_smoothing": 0.1}, "choose one"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"limit": -1}, "limit"),
        ({"freeze": 1}, "start_from"),
        ({"tricks": ("magic",)}, "magic"),
    ],
)
def test_choices_that_contradict_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(RECIPE, **changes)


def test_data_that_cannot_be_learned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dialogue has two turns that fit into 5 tokens"):
        train(replace(RECIPE, maximum_length=5), DATA, tmp_path / "a")
    old = tiny_folder(tmp_path / "old", heads=("lm",), application="lm")
    with pytest.raises(UserError, match=r"\[speaker1\]"):
        train(replace(TUNED, start_from=str(old), layout="speakers"), DATA, tmp_path / "b")
