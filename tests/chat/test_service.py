"""A run of chat is evaluated and predicts as every other run does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import pytest
import torch

from hanformer.chat.dialogues import EncodedDialogues
from hanformer.chat.opening import OpenedChat
from hanformer.chat.replies import Reply
from hanformer.chat.service import ChatService, distinct, perplexity, score_replies
from hanformer.errors import UserError
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.stop_head import logits_at
from tests.chat.talks import TALKS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(turns) + "\n" for turns in (*TALKS, ("好" * 40, "好"))), "utf-8")
    return path


def test_what_is_known_by_heart_scores_well(run_folder: Path, data: Path) -> None:
    service = open_service(run_folder, ServingOptions(beams=1, precision="fp32"))
    found = service.evaluate(str(data))
    assert found.figures["perplexity"] < 1.2 and found.figures["unfinished"] == 0
    assert found.figures["bleu"] > 99
    assert [row["written"] for row in found.rows] == [turns[-1] for turns in TALKS]
    assert "4 dialogues, 1 of them left out; 3 replied to" in found.text
    with pytest.raises(UserError, match="without"):
        service.evaluate(str(data), data)


def test_replies_to_texts(run_folder: Path) -> None:
    service = open_service(run_folder, ServingOptions(beams=2, precision="fp32"))
    found = service.predict(["你好", "", "吃了吗\t吃了\t吃的什么", "你好\t好呀\t去哪里"])
    assert found[0] == "好呀" and isinstance(found[1], UserError) and found[3] == "去山上"
    sampling = open_service(run_folder, ServingOptions(precision="fp32"))
    assert isinstance(sampling, ChatService) and sampling.replier.options.rule == "sample"


def test_perplexity_by_its_definition(talker: OpenedChat) -> None:
    encoded = EncodedDialogues.of(TALKS, talker.tokenizer, talker.layout, longest=32)
    costs = []
    for place in range(len(encoded)):
        batch = encoded.collate([place], Random(0))
        with torch.no_grad():
            log_p = logits_at(talker.model, batch).log_softmax(-1)
        costs += log_p.gather(1, batch.labels[:, None])[:, 0].tolist()
    found, left_out = perplexity(talker, [*TALKS, ("你好",)])
    assert found == pytest.approx(math.exp(-sum(costs) / len(costs)), rel=1e-5) and left_out == 1
    assert len(costs) == sum(len(turn) + 1 for turns in TALKS for turn in turns[1:])
    with pytest.raises(UserError, match="no dialogue"):
        perplexity(talker, [("你好",)])


def test_scores_by_hand() -> None:
    replies = [Reply("好好", (7, 7), True), Reply("好天", (7, 8), False)]
    found = score_replies(replies, ["好好", "坏"])
    assert (found.unfinished, found.length, found.distinct_1, found.distinct_2) == (0.5, 2.0, 0.5, 1.0)
    assert found.texts.repetition.in_window == 0.25
    assert "not ended" in found.table()
    assert distinct([""], 2) == 0.0
