"""Small SentencePiece models of every make, trained on the spot, for the tests of text."""

from __future__ import annotations

import io
import logging
from functools import cache

import sentencepiece

from hanformer.text.sentencepiece_model import SentencePieceModel

TEXTS = [
    "今天天气很好，我们去公园散步。",
    "美国的首都是华盛顿，中国的首都是北京。",
    "Hello world, this is a small text about nothing at all.",
    "深度学习模型需要大量的数据和计算资源 123 456",
    "小猫坐在垫子上，看着窗外的小鸟飞来飞去。",
    "the cat sat on the mat (and then it left) - twice",
    "ＡＢＣ ① ㍿ ﬁ café naïve がぎぐ 한국어",
] * 8

#: name of a make -> (options of the library's trainer)
MAKES: dict[str, dict[str, object]] = {
    "t5": {
        "model_type": "unigram",
        "byte_fallback": True,
        "pad_id": 0,
        "eos_id": 1,
        "unk_id": 2,
        "bos_id": -1,
        "vocab_size": 440,
    },
    "xlnet": {
        "model_type": "unigram",
        "control_symbols": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"],
        "user_defined_symbols": ["<eop>", ".", "(", ")", "“ ”"],
        "vocab_size": 200,
    },
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "vocab_size": 440,
    },
    "cpm": {
        "model_type": "unigram",
        "control_symbols": ["<cls>", "<sep>", "<pad>"],
        "user_defined_symbols": ["\u2582"],
        "vocab_size": 190,
    },
    "bert": {
        "model_type": "bpe",
        "pad_piece": "[PAD]",
        "pad_id": 0,
        "unk_piece": "[UNK]",
        "unk_id": 1,
        "bos_piece": "[CLS]",
        "bos_id": 2,
        "eos_piece": "[SEP]",
        "eos_id": 3,
        "user_defined_symbols": ["[MASK]"],
        "normalization_rule_name": "nfkc_cf",
        "vocab_size": 200,
    },
    "plain": {"model_type": "unigram", "treat_whitespace_as_suffix": True, "vocab_size": 190},
    "words": {"model_type": "char", "add_dummy_prefix": False, "vocab_size": 120},
}


@cache
def model_bytes(make: str) -> bytes:
    """The content of a trained .model file."""
    logging.getLogger("sentencepiece").setLevel(logging.ERROR)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        minloglevel=2,
        hard_vocab_limit=False,
        num_threads=1,
        **MAKES[make],
    )
    return written.getvalue()


@cache
def model(make: str) -> SentencePieceModel:
    """The same, read by us."""
    return SentencePieceModel.from_bytes(model_bytes(make), make)


@cache
def library(make: str) -> sentencepiece.SentencePieceProcessor:
    """The oracle: the library with the untouched file."""
    return sentencepiece.SentencePieceProcessor(model_proto=model_bytes(make))
