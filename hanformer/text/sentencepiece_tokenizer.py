"""SentencePiece as T5, mT5, XLNet, Llama and their Chinese descendants use it, with exact offsets.

SentencePiece 分词器（T5、mT5、XLNet、Llama 等），每个词元都带原文中的精确位置。

The text is normalised here, which keeps the place of every character; the sentencepiece library then cuts
what is already normalised, by a model without normalisation. Ids are the library's own, and a damaged file
never reaches it.

Source: Kudo & Richardson 2018, arXiv 1808.06226.
Differs from: transformers' fast tokenizers find special tokens such as ``</s>`` in raw text; here, as in the
library itself, they are text like any other, and only pieces that users defined are found whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hanformer.errors import UserError
from hanformer.text.framing import FramedTokenizer
from hanformer.text.normalising import Normaliser
from hanformer.text.placed_text import PlacedText, as_it_is, readable
from hanformer.text.protocols import Pieces
from hanformer.text.sentencepiece_kinds import CONFIG, Kind, kind_of, named_kind
from hanformer.text.sentencepiece_model import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    Normalising,
    SentencePieceModel,
)
from hanformer.text.vocabulary import Vocabulary
from hanformer.weights.atomic import write_together

_NOTHING: Final = Normalising(b"", False, False, False)


class SentencePieceTokenizer(FramedTokenizer):
    """Cuts text by a SentencePiece model. SentencePiece 分词器。

    `kind` says which tokens are special and what stands around texts (see `sentencepiece_kinds`). The blank
    that a model puts in front of a text belongs to the first token; where it is a token of its own, that one
    stands for no character and its offsets are empty, at its place.
    Raises: UserError where the model lacks a token of its kind, or the sentencepiece library.
    """

    def __init__(self, model: SentencePieceModel, kind: Kind) -> None:
        tokens = [piece.text for piece in model.pieces]
        super().__init__(Vocabulary(tokens, kind.specials_in(model), origin=model.origin), kind.template)
        self.model = model
        self.kind = kind
        defined = [piece.text for piece in model.pieces if piece.kind == USER_DEFINED]
        self._normalise = Normaliser(
            model.normalising, defined, blank_behind=model.cutting.blank_behind, origin=model.origin
        )
        self._library = _library(model)
        self._unknown = next(place for place, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)
        self._whole = _ids(model, NORMAL, USER_DEFINED)
        self._bytes = _ids(model, BYTE) if model.cutting.byte_fallback else {}
        self._lengths = [len(token) for token in tokens]
        self._spelt = frozenset(range(len(tokens))) - frozenset(self._whole.values())
        self._silent = frozenset(_ids(model, CONTROL)) | {tokens[self._unknown]}

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.model, self.kind)

    def pieces(self, text: str) -> Pieces:
        """Ids and offsets of a text with nothing put around it. 仅文本本身的编号与位置。"""
        return self.pieces_of(as_it_is(readable(text)))

    def pieces_of(self, made: PlacedText) -> Pieces:
        """Ids of a text that was made from another one, with offsets in the original. 变换后文本的编号与位置。"""
        normal = self._normalise(made.text)
        if isinstance(made.starts, list):
            normal = normal.through(made)
        ids: list[int] = self._library.encode(normal.text, out_type=int)
        if not self._spelt.isdisjoint(ids):
            return self._placed(self._library.encode(normal.text, out_type=str), normal)
        return Pieces(ids, normal.spans(map(self._lengths.__getitem__, ids)))

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Text of ids: pieces one after another, ``▁`` as a blank, bytes put together to characters.

        解码：拼接词元，``▁`` 还原为空格，字节还原为字符；无效字节给出替换字符。

        Raises: UserError for an id out of range.
        """
        parts = bytearray()
        for token in self._vocabulary.tokens_of(ids):
            if token in self._bytes:
                parts.append(int(token[3:-1], 16))
            elif not (skip_specials and token in self._silent):
                parts += token.encode("utf-8")
        return self._unblanked(parts.decode("utf-8", "replace").replace(SPACE, " "))

    def save(self, folder: str | Path) -> None:
        """Write the model and tokenizer_config.json, under the names that `transformers` knows.

        保存模型与配置。

        Raises: UserError where they cannot be written.
        """
        config = {
            "tokenizer_class": self.kind.tokenizer_class,
            "hanformer_kind": self.kind.name,
            "add_bos_token": self.template.single.startswith("<s> "),
        }
        write_together(
            Path(folder),
            {
                self.kind.file: self.model.to_bytes(),
                CONFIG: (json.dumps(config, indent=2) + "\n").encode("utf-8"),
            },
        )

    @classmethod
    def load(cls, path: str | Path, kind: str | None = None) -> SentencePieceTokenizer:
        """Read a .model file, or a folder with one; `kind` is seen from what lies beside it unless given.

        读取 .model 文件或其所在文件夹；种类按配置文件、再按词元推断，也可用 `kind` 指定。

        Raises: UserError naming the file, or the kinds to choose from where nothing shows the kind.
        """
        file = model_file(Path(path))
        model = SentencePieceModel.load(file)
        found = named_kind(kind) if kind is not None else kind_of(model, file.parent)
        return cls(found.complete(model, file.parent), found)

    def _placed(self, parts: list[str], normal: PlacedText) -> Pieces:
        """The same from the library's parts, where some are unknown or bytes, whose ids tell no length."""
        if not self._bytes.keys().isdisjoint(parts):
            return self._placed_with_bytes(parts, normal)
        known, unknown = self._whole.get, self._unknown
        return Pieces([known(part, unknown) for part in parts], normal.spans(map(len, parts)))

    def _placed_with_bytes(self, parts: list[str], normal: PlacedText) -> Pieces:
        """The same where some characters are spelt in bytes, each of which stands for its character."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        place = awaited = 0
        for part in parts:
            number = self._bytes.get(part)
            if number is None:
                ids.append(self._whole.get(part, self._unknown))
                offsets.append(normal.span(place, place + len(part)))
                place += len(part)
                continue
            awaited = (awaited or len(normal.text[place].encode("utf-8"))) - 1
            ids.append(number)
            offsets.append(normal.span(place, place + 1))
            place += awaited == 0
        return Pieces(ids, offsets)

    def _unblanked(self, text: str) -> str:
        """Without the blanks that the model added."""
        settings = self.model.normalising
        if self.model.cutting.blank_behind:
            return text.removesuffix(" ") if settings.blank_before else text
        if settings.single_blanks:
            return text.lstrip(" ")
        return text.removeprefix(" ") if settings.blank_before else text


def model_file(path: Path) -> Path:
    """The .model file that a path names, or that lies alone in a folder.

    路径所指的 .model 文件。

    Raises: UserError where there is none, or are several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.model"))
    if len(found) != 1:
        raise UserError(
            f"{path}: expected one .model file, found {[file.name for file in found] or 'none'}; name the file"
        )
    return found[0]


def _ids(model: SentencePieceModel, *kinds: int) -> dict[str, int]:
    return {piece.text: place for place, piece in enumerate(model.pieces) if piece.kind in kinds}


def _library(model: SentencePieceModel) -> Any:
    """The library's processor for the same pieces without normalisation."""
    try:
        import sentencepiece
    except ImportError:
        raise UserError(
            "SentencePiece models need the sentencepiece library: pip install 'hanformer[text]'"
        ) from None
    bare = SentencePieceModel(model.pieces, model.cutting, _NOTHING, origin=model.origin)
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=bare.to_bytes())
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{model.origin}: the sentencepiece library refuses it ({reason})") from None
