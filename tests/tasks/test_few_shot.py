"""Few-shot prompting and T5 generation from checkpoint to text: against transformers, and stopped at line ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers

import hanformer
from hanformer.errors import UserError
from hanformer.models.loading import Model
from hanformer.tasks.few_shot import FewShot, complete
from hanformer.tasks.generation import generate_texts, open_writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.text.cpm import CpmTokenizer
from hanformer.text.protocols import Tokenizer
from tests.similarity.tiny import tiny_tokenizer
from tests.tasks.writers import tiny_writer
from tests.text.sentencepiece_material import model_bytes

CAPITALS = FewShot("{question}的首都是{answer}", (("美国", "华盛顿"), ("法国", "巴黎"), ("日本", "东京")))


def test_prompts_are_those_of_the_post() -> None:
    assert CAPITALS.prompt("中国") == "美国的首都是华盛顿\n法国的首都是巴黎\n日本的首都是东京\n中国的首都是"
    assert CAPITALS.ending == "\n"
    subjects = FewShot(
        "从“{question}”中抽取主语：【{answer}】", (("a{answer}", "b{question}"),), introduction="抽取：\n"
    )
    assert subjects.prompt("c") == "抽取：\n从“a{answer}”中抽取主语：【b{question}】\n从“c”中抽取主语：【"
    assert subjects.ending == "】"
    assert FewShot("{question}{answer}").prompt("今天") == "今天"


@pytest.mark.parametrize("template", ["{question}", "{answer}{question}", "{question}{answer}{answer}", ""])
def test_templates_are_checked(template: str) -> None:
    with pytest.raises(UserError, match="expected one {question} and after it one {answer}"):
        FewShot(template)


def test_one_text_is_no_list_of_questions() -> None:
    with pytest.raises(UserError, match="a list of questions"):
        complete(tiny_writer("lm"), tiny_tokenizer(), FewShot("{question}:{answer}"), "中国")


def test_answers_must_be_able_to_end() -> None:
    with pytest.raises(UserError, match="no answer would end"):
        FewShot("{question}{answer}", separator="")
    with pytest.raises(UserError, match="holds '\\\\n'"):
        FewShot("{question}{answer}", (("a", "b\nc"),))


def cpm_folder(folder: Path, vocabulary: bytes) -> Path:
    """A tiny GPT-2 of transformers, with CPM's vocabulary beside it."""
    (folder / "chinese_vocab.model").write_bytes(vocabulary)
    size = len(CpmTokenizer.load(folder).vocabulary)
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=128, n_embd=16, n_layer=2, n_head=2, activation_function="gelu_new"
    )
    model = transformers.GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=2.0 if "mlp" in name else 0.5)
    model.save_pretrained(folder)
    return folder


def check_cpm(folder: Path) -> None:
    writer = open_writer(folder)
    model, tokenizer = writer.model, writer.tokenizer
    assert isinstance(tokenizer, CpmTokenizer)
    check_against_transformers(folder, model, tokenizer)
    check_line_ends(model, tokenizer)


def check_against_transformers(folder: Path, model: Model, tokenizer: Tokenizer) -> None:
    """Greedy answers to prompts of examples are transformers' own, cut at the line end."""
    peer = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    questions = ["中国", "今天天气很好，中国"]
    found = complete(model, tokenizer, CAPITALS, questions, GenerationOptions(maximum_length=8))
    for question, (answer,) in zip(questions, found, strict=True):
        ids = tokenizer.encode(CAPITALS.prompt(question)).ids
        expected = peer.generate(
            torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=5
        )[0, len(ids) :].tolist()
        assert list(answer.tokens) == expected[: len(answer.tokens)] and answer.tokens
        assert answer.text == tokenizer.decode(answer.tokens).split("\n")[0]
        assert len(set(answer.tokens)) > 3, "this material shows nothing"
        assert len(answer.tokens) == 8 or "\n" in tokenizer.decode(answer.tokens)


