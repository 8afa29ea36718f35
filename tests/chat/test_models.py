"""What training computes and what decoding computes are the same numbers, segments and running sums included."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import torch

from hanformer.chat.dialogues import EncodedDialogues
from hanformer.chat.layouts import LAYOUTS, layout_named
from hanformer.chat.models import make_model, read_prompts
from hanformer.chat.opening import open_chat
from hanformer.errors import UserError
from hanformer.models import load
from hanformer.tasks.stop_head import StopOptions, logits_at
from hanformer.tasks.text_recipe import make_tokenizer
from hanformer.text.vocabulary import DEFAULT_SPECIALS, Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.chat.talks import RECIPE, TALKS, TUNED
from tests.similarity.tiny import tiny_folder, tiny_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "nezha_lm"
KINDS = [
    (layout, stop, position)
    for layout in LAYOUTS
    for stop, position in (
        ("none", "rotary"),
        ("none", "relative_sinusoidal"),
        ("none", "learned"),
        ("self_terminating", "rotary"),
        ("non_monotonic", "relative_sinusoidal"),
    )
]


@pytest.mark.parametrize(("layout", "stop", "position"), KINDS)
def test_decoding_equals_training(layout: str, stop: str, position: str) -> None:
    """log p of every reply token: from one packed pass, and step by step behind its prompt, history cut or not."""
    recipe = replace(
        RECIPE, layout=layout, stop=StopOptions(stop, 0.05), sizes=replace(RECIPE.sizes, position=position)
    )
    tokenizer = make_tokenizer(recipe, [turn for turns in TALKS for turn in turns], LAYOUTS[layout])
    spoken = layout_named(layout, tokenizer.vocabulary)
    model = make_model(recipe, tokenizer).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    encoded = EncodedDialogues.of(TALKS, tokenizer, spoken, longest=99)
    batch = encoded.collate(range(len(encoded)), Random(0))
    with torch.no_grad():
        packed = logits_at(model, batch).log_softmax(-1)
    place = 0
    for example in range(len(encoded)):
        turns = encoded.turns(example)
        learned = range(1, len(turns)) if layout == "alternating" else [len(turns) - 1]
        for reply in learned:
            logits, state = read_prompts(model, [spoken.prompt(turns[:reply])])
            steps = [
                logits[0],
                *(model.step(torch.tensor([[token]]), state)[0, 0] for token in turns[reply]),
            ]
            expected = torch.stack(steps).log_softmax(-1)
            found = packed[place : place + len(steps)]
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
            place += len(steps)
    assert place == len(packed)


def test_segments_matter() -> None:
    """The reply's own segment is the one that was asked for: another one gives other numbers."""
    tokenizer = make_tokenizer(RECIPE, [turn for turns in TALKS for turn in turns])
    spoken = layout_named("alternating", tokenizer.vocabulary)
    model = make_model(RECIPE, tokenizer).eval()
    prompt = spoken.prompt([[7, 8]])
    steps = []
    for segment in (0, 1):
        _, state = read_prompts(model, [replace(prompt, reply_segment=segment)])
        steps.append(model.step(torch.tensor([[9]]), state))
    assert prompt.reply_segment == 1 and not torch.allclose(*steps)


def test_a_pretrained_model_is_opened(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "nezha", heads=("lm",), application="lm", position="learned", layers=3)
    recipe = replace(TUNED, start_from=str(folder), freeze=1)
    model = make_model(recipe, tiny_tokenizer())
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns and not [name for name in learns if name.startswith(("embeddings.", "stack.blocks.0."))]
    with pytest.raises(UserError, match="has 40 positions, maximum_length is 41"):
        make_model(replace(recipe, maximum_length=41), tiny_tokenizer())
    with pytest.raises(UserError, match="freeze"):
        make_model(replace(recipe, freeze=4), tiny_tokenizer())


def test_a_published_checkpoint_of_nezha_talks(tmp_path: Path) -> None:
    """TensorFlow's files and a vocabulary beside them; replies are what a full pass over the dialogue says."""
    for file in GOLDEN.iterdir():
        shutil.copy(file, tmp_path)
    size = json.loads((GOLDEN / "config.json").read_text("utf-8"))["vocab_size"]
    signs = DEFAULT_SPECIALS.names()
    WordPieceTokenizer(Vocabulary([*signs, *(chr(0x4E00 + n) for n in range(size - len(signs)))])).save(
        tmp_path
    )
    chat = open_chat(tmp_path, family="nezha")
    history = ("一丁", "丂七丄", "丅")
    found = chat.replier(chat.options({"rule": "greedy", "maximum_length": 6}, plain=True)).reply(history)
    model = load(tmp_path, family="nezha", application="lm")
    prompt = chat.layout.prompt([chat.tokenizer.encode(turn, special_tokens=False).ids for turn in history])
    ids, segments = list(prompt.ids), list(prompt.segments)
    assert segments[-2:] == [0, 0] and prompt.reply_segment == 1
    never = torch.tensor([0, 1, 2, 4])
    assert found.tokens
    for place, token in enumerate(found.tokens):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), torch.tensor([segments])).lm_logits[0, -1]
        barred = torch.cat([never, torch.tensor([3])]) if place == 0 else never
        assert int(logits.index_fill(0, barred, float("-inf")).argmax()) == token
        ids, segments = [*ids, token], [*segments, 1]


def test_sums_of_the_head_start_anew_with_each_reply() -> None:
    """Without that, later replies of a packed dialogue would have ended long ago."""
    recipe = replace(RECIPE, stop=StopOptions("self_terminating", 0.3))
    tokenizer = make_tokenizer(recipe, [turn for turns in TALKS for turn in turns])
    spoken, end = layout_named("alternating", tokenizer.vocabulary), tokenizer.vocabulary.sep_id
    model = make_model(recipe, tokenizer).eval()
    batch = EncodedDialogues.of(TALKS[:1], tokenizer, spoken, longest=99).collate([0], Random(0))
    with torch.no_grad():
        ending = logits_at(model, batch)[:, end].exp()
    starts = [0, *(place + 1 for place, label in enumerate(batch.labels.tolist()) if label == end)]
    assert len(starts) == 4
    for start, stop in pairwise(starts):
        assert ending[start] < 0.4 and (ending[start + 1 : stop] > ending[start : stop - 1]).all()
