"""Which special tokens a SentencePiece model of a family has, and how a file shows its family.

各家族的 SentencePiece 约定：特殊词元、首尾模板、文件名，以及如何从文件认出家族。

Source: T5: Raffel et al. 2020, arXiv 1910.10683; XLNet: Yang et al. 2019, arXiv 1906.08237; Llama: Touvron
et al. 2023, arXiv 2302.13971; CPM: Zhang et al. 2020, arXiv 2012.00413; the tokenizers of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.framing import Template
from hanformer.text.json_section import Section
from hanformer.text.sentencepiece_model import UNKNOWN, USER_DEFINED, Piece, SentencePieceModel
from hanformer.text.vocabulary import SpecialTokens

CONFIG: Final = "tokenizer_config.json"
"""The file beside a model that says which kind it is. 与模型同目录的配置文件。"""

_SENTINELS: Final = 100
_MOST_SENTINELS: Final = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """The conventions of a family. 一个家族的约定。

    `tokenizer_class` and `file` are the names that transformers gives. `model_types`: what config.json calls
    its models. `sentinels`: whether signs such as ``<extra_id_0>`` are appended where the file lacks them.
    """

    name: str
    tokenizer_class: str
    template: Template
    specials: SpecialTokens
    model_types: tuple[str, ...] = ()
    file: str = "spiece.model"
    sentinels: bool = False

    def specials_in(self, model: SentencePieceModel) -> SpecialTokens:
        """The special tokens that the model has; its own unknown piece. 模型实际拥有的特殊词元。"""
        texts = {piece.text for piece in model.pieces}
        unknown = next(piece.text for piece in model.pieces if piece.kind == UNKNOWN)
        absent = {
            field.name: None
            for field in fields(SpecialTokens)
            if getattr(self.specials, field.name) not in texts
        }
        return replace(self.specials, **(absent | {"unk": unknown}))

    def complete(self, model: SentencePieceModel, folder: Path) -> SentencePieceModel:
        """The model with the signs that T5 keeps beside its file, if its config asks for them.

        按配置补上 T5 的哨兵词元 ``<extra_id_N>``。
        """
        config = Section.of_file(folder / CONFIG)
        usual = _SENTINELS if self.sentinels and config.text("tokenizer_class") in _T5_CLASSES else 0
        wanted = min(config.count("extra_ids") or usual, _MOST_SENTINELS)
        if not self.sentinels or not wanted or "hanformer_kind" in config.values:
            return model
        if any(piece.text.endswith("<extra_id_0>") for piece in model.pieces):
            return model
        signs = (Piece(f"<extra_id_{number}>", 0.0, USER_DEFINED) for number in reversed(range(wanted)))
        return model.with_pieces([*model.pieces, *signs])


_T5_CLASSES: Final = frozenset({"T5Tokenizer", "T5TokenizerFast"})

T5: Final = Kind(
    "t5",
    "T5Tokenizer",
    Template("A </s>", "A </s> B </s>:1"),
    SpecialTokens(pad="<pad>", unk="<unk>", cls=None, sep="</s>", mask=None),
    ("t5", "mt5", "umt5"),
    sentinels=True,
)
"""T5 and mT5: the end is appended; decoding starts with pad, id 0. T5 与 mT5。"""

XLNET: Final = Kind(
    "xlnet",
    "XLNetTokenizer",
    Template("A <sep> <cls>:2", "A <sep> B <sep>:1 <cls>:2"),
    SpecialTokens(pad="<pad>", unk="<unk>", cls="<cls>", sep="<sep>", mask="<mask>"),
    ("xlnet",),
)
"""XLNet: what sums the text up stands at its end. XLNet。

Differs from: transformers also strips accents, turns doubled apostrophes into quotes, and lowers letters if
asked, before the model's own normalisation; here that is the caller's.
"""

LLAMA: Final = Kind(
    "llama",
    "LlamaTokenizer",
    Template("<s> A", "<s> A <s>:1 B"),
    SpecialTokens(pad=None, unk="<unk>", cls="<s>", sep="</s>", mask=None),
    ("llama",),
    file="tokenizer.model",
)
"""Llama: a start, no end. Llama。"""

CPM: Final = Kind(
    "cpm",
    "CpmTokenizer",
    Template(),
    SpecialTokens(pad="<pad>", unk="<unk>", cls="<cls>", sep="<sep>", mask="<mask>"),
    ("cpm",),
)
"""CPM: nothing around the text; id 0 is a token like others. CPM。"""

BERT: Final = Kind(
    "bert",
    "AlbertTokenizer",
    Template("[CLS] A [SEP]", "[CLS] A [SEP] B [SEP]:1"),
    SpecialTokens(pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]"),
    ("albert", "bert"),
)
"""BERT's frame around SentencePiece, as in UER and ALBERT. BERT 式首尾（UER、ALBERT）。"""

XLM_ROBERTA: Final = Kind(
    "xlm-roberta",
    "XLMRobertaTokenizer",
    Template("<s> A </s>", "<s> A </s> </s> B </s>:1"),
    SpecialTokens(pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>"),
    ("xlm-roberta",),
)
"""XLM-RoBERTa, as its tokenizer.json has it: its .model file numbers the pieces otherwise. XLM-R。"""

PLAIN: Final = Kind(
    "plain",
    "SentencePieceTokenizer",
    Template(),
    SpecialTokens(pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>"),
)
"""Nothing around the text. 首尾不加词元。"""

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind for kind in (T5, XLNET, LLAMA, CPM, BERT, XLM_ROBERTA, PLAIN)
}
"""The kinds by name. 所有种类。"""


def named_kind(name: str) -> Kind:
    """The kind of a name. Raises: UserError that lists the names. 按名字取种类。"""
    if name not in KINDS:
        raise UserError(f"kind {name!r} is none of {', '.join(KINDS)}")
    return KINDS[name]


def kind_of(model: SentencePieceModel, folder: Path) -> Kind:
    """The kind of a model, from the configs beside it, or else from the pieces that it holds.

    先看同目录的配置，再看词元，推断家族。

    Raises: UserError where neither shows it.
    """
    told = Section.of_file(folder / CONFIG)
    name = told.text("hanformer_kind")
    if name is not None:
        return named_kind(name)
    written = (told.text("tokenizer_class") or "").removesuffix("Fast").replace("MT5", "T5")
    model_type = Section.of_file(folder / "config.json").text("model_type")
    for kind in KINDS.values():
        if written == kind.tokenizer_class or model_type in kind.model_types:
            return kind
    return _by_pieces(model)


def _by_pieces(model: SentencePieceModel) -> Kind:
    first = [piece.text for piece in model.pieces[:16]]
    texts = {piece.text for piece in model.pieces}
    if first[:2] == ["<pad>", "</s>"]:
        return T5
    if {"[CLS]", "[SEP]"} <= texts:
        return BERT
    if "\u2582" in first:  # how CPM writes a blank
        return CPM
    if {"<cls>", "<sep>", "<eop>"} <= texts:
        return XLNET
    if first[:4] == ["<s>", "<pad>", "</s>", "<unk>"]:
        return XLM_ROBERTA
    if first[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]:
        return LLAMA
    raise UserError(
        f"{model.origin}: begins with {first[:5]}, which shows no family; give kind=, one of {', '.join(KINDS)}"
    )
