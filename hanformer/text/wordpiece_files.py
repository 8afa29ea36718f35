"""The files that a WordPiece tokenizer lives in: Google's vocab.txt alone, or those of Hugging Face.

WordPiece 分词器的文件：谷歌的 vocab.txt，或 Hugging Face 的 tokenizer.json、tokenizer_config.json。

A folder holds vocab.txt or tokenizer.json, and may hold tokenizer_config.json and added_tokens.json. Where
files say different things, the vocabulary is that of vocab.txt, and the rest that of tokenizer_config.json,
which `transformers` prefers as well. Added tokens are found as they are written, in the raw text, also those
that are marked as normalised.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.json_section import Section, token_text
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.weights.atomic import write_text

VOCABULARY: Final = "vocab.txt"
CONFIG: Final = "tokenizer_config.json"
WHOLE: Final = "tokenizer.json"
ADDED: Final = "added_tokens.json"

_ROLES: Final = ("pad", "unk", "cls", "sep", "mask")

_Numbered = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the files say; None where they say nothing. 文件中的设置。"""

    vocabulary: Vocabulary
    lowercase: bool | None = None
    strip_accents: bool | None = None
    split_chinese: bool | None = None
    longest_word: int | None = None
    read_specials: bool | None = None
    convention: str | None = None
    segmenter: str | None = None


def read(path: str | Path) -> Settings:
    """The settings of a folder, or of a vocab.txt alone. 读取设置。

    Raises: UserError naming the file that is missing or cannot be used.
    """
    path = Path(path)
    if path.is_file() and path.name != WHOLE:
        return Settings(Vocabulary.from_file(path))
    folder = path.parent if path.is_file() else path
    whole, config = Section.of_file(folder / WHOLE), Section.of_file(folder / CONFIG)
    normaliser, model = whole.inner("normalizer"), whole.inner("model")
    split_specials = config.flag("split_special_tokens")
    return Settings(
        _vocabulary(folder, whole, config),
        lowercase=_either(config.flag("do_lower_case"), normaliser.flag("lowercase")),
        strip_accents=_either(config.flag("strip_accents"), normaliser.flag("strip_accents")),
        split_chinese=_either(config.flag("tokenize_chinese_chars"), normaliser.flag("handle_chinese_chars")),
        longest_word=config.count("max_input_chars_per_word") or model.count("max_input_chars_per_word"),
        read_specials=None if split_specials is None else not split_specials,
        convention=config.text("convention"),
        segmenter=config.text("word_segmenter"),
    )


def settles_words(path: str | Path) -> bool:
    """Whether a folder says whether words are tokens, as all do that `write` wrote. 文件夹是否写明按词切分与否。"""
    path = Path(path)
    return path.is_dir() and "word_segmenter" in Section.of_file(path / CONFIG).values


def write(folder: str | Path, settings: Settings) -> None:
    """Write vocab.txt and tokenizer_config.json. Raises: UserError where they cannot be written. 保存。"""
    folder = Path(folder)
    settings.vocabulary.save(folder / VOCABULARY)
    specials = settings.vocabulary.specials
    config: dict[str, object] = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": settings.lowercase,
        "strip_accents": settings.strip_accents,
        "tokenize_chinese_chars": settings.split_chinese,
        "max_input_chars_per_word": settings.longest_word,
        "split_special_tokens": not settings.read_specials,
        **{f"{role}_token": getattr(specials, role) for role in _ROLES},
        "additional_special_tokens": list(settings.vocabulary.added),
        "convention": settings.convention,
        "word_segmenter": settings.segmenter,
    }
    write_text(folder / CONFIG, json.dumps(config, ensure_ascii=False, indent=2) + "\n")


def _either(first: bool | None, second: bool | None) -> bool | None:
    return second if first is None else first


def _vocabulary(folder: Path, whole: Section, config: Section) -> Vocabulary:
    roles = {role: config.token(f"{role}_token") for role in _ROLES if f"{role}_token" in config.values}
    specials = SpecialTokens(**roles)
    if (folder / VOCABULARY).exists() or not whole.values:
        listed = Vocabulary.from_file(folder / VOCABULARY, specials)
    else:
        listed = Vocabulary(_tokens(whole), specials, origin=str(whole.file))
    added = [*_added(config), *_added_before(Section.of_file(folder / ADDED)), *_added_whole(whole)]
    return _with_added(folder, listed, added)


def _tokens(whole: Section) -> list[str]:
    """The tokens of tokenizer.json in the order of their ids."""
    model = whole.inner("model")
    kind, prefix = model.text("type") or "WordPiece", model.text("continuing_subword_prefix") or "##"
    if kind != "WordPiece" or prefix != "##":
        raise UserError(
            f"{whole.file}: expected a WordPiece model with pieces that begin with ##, found {kind} with {prefix}"
        )
    ids = model.inner("vocab").values
    if sorted(map(repr, ids.values())) != sorted(map(repr, range(len(ids)))):
        raise UserError(
            f"{whole.file}: the ids of {len(ids)} tokens are not 0 to {len(ids) - 1}; repair the file"
        )
    return sorted(ids, key=lambda token: int(str(ids[token])))


def _added(config: Section) -> Iterator[_Numbered]:
    """Those of tokenizer_config.json: lists of names, and objects under their ids."""
    for name in ("additional_special_tokens", "extra_special_tokens"):
        for token in config.listed(name):
            yield token_text(config.file, token) or "", None
    numbered = config.inner("added_tokens_decoder").values
    for number in numbered:
        if not number.isdecimal():
            raise UserError(f"{config.file}: added_tokens_decoder has {number[:20]!r}, expected an id")
    for number, token in sorted(numbered.items(), key=lambda item: int(item[0])):
        yield token_text(config.file, token) or "", int(number)


def _added_before(section: Section) -> Iterator[_Numbered]:
    """Those of added_tokens.json: tokens and their ids."""
    for token in section.values:
        if not isinstance(section.values[token], int):
            raise section.wrong(token, "an id")
    for token, number in sorted(section.values.items(), key=lambda item: int(str(item[1]))):
        yield token, int(str(number))


def _added_whole(whole: Section) -> Iterator[_Numbered]:
    """Those of tokenizer.json: objects with a content and an id."""
    for entry in whole.listed("added_tokens"):
        token, number = token_text(whole.file, entry), entry.get("id") if isinstance(entry, dict) else None
        if not token or not isinstance(number, int):
            raise UserError(f"{whole.file}: an added token is {repr(entry)[:60]}, expected content and id")
        yield token, number


def _with_added(folder: Path, listed: Vocabulary, added: Iterable[_Numbered]) -> Vocabulary:
    """The vocabulary with added tokens at their ids, which have to follow it without a gap."""
    roles = {token for token in listed.specials.names() if token in listed}
    wanted = [(token, number) for token, number in added if token and token not in roles]
    whole = listed.with_added(token for token, _ in wanted)
    for token, number in wanted:
        if number is not None and whole[token] != number:
            raise UserError(
                f"{folder}: added token {token!r} has id {number} by one file, {whole[token]} by the others; "
                "the files do not belong together"
            )
    return whole
