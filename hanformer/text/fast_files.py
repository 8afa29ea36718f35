"""tokenizer.json, the one file of transformers' fast tokenizers: byte-level BPE and Unigram.

读取 transformers 快速分词器的 tokenizer.json（字节级 BPE 与 Unigram）。

What the file asks for and these tokenizers do not do is refused by name, so that ids are never almost right.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.byte_level import SPECIALS, ByteLevelTokenizer, in_order
from hanformer.text.json_section import Section, token_text
from hanformer.text.sentencepiece_kinds import kind_of, named_kind
from hanformer.text.sentencepiece_model import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Cutting,
    Normalising,
    Piece,
    SentencePieceModel,
)
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer

FILE: Final = "tokenizer.json"
"""The name of the file. 文件名。"""

_BYTES: Final = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_SEVERAL_BLANKS: Final = ({"Regex": " {2,}"}, {"Regex": " +"})


def model_type(path: Path) -> str:
    """What the file says its model is: WordPiece, BPE, ByteLevel, Unigram, ...

    文件中的模型类型；字节级 BPE 记作 ByteLevel。

    Raises: UserError where it is no tokenizer's file.
    """
    whole = Section.of_file(path)
    named = whole.inner("model").text("type")
    if named == "BPE" and any(
        step.text("type") == "ByteLevel" for step in _steps(whole.inner("pre_tokenizer"))
    ):
        return "ByteLevel"
    return named or "unknown"


def byte_level_of(path: Path) -> ByteLevelTokenizer:
    """The byte-level BPE of a tokenizer.json. Raises: UserError naming the file. 字节级 BPE。"""
    whole = Section.of_file(path)
    cutting = whole.inner("pre_tokenizer")
    if (
        cutting.text("type") != "ByteLevel"
        or cutting.flag("add_prefix_space")
        or cutting.flag("use_regex") is False
    ):
        raise _refused(path, f"a pre-tokenizer other than GPT-2's: {cutting.values}")
    if whole.inner("normalizer").values:
        raise _refused(path, f"a normalizer: {whole.inner('normalizer').values}")
    model = whole.inner("model")
    ids = dict(model.inner("vocab").values)
    added = _added(whole)
    ids |= {text: number for text, number, _ in added}
    signs = [text for text, _, _ in added]
    return ByteLevelTokenizer(
        in_order(ids, str(path)), _merges(model), SPECIALS, added=signs, origin=str(path)
    )


def unigram_of(path: Path, kind: str | None = None) -> SentencePieceTokenizer:
    """The Unigram model of a tokenizer.json, as a SentencePiece model.

    读取 Unigram 模型，转成 SentencePiece 模型。

    Raises: UserError naming the file, and what it asks for that SentencePiece does not do.
    """
    whole = Section.of_file(path)
    model = SentencePieceModel(
        tuple(_pieces(whole)),
        Cutting(byte_fallback=bool(whole.inner("model").flag("byte_fallback"))),
        Normalising(_rules(whole), blank_before=_blank_before(whole)),
        origin=str(path),
    )
    found = named_kind(kind) if kind is not None else kind_of(model, path.parent)
    return SentencePieceTokenizer(model, found)


def _pieces(whole: Section) -> list[Piece]:
    model = whole.inner("model")
    unknown = model.values.get("unk_id")
    signs = {text: special for text, _, special in _added(whole)}
    found: list[Piece] = []
    for number, entry in enumerate(model.listed("vocab")):
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise _refused(whole.file, f"piece {number} is {repr(entry)[:40]}, expected text and score")
        text, score = entry
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise _refused(whole.file, f"piece {number} has the score {repr(score)[:40]}")
        found.append(Piece(text, score, _kind(text, number == unknown, model, signs)))
    for text, number, special in _added(whole):
        if number == len(found):
            found.append(Piece(text, 0.0, CONTROL if special and "extra_id" not in text else USER_DEFINED))
    return found


def _kind(text: str, unknown: bool, model: Section, signs: dict[str, bool]) -> int:
    if unknown:
        return UNKNOWN
    if text in signs:
        return CONTROL if signs[text] and "extra_id" not in text else USER_DEFINED
    return BYTE if model.flag("byte_fallback") and text in _BYTES else NORMAL


def _rules(whole: Section) -> bytes:
    rules = b""
    for step in _steps(whole.inner("normalizer")):
        named = step.text("type")
        if named == "Precompiled":
            try:
                rules = base64.b64decode(step.text("precompiled_charsmap") or "", validate=True)
            except binascii.Error as error:
                raise _refused(whole.file, f"its character map is damaged ({error})") from None
        elif named != "Strip" and not (named == "Replace" and step.values.get("pattern") in _SEVERAL_BLANKS):
            raise _refused(whole.file, f"a normalizer of the type {named}: {repr(step.values)[:80]}")
    return rules


def _blank_before(whole: Section) -> bool:
    metaspaces = []
    for step in _steps(whole.inner("pre_tokenizer")):
        if step.text("type") == "Metaspace":
            metaspaces.append(step)
        elif step.text("type") != "WhitespaceSplit":
            raise _refused(whole.file, f"a pre-tokenizer of the type {step.text('type')}")
    if len(metaspaces) != 1:
        raise _refused(whole.file, f"{len(metaspaces)} Metaspace pre-tokenizers, expected one")
    scheme = metaspaces[0].text("prepend_scheme")
    return metaspaces[0].flag("add_prefix_space") is not False if scheme is None else scheme != "never"


def _steps(section: Section) -> list[Section]:
    """The steps of a normalizer or pre-tokenizer, those of sequences in their order."""
    if not section.values:
        return []
    if section.text("type") != "Sequence":
        return [section]
    inner = section.listed("normalizers") or section.listed("pretokenizers")
    return [Section(section.file, step) for step in inner if isinstance(step, dict)]


def _added(whole: Section) -> list[tuple[str, int, bool]]:
    """(text, id, whether it is special) of the added tokens, by id."""
    found = []
    for entry in whole.listed("added_tokens"):
        text = token_text(whole.file, entry)
        number = entry.get("id") if isinstance(entry, dict) else None
        if not text or type(number) is not int or not isinstance(entry, dict):
            raise _refused(whole.file, f"an added token is {repr(entry)[:60]}, expected content and id")
        found.append((text, number, bool(entry.get("special"))))
    return sorted(found, key=lambda item: item[1])


def _merges(model: Section) -> list[tuple[str, str]]:
    found = []
    for entry in model.listed("merges"):
        parts = entry.split(" ") if isinstance(entry, str) else entry
        if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
            raise _refused(model.file, f"a merge is {repr(entry)[:40]}, expected two parts")
        found.append((parts[0], parts[1]))
    return found


def _refused(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: {reason}; use the tokenizer's other files (.model, or vocab.json with merges.txt)"
    )
