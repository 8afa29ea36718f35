"""A chat run at work: it replies, and is judged by what it says to real dialogues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from hanformer.chat.dialogues import EncodedDialogues
from hanformer.chat.opening import OpenedChat, open_chat
from hanformer.chat.replies import Replier, Reply
from hanformer.chat.training import validation
from hanformer.data.dialogues import Dialogue, open_test
from hanformer.errors import UserError
from hanformer.runtime import inference_dtype
from hanformer.tasks.rouge import characters
from hanformer.tasks.scoring import TextScores, score_texts
from hanformer.tasks.serving import Evaluated, Service, ServingOptions, spread

#: How many dialogues of a test set are replied to; all of them are read for the perplexity.
REPLIED: Final = 1000


@dataclass(frozen=True)
class ReplyScores:
    """What replies are judged by: shares of 1, the mean length in tokens, and the scores beside the real replies.

    回复的评分。

    `unfinished` is the share that had not ended by the greatest length; `distinct_1` and `distinct_2` are different
    n-grams of characters over all n-grams of all replies.
    """

    unfinished: float
    length: float
    distinct_1: float
    distinct_2: float
    texts: TextScores

    def table(self) -> str:
        """All of it as lines to read. 供阅读的表格。"""
        rows = (
            ("not ended", 100 * self.unfinished),
            ("mean tokens", self.length),
            ("distinct-1", 100 * self.distinct_1),
            ("distinct-2", 100 * self.distinct_2),
        )
        return "\n".join([f"{name:<15}{value:8.2f}" for name, value in rows] + [self.texts.table()])


def distinct(texts: Sequence[str], size: int) -> float:
    """Dist-n: the share of n-grams of characters that are different, over all texts. 不同 n 元组的比例。

    Source: Li et al. 2016, arXiv 1510.03055.
    """
    rows = [characters(text) for text in texts]
    grams = [tuple(row[place : place + size]) for row in rows for place in range(len(row) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def score_replies(replies: Sequence[Reply], references: Sequence[str]) -> ReplyScores:
    """Replies judged beside the real ones. 与真实回复比较。

    Raises UserError as `score_texts` does.
    """
    texts = [reply.text for reply in replies]
    return ReplyScores(
        unfinished=sum(not reply.finished for reply in replies) / max(1, len(replies)),
        length=sum(len(reply.tokens) for reply in replies) / max(1, len(replies)),
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        texts=score_texts(texts, references),
    )


def perplexity(chat: OpenedChat, dialogues: Sequence[Dialogue]) -> tuple[float, int]:
    """exp of the mean −log p of the tokens of replies, their ends included, and how many dialogues were too long.

    回复词元的困惑度，以及因过长而略去的对话数。

    Raises UserError where no dialogue fits.
    """
    encoded = EncodedDialogues.of(
        dialogues, chat.tokenizer, chat.layout, learn="replies", longest=chat.longest
    )
    if not len(encoded):
        raise UserError(f"no dialogue has two turns that fit into {chat.longest} tokens")
    return math.exp(validation(chat.recipe, encoded)(chat.model)["loss"]), encoded.left_out


class ChatService(Service):
    """Replies to the last of some turns. 对话服务。"""

    def __init__(self, chat: OpenedChat, replier: Replier, rows: int | None = None) -> None:
        self.chat, self.replier, self.rows = chat, replier, rows or REPLIED

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Perplexity of the replies of a test set, and the replies to the last utterances of its dialogues: whether
        they end, repeat, and come near the real ones.

        测试集上的困惑度，以及所生成回复的终止率、重复率与 BLEU 等。

        Raises UserError for `without`, which has no meaning here, and for unusable data.
        """
        if without is not None:
            raise UserError("--without is for word problems; leave it out")
        dialogues = open_test(data)
        found, left_out = perplexity(self.chat, dialogues)
        asked = self._askable(dialogues)
        replies = self.replier.replies([turns[:-1] for turns in asked])
        scores = score_replies(replies, [turns[-1] for turns in asked])
        texts = scores.texts
        figures = {
            "perplexity": found,
            "unfinished": scores.unfinished,
            "bleu": texts.corpus.bleu,
            "distinct_2": scores.distinct_2,
            "repeated_ngrams": texts.repetition.ngrams,
        }
        lines = (
            f"{data}: {len(dialogues):,} dialogues, {left_out} of them left out; {len(asked):,} replied to",
            f"{'perplexity':<15}{found:8.2f}   (a token of a reply, of {len(self.chat.tokenizer.vocabulary):,})",
            scores.table(),
        )
        rows = [
            {"history": list(turns[:-1]), "reply": turns[-1], "written": reply.text, "ended": reply.finished}
            for turns, reply in zip(asked, replies, strict=True)
        ]
        return Evaluated("\n".join(lines), figures, rows)

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The reply to each text, or why there is none; tabs in a text stand between earlier turns and the last.

        逐条回复；文本中的制表符分隔历史各轮。
        """
        return [self._reply(text, number) for number, text in enumerate(texts)]

    def _reply(self, text: str, number: int) -> str | UserError:
        try:
            return self.replier.reply(text.split("\t"), number=number).text
        except UserError as error:
            return error

    def _askable(self, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
        """Dialogues that can be replied to, spread evenly over the set."""
        found = [turns for turns in dialogues if self._fits(turns)]
        if not found:
            raise UserError("no dialogue of the data has an utterance and a reply that fit the model")
        return spread(found, self.rows)

    def _fits(self, turns: Dialogue) -> bool:
        if len(turns) < 2:
            return False
        try:
            self.replier.prompt(turns[:-1])
        except UserError:
            return False
        return True


def open_service(run: Path, options: ServingOptions) -> ChatService:
    """The chat of a run: it samples, or is greedy (1) or searches with a beam where `options.beams` was changed.

    打开训练好的对话模型；未改动束宽时为采样。
    """
    dtype = inference_dtype(options.precision, torch.device(options.device))
    chat = open_chat(run, device=options.device, dtype=dtype)
    words: dict[str, Any] = {}
    if options.beams != ServingOptions().beams:
        words = {"rule": "beam", "beams": options.beams} if options.beams > 1 else {"rule": "greedy"}
    return ChatService(chat, chat.replier(chat.options(words)))
