"""Text out of every kind of model: against the loop called by hand, one by one, streamed and traced."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

import hanformer
from hanformer.decode import Beam, Greedy, Sample
from hanformer.decode import generate as search
from hanformer.errors import UserError
from hanformer.models.loading import Model
from hanformer.tasks.generation import Generated, Writer, generate_texts, open_writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.generation_parts import WritableTokens
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.similarity.tiny import CHARACTERS, tiny_encoder, tiny_tokenizer
from tests.tasks.writers import KINDS, PROMPTS, tiny_writer, tiny_writer_folder

TOKENIZER = tiny_tokenizer()
CLS, SEP = TOKENIZER.vocabulary.cls_id, TOKENIZER.vocabulary.sep_id
PAD = TOKENIZER.vocabulary.pad_id
MODELS = {kind: tiny_writer(kind) for kind in KINDS}


def write(
    kind: str, prompts: list[str] = PROMPTS, batch: int = 8, **choices: object
) -> list[list[Generated]]:
    options = GenerationOptions(**{"maximum_length": 8, **choices})  # type: ignore[arg-type]
    return generate_texts(MODELS[kind], TOKENIZER, prompts, options, batch=batch)


def by_hand(model: Model, ids: list[int], rule: object, stop: object = None) -> list[tuple[int, ...]]:
    logits, state = model.prompt([ids])
    found = search(
        model.step,
        state,
        logits,
        rule=rule,
        end_id=SEP,
        maximum_length=8,
        stop=stop,  # type: ignore[arg-type]
        constraint=WritableTokens(1, len(TOKENIZER.vocabulary), PAD, logits.shape[1], logits.device),
    )
    return [hypothesis.tokens for hypothesis in found[0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("choices", "rule"),
    [
        ({}, Greedy()),
        ({"rule": "beam", "beams": 3, "results": 2}, Beam(3, 2)),
        ({"rule": "sample", "seed": 7, "top_k": 5, "results": 3}, Sample(7, 3, top_k=5)),
    ],
)
def test_equals_the_loop_by_hand(kind: str, choices: dict[str, object], rule: object) -> None:
    text = "今天天气很好"
    bare = TOKENIZER.encode(text, special_tokens=False).ids
    ids = [CLS, *bare] if kind == "lm" else [CLS, *bare, SEP]
    (found,) = write(kind, [text], **choices)
    assert [each.tokens for each in found] == by_hand(MODELS[kind], ids, rule)
    assert [each.text for each in found] == [TOKENIZER.decode(each.tokens) for each in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"rule": "beam", "results": 2},
        {"rule": "diverse", "groups": 2},
        {"rule": "bert4keras", "beams": 3},
        {"rule": "sample", "top_p": 0.9, "consistent": True, "results": 2},
        {"guidance": 1.5, "without": "山"},
        {"forbidden": ("不",), "repetition_penalty": 1.3, "penalise_prompt": True},
        {"copy_prompt": True, "rule": "beam"},
        {"pattern": "[今天气]{2,5}", "rule": "sample"},
        {"prompt_lookup": 3, "no_repeat_ngram": 2},
    ],
    ids=str,
)
def test_batches_change_nothing(kind: str, choices: dict[str, object]) -> None:
    together = write(kind, **choices)
    for size in (1, 3):
        apart = write(kind, batch=size, **choices)
        for ours, theirs in zip(together, apart, strict=True):
            assert [each.tokens for each in ours] == [each.tokens for each in theirs]
            assert [each.score for each in ours] == pytest.approx([each.score for each in theirs], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_options_do_what_they_say(kind: str) -> None:
    first = [results[0] for results in write(kind)]
    for each in write(kind, forbidden=("不", "今不")):
        assert "不" not in each[0].text
    for prompt, (found,) in zip(PROMPTS, write(kind, copy_prompt=True), strict=True):
        assert found.text in prompt
    for (found,) in write(kind, passage="山水风云", minimum_length=2):
        assert found.text and found.text in "山水风云"
    for (found,) in write(kind, pattern="今(天|气)+不?"):
        assert found.stopped == "length" or re.fullmatch("今(天|气)+不?", found.text)
    assert all(found[0].text.startswith("山") for found in write(kind, force={0: "山"}))
    assert all("好" in found[0].text for found in write(kind, bias={"好": 50.0}))
    names = tuple(CHARACTERS) + TOKENIZER.vocabulary.specials.names()
    only = tuple(name for name in names if name not in ("水", "[SEP]"))
    assert all(set(found[0].text) <= {"水"} for found in write(kind, suppress=only))
    assert all(found[0].text == "" for found in write(kind, minimum_length=0, bias={"[SEP]": 99.0}))
    assert all(
        len(found[0].tokens) == 3
        for found in write(kind, maximum_length=4, decay=(2, 1e9), bias={"[SEP]": -40})
    )
    assert any(a.tokens != b[0].tokens for a, b in zip(first, write(kind, guidance=3.0), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_is_closed_keeps_no_text_from_ending(kind: str) -> None:
    asked = ["今天[SEP]很[SEP]好[SEP]"]
    for penalty in ({"no_repeat_ngram": 1}, {"repetition_penalty": 1e9}, {"frequency_penalty": 1e3}):
        (found,) = write(kind, asked, bias={"[SEP]": 99.0}, penalise_prompt=True, **penalty)[0]
        assert found.stopped == "end" and len(found.tokens) == 1
        assert not set(found.text) & set("今天很好")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["greedy", "beam", "bert4keras"])
def test_another_end_token_waits_for_the_minimum_length(kind: str, rule: str) -> None:
    liked = {"好": 60.0, "山": 50.0, "[SEP]": -99.0}
    (found,) = write(kind, ["今天"], rule=rule, also_end=("好",), bias=liked)[0]
    assert (found.text, found.stopped) == ("好", "stop")
    (found,) = write(kind, ["今天"], rule=rule, also_end=("好",), bias=liked, minimum_length=3)[0]
    assert (found.text, found.stopped) == ("山山好", "stop")
    if rule == "bert4keras":
        (found,) = write(kind, ["今天"], rule=rule, stop=("山好",), force={0: "山"}, bias=liked)[0]
        assert (found.text, found.stopped, len(found.tokens)) == ("", "stop", 2)


def test_diverse_beams_are_as_many_as_the_groups_need() -> None:
    for choices, count in (({"groups": 3}, 6), ({"results": 5}, 6), ({"groups": 5, "results": 7}, 10)):
        found = write("lm", rule="diverse", **choices)
        assert found == write("lm", rule="diverse", beams=count, **choices)
    with pytest.raises(UserError, match="3 groups of 4 beams"):
        write("lm", rule="diverse", beams=4, groups=3)


@pytest.mark.parametrize("kind", KINDS)
def test_why_it_stopped(kind: str) -> None:
    text = write(kind, ["今天"], suppress=("[UNK]", "[PAD]", "[CLS]", "[MASK]", "[SEP]"))[0][0]
    assert text.stopped == "length" and len(text.text) == 8
    stops = text.text[2:4]
    (found,) = write(kind, ["今天"], suppress=("[UNK]", "[PAD]", "[CLS]", "[MASK]", "[SEP]"), stop=(stops,))[
        0
    ]
    assert found.stopped == "stop" and found.text == text.text[: text.text.index(stops)]
    ended = write(kind, ["今天"], bias={"[SEP]": 99.0})[0][0]
    assert ended.stopped == "end" and len(ended.tokens) == 1
    (also,) = write(
        kind,
        ["今天"],
        also_end=("雪", text.text[0]) if "雪" in TOKENIZER.vocabulary else (text.text[0],),
        suppress=("[UNK]", "[PAD]", "[CLS]", "[MASK]", "[SEP]"),
    )[0]
    assert (also.stopped, also.text) == ("stop", text.text[0])
    late = write(kind, ["今天"], time_limit=1e-9, suppress=("[SEP]",))[0][0]
    assert late.stopped == "time" and len(late.tokens) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choices", [{}, {"rule": "sample", "seed": 5}, {"stop": ("好", "不雨")}], ids=str)
def test_streams_give_the_same_text(kind: str, choices: dict[str, object]) -> None:
    options = GenerationOptions(maximum_length=8, **choices)  # type: ignore[arg-type]
    writer = Writer(MODELS[kind], TOKENIZER, options)
    for number, (prompt, results) in enumerate(zip(PROMPTS, writer.write(PROMPTS), strict=True)):
        pieces = list(writer.stream(prompt, number=number))
        assert "".join(pieces) == results[0].text
    broken = writer.stream(PROMPTS[0])
    next(broken)
    broken.close()


@pytest.mark.parametrize("kind", KINDS)
def test_traces_add_up_to_the_score(kind: str) -> None:
    choices: tuple[dict[str, object], ...] = ({}, {"rule": "sample", "results": 2}, {"guidance": 2.0})
    for choice in choices:
        for found in itertools.chain(*write(kind, alternatives=3, **choice)):
            assert sum(each.log_probability for each in found.trace) == pytest.approx(found.score, abs=1e-3)
            tokens = [each.token for each in found.trace]
            assert tokens == [*found.tokens, *([SEP] if found.stopped == "end" else [])]
            assert all(len(each.alternatives) == 3 for each in found.trace)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_the_tokenizer_lacks_are_not_written(kind: str) -> None:
    small = WordPieceTokenizer(Vocabulary(TOKENIZER.vocabulary.tokens[:12]))
    for rule in ("greedy", "beam", "contrastive"):
        options = GenerationOptions(rule=rule, maximum_length=8)
        for found in itertools.chain(*generate_texts(MODELS[kind], small, ["今天", "气"], options)):
            assert max(found.tokens, default=0) < 12


def test_contrastive_search_with_alpha_zero_is_greedy() -> None:
    for kind in KINDS:
        assert [a[0].tokens for a in write(kind, rule="contrastive", alpha=0.0)] == [
            b[0].tokens for b in write(kind)
        ]


def test_long_prompts_are_cut_or_refused() -> None:
    long = "今天天气很不错" * 8
    for kind in ("lm", "unilm"):
        with pytest.raises(UserError, match="prompt 2: a prompt of .* the model has 40"):
            write(kind, ["雨", long])
        cut = write(kind, [long], prompt_length=10)[0][0]
        framed = [CLS, *TOKENIZER.encode(long, special_tokens=False).ids]
        ids = framed[-10:] if kind == "lm" else [*framed[:9], SEP]
        assert [cut.tokens] == by_hand(MODELS[kind], ids, Greedy())
    assert write("t5", [long])
    with pytest.raises(UserError, match="positions"):
        write("lm", ["雨"], maximum_length=40)
    assert write("lm", ["雨"], maximum_length=39)


def test_mistakes_are_told() -> None:
    for kind in KINDS:
        for empty in ("", " \n"):
            with pytest.raises(UserError, match="prompt 1: the prompt is empty"):
                write(kind, [empty])
    assert write("lm", []) == []
    with pytest.raises(UserError, match="application"):
        generate_texts(tiny_encoder(), TOKENIZER, ["今"])
    with pytest.raises(UserError, match="vocabulary head"):
        generate_texts(tiny_encoder((), application="lm"), TOKENIZER, ["今"])
    with pytest.raises(UserError, match="that `load` gives"):
        generate_texts(torch.nn.Linear(1, 1), TOKENIZER, ["今"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a list of prompts"):
        generate_texts(MODELS["lm"], TOKENIZER, "今天")
    with pytest.raises(UserError, match="a list of prompts"):
        Writer(MODELS["lm"], TOKENIZER).write("今天")
    with pytest.raises(UserError, match="prompt 1: expected a text as prompt, got int"):
        generate_texts(MODELS["lm"], TOKENIZER, [5])  # type: ignore[list-item]
    with pytest.raises(UserError, match="without: a prompt of 41 tokens"):
        write("lm", guidance=2.0, without="天" * 40)
    with pytest.raises(UserError, match="prompt 6: expected an allowed token after 1 generated"):
        options = GenerationOptions(pattern="今雪", maximum_length=8)
        list(Writer(MODELS["lm"], TOKENIZER, options).stream("今", number=5))
    with pytest.raises(UserError, match="'雪' is no token"):
        write("lm", suppress=("雪",))
    with pytest.raises(UserError, match="top-p"):
        write("lm", rule="sample", top_p=1.5)
    with pytest.raises(UserError, match="results <= beams"):
        write("lm", rule="beam", beams=2, results=3)
    with pytest.raises(UserError, match="prompt [1-4]: expected an allowed token after 1 generated"):
        write("lm", pattern="今雪")
    with pytest.raises(UserError, match="rule greedy, or sample with one result"):
        next(Writer(MODELS["lm"], TOKENIZER, GenerationOptions(rule="beam", maximum_length=4)).stream("今"))
    with pytest.raises(UserError, match="batch"):
        write("lm", batch=0)
    more = WordPieceTokenizer(TOKENIZER.vocabulary.with_added(["[N0]"]))
    with pytest.raises(UserError, match="do not belong together"):
        generate_texts(MODELS["lm"], more, ["今"])
    endless = WordPieceTokenizer(
        Vocabulary(["[PAD]", "[UNK]", *CHARACTERS], SpecialTokens(cls=None, sep=None, mask=None))
    )
    bare = GenerationOptions(frame="bare")
    with pytest.raises(UserError, match="no end token"):
        generate_texts(MODELS["lm"], endless, ["今"], bare)
    assert generate_texts(
        MODELS["lm"], endless, ["今"], GenerationOptions(frame="bare", end="好", maximum_length=4)
    )


def test_opens_what_lies_in_a_folder(tmp_path) -> None:
    writer = open_writer(tiny_writer_folder(tmp_path / "lm"), GenerationOptions(maximum_length=8))
    assert [each[0].tokens for each in writer.write(PROMPTS)] == [each[0].tokens for each in write("lm")]
    assert hanformer.generate is generate_texts
    (tmp_path / "lm" / "vocab.txt").unlink()
    with pytest.raises(UserError, match="--tokenizer"):
        open_writer(tmp_path / "lm")