def check_line_ends(model: Model, tokenizer: CpmTokenizer) -> None:
    line_end = tokenizer.vocabulary.tokens[tokenizer.line_end_id]
    options = GenerationOptions(
        rule="sample", top_p=0.95, maximum_length=16, results=3, seed=4, force={2: line_end}
    )
    (answers,) = complete(model, tokenizer, CAPITALS, ["中国"], options)
    for answer in answers:
        assert len(answer.tokens) <= 3 and answer.stopped in ("stop", "end") and "\n" not in answer.text
        assert answer.stopped == "end" or answer.text == tokenizer.decode(answer.tokens[:-1])


def test_cpm_end_to_end(tmp_path: Path) -> None:
    check_cpm(cpm_folder(tmp_path, model_bytes("cpm")))


def test_cpm_with_its_own_vocabulary(tmp_path: Path, data_folder: Path) -> None:
    check_cpm(cpm_folder(tmp_path, (data_folder / "vocab" / "cpm_chinese_vocab.model").read_bytes()))


def t5_folder(folder: Path, vocabulary: Path) -> Path:
    """A tiny mT5 of transformers (its own output table, gated), with a vocabulary beside it."""
    shutil.copy(vocabulary, folder / "spiece.model")
    size = len(hanformer.load_tokenizer(folder / "spiece.model", "t5").vocabulary) + 2
    torch.manual_seed(3)
    config = transformers.MT5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2
    )
    model = transformers.MT5ForConditionalGeneration(config)
    torch.nn.init.normal_(model.lm_head.weight)
    torch.nn.init.normal_(model.shared.weight)
    for name, parameter in model.named_parameters():
        if "SelfAttention" in name or "EncDecAttention" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return folder


def check_t5(folder: Path) -> None:
    """A batch of unequal sources, greedily and by beams, is transformers' text for each."""
    model, tokenizer = hanformer.load(folder), hanformer.load_tokenizer(folder / "spiece.model", "t5")
    peer = transformers.MT5ForConditionalGeneration.from_pretrained(folder).eval()
    # transformers may write what the tokenizer does not have.
    unknown = list(range(len(tokenizer.vocabulary), peer.config.vocab_size))
    sources = ["今天天气很好，我们去公园散步。", "深度学习", "美国的首都是华盛顿，中国的首都是北京。"]
    choices = [(GenerationOptions(maximum_length=9), {}), *beams()]
    seen: set[int] = set()
    for options, asked in choices:
        found = generate_texts(model, tokenizer, sources, options)
        for source, results in zip(sources, found, strict=True):
            ids = torch.tensor([tokenizer.encode(source).ids])
            assert ids[0, -1] == 1
            expected = peer.generate(
                ids, max_new_tokens=9, do_sample=False, suppress_tokens=unknown, **asked
            )[0].tolist()
            assert expected[0] == 0, "decoding starts with the padding token"
            ended = [*results[0].tokens, 1] if results[0].stopped == "end" else list(results[0].tokens)
            assert ended == expected[1:]
            seen.update(expected)
            assert results[0].text == tokenizer.decode(results[0].tokens)
    assert len(seen) > 8, "this material shows nothing"


def beams() -> list[tuple[GenerationOptions, dict[str, object]]]:
    options = GenerationOptions(rule="beam", beams=3, maximum_length=9)
    return [(options, {"num_beams": 3, "early_stopping": "never"})]


def test_t5_end_to_end(tmp_path: Path) -> None:
    vocabulary = tmp_path / "t5.model"
    vocabulary.write_bytes(model_bytes("t5"))
    folder = tmp_path / "model"
    folder.mkdir()
    check_t5(t5_folder(folder, vocabulary))


def test_mt5_with_its_chinese_vocabulary(tmp_path: Path, data_folder: Path) -> None:
    check_t5(t5_folder(tmp_path, data_folder / "vocab" / "mt5_sentencepiece_cn.model"))
