"""Replies end, do not repeat, hold no borders, and do not depend on the batch; histories are cut at whole turns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.chat.opening import OpenedChat, open_chat
from hanformer.chat.replies import Replier, reply_options
from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.chat.talks import TALKS
from tests.harness.material import random_model, tiny_config
from tests.similarity.tiny import tiny_tokenizer
from tests.tasks.writers import tiny_writer_folder

HISTORIES = [turns[:count] for turns in TALKS for count in range(1, len(turns) + 1)]


def test_what_is_on_unless_told_otherwise() -> None:
    chosen = {"top_p": 0.9, "consistent": True, "no_repeat_ngram": 3, "rule": "sample"}
    assert reply_options().chosen() == chosen
    assert reply_options({"top_p": 0.5, "seed": None}).chosen() == {**chosen, "top_p": 0.5}
    assert reply_options({"top_k": 5, "no_repeat_ngram": 0}) == GenerationOptions(
        rule="sample", top_k=5, consistent=True
    )
    assert reply_options({"rule": "beam", "beams": 2, "run": "x"}) == GenerationOptions(
        rule="beam", beams=2, no_repeat_ngram=3
    )
    assert reply_options({"top_k": 5}, plain=True) == GenerationOptions(rule="sample", top_k=5)


@pytest.mark.parametrize(
    "words", [{"rule": "greedy"}, {"rule": "sample", "temperature": 2.0}, {"rule": "beam", "beams": 2}]
)
def test_batches_streams_and_single_replies_agree(talker: OpenedChat, words: dict) -> None:
    replier = talker.replier(talker.options(words))
    numbers = range(7, 7 + len(HISTORIES))
    together = replier.replies(HISTORIES, batch=3, numbers=numbers)
    for history, number, reply in zip(HISTORIES, numbers, together, strict=True):
        assert replier.reply(history, number=number) == reply
        assert "".join(replier.stream(history, number=number)) == reply.text


def test_draws_differ_by_number_and_not_by_chance(talker: OpenedChat) -> None:
    replier = talker.replier(talker.options({"temperature": 3.0}))
    first = [replier.reply(("你好",), number=number).text for number in range(6)]
    assert len(set(first)) > 1
    assert first == [replier.reply(("你好",), number=number).text for number in range(6)]


def test_remedies_and_borders(talker: OpenedChat) -> None:
    """A model that wants nothing but borders writes none of them, and repeats no 3-gram."""
    size = len(talker.tokenizer.vocabulary)
    config = tiny_config(vocab_size=size, application="lm", position="rotary")
    model = random_model(config, ("lm",), torch.float32)
    with torch.no_grad():
        bias = torch.zeros(size)
        bias[list(range(5))] = 50.0  # [PAD] to [MASK], the end among them
        bias[talker.tokenizer.vocabulary.sep_id] = -50.0
        model.lm_head.bias.copy_(bias)
    replier = Replier(model, talker.tokenizer, talker.layout, talker.options({"rule": "greedy"}), 32)
    reply = replier.reply(("你好",))
    assert not reply.finished and len(reply.tokens) == 16 and not set(reply.tokens) & set(range(5))
    grams = list(zip(reply.tokens, reply.tokens[1:], reply.tokens[2:], strict=False))
    assert len(set(grams)) == len(grams)


def test_histories_are_cut_at_whole_turns(talker: OpenedChat) -> None:
    replier = talker.replier(talker.options({"maximum_length": 16}))
    assert replier.room == 32 - 16 + 1
    turns = [text for talk in TALKS for text in talk][:8]
    whole = replier.prompt(turns)
    # [CLS] and the last turns: 你好 今天下雨 那就在家 吃了吗 ... as many as 17 tokens hold
    assert len(whole.ids) <= replier.room
    sizes = [1 + sum(len(turn) + 1 for turn in turns[first:]) for first in range(len(turns))]
    first = next(place for place, size in enumerate(sizes) if size <= replier.room)
    assert 0 < first < len(turns) - 1 and len(whole.ids) == sizes[first]
    assert whole.reply_segment == len(turns) % 2 and whole.segments[1] == first % 2
    with pytest.raises(UserError, match="has 17 tokens, the model has room for 15"):
        replier.prompt(["好" * 17])
    assert len(replier.prompt(["好" * 15]).ids) == 17


def test_no_batch(talker: OpenedChat) -> None:
    with pytest.raises(UserError, match="batch"):
        talker.replier(talker.options()).replies([("你好",)], batch=0)
    assert talker.replier(talker.options()).replies([]) == []


@pytest.mark.parametrize("history", [[], [""], ["  "], ["[SEP]"], ["你好", "好呀", "[CLS]"]])
def test_nothing_was_said(talker: OpenedChat, history: list[str]) -> None:
    with pytest.raises(UserError, match="empty"):
        talker.replier(talker.options()).reply(history)


def test_one_text_is_no_history(talker: OpenedChat) -> None:
    with pytest.raises(UserError, match="a history is a sequence of turns"):
        talker.replier(talker.options()).reply("你好")
    with pytest.raises(UserError, match="does not know how dialogues are laid out"):
        talker.replier(talker.options({"rule": "contrastive"}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (GenerationOptions(rule="contrastive"), "contrastive"),
        (GenerationOptions(rule="beam", results=2), "results: no meaning"),
        (GenerationOptions(time_limit=3.0), "time_limit: no meaning"),
        (GenerationOptions(maximum_length=31), "leave no room"),
        (GenerationOptions(suppress=("龘",), maximum_length=4), "no token of the vocabulary"),
    ],
)
def test_options_without_meaning_are_refused(
    talker: OpenedChat, options: GenerationOptions, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        talker.replier(options)


def test_model_folders(tmp_path: Path) -> None:
    """A language model without a run talks too; what cannot is refused."""
    chat = open_chat(tiny_writer_folder(tmp_path / "gpt"))
    assert chat.longest == 40
    reply = chat.replier(chat.options({"rule": "greedy"})).reply(("今天",))
    assert reply.tokens and set(reply.text) <= set(chat.tokenizer.vocabulary.tokens)
    with pytest.raises(UserError, match=r"\[speaker1\]"):
        open_chat(tmp_path / "gpt", layout="speakers")
    with pytest.raises(UserError, match="not as lm"):
        open_chat(tiny_writer_folder(tmp_path / "t5", "t5"))
    with pytest.raises(UserError):
        open_chat(tmp_path / "nothing")


def test_speakers_of_a_model_folder(tmp_path: Path) -> None:
    """CDial-GPT's way: segments are looked up among the words, though the config says nothing of it."""
    words = tiny_tokenizer().vocabulary.with_added(["[speaker1]", "[speaker2]"])
    config = tiny_config(vocab_size=len(words), application="lm", position="learned", segment_vocab_size=0)
    save(random_model(config, ("lm",), torch.float32), tmp_path)
    WordPieceTokenizer(words).save(tmp_path)
    chat = open_chat(tmp_path, layout="speakers")
    ids = torch.tensor(
        [[2, 21, words["今"], 22, words["天"], 21]]
    )  # [CLS] [speaker1] 今 [speaker2] 天 [speaker1]
    types = torch.tensor([[2, 21, 21, 22, 22, 21]])
    model = load(tmp_path, changes={"shared_segment_embeddings": True})
    never = torch.tensor([0, 1, 2, 3, 4, 21, 22])
    first = model(ids, types).lm_logits[0, -1].index_fill(0, never, float("-inf")).argmax()
    ids, types = (torch.cat([row, new.view(1, 1)], 1) for row, new in ((ids, first), (types, types[0, -1])))
    never = torch.tensor([0, 1, 2, 4, 21, 22])
    second = model(ids, types).lm_logits[0, -1].index_fill(0, never, float("-inf")).argmax()
    replier = chat.replier(chat.options({"rule": "greedy", "maximum_length": 2}, plain=True))
    found = replier.reply(("今", "天"))
    expected = (int(first),) if int(second) == words.sep_id else (int(first), int(second))
    assert found.tokens == expected
