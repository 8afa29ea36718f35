"""GPT-2's byte-level BPE: any text is bytes, bytes are letters, letters are joined by learned merges.

GPT-2 的字节级 BPE：文本即字节，永无未知词；每个词元都带原文中的精确位置。

The tokenizers library cuts. A token that holds a part of a character's bytes has the place of that character.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; the files encoder.json
and vocab.bpe of its code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from hanformer.errors import UserError
from hanformer.text.framing import FramedTokenizer, Template
from hanformer.text.json_section import Section, token_text
from hanformer.text.placed_text import readable
from hanformer.text.protocols import Pieces
from hanformer.text.sentencepiece_model import read_bounded
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.weights.atomic import write_together

VOCABULARY_FILES: Final = ("vocab.json", "encoder.json", "vocab.txt")
"""Names of the file of tokens: two of GPT-2's, and one token a line. 词表文件名。"""

MERGES_FILES: Final = ("merges.txt", "vocab.bpe")
"""Names of the file of merges. 合并规则文件名。"""

END: Final = "<|endoftext|>"
"""GPT-2's only special token: it ends a document. 文档结束标记。"""

CONFIG: Final = "tokenizer_config.json"
"""The file that names special tokens. 配置文件名。"""

SPECIALS: Final = SpecialTokens(pad=None, unk=None, cls=None, sep=END, mask=None)
"""Without roles that GPT-2 has not. GPT-2 的特殊词元。"""

_KEYS: Final = {"pad": "pad", "unk": "unk", "cls": "bos", "sep": "eos", "mask": "mask"}
_UER: Final = SpecialTokens(pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>")


class ByteLevelTokenizer(FramedTokenizer):
    """Cuts text as GPT-2 does. 与 GPT-2 一致的分词器。

    `tokens` in the order of their ids; `merges` in the order in which they were learned. Special tokens of
    the vocabulary, and `added` ones, are found whole in the raw text. Nothing is put around a text.
    Raises: UserError where a merge makes no token, or one of the 256 bytes is no token.
    """

    def __init__(
        self,
        tokens: Iterable[str],
        merges: Iterable[tuple[str, str]],
        specials: SpecialTokens = SPECIALS,
        *,
        added: Sequence[str] = (),
        origin: str = "byte-level BPE",
    ) -> None:
        super().__init__(Vocabulary(tokens, specials, added, origin=origin), Template())
        self.merges = tuple(merges)
        self.origin = origin
        _check(self._vocabulary.ids, self.merges, origin)
        self._backend = _backend(self._vocabulary, self.merges)
        self._dropped = frozenset(specials.names())

    def __reduce__(self) -> tuple[object, ...]:
        vocabulary = self._vocabulary
        return _remade, (vocabulary.tokens, self.merges, vocabulary.specials, vocabulary.added, self.origin)

    def pieces(self, text: str) -> Pieces:
        """Ids and offsets of a text. 编号与位置。"""
        found = self._backend.encode(readable(text), add_special_tokens=False)
        return Pieces(found.ids, found.offsets)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Text of ids; bytes that make no character become the replacement character.

        解码；不成字符的字节给出替换字符。

        Raises: UserError for an id out of range.
        """
        parts = bytearray()
        for token in self._vocabulary.tokens_of(ids):
            if token in self._vocabulary.atomic:
                parts += b"" if skip_specials and token in self._dropped else token.encode("utf-8")
            else:
                parts += _bytes_of(token)
        return parts.decode("utf-8", "replace")

    def save(self, folder: str | Path) -> None:
        """Write vocab.json, merges.txt and tokenizer_config.json. Raises: UserError. 保存。"""
        vocabulary = self._vocabulary
        config: dict[str, object] = {"tokenizer_class": "GPT2Tokenizer"}
        config |= {f"{key}_token": getattr(vocabulary.specials, role) for role, key in _KEYS.items()}
        config["additional_special_tokens"] = list(vocabulary.added)
        merges = "".join(f"{left} {right}\n" for left, right in self.merges)
        write_together(
            Path(folder),
            {
                "vocab.json": json.dumps(vocabulary.ids, ensure_ascii=False).encode("utf-8"),
                "merges.txt": f"#version: 0.2\n{merges}".encode(),
                CONFIG: json.dumps(config, ensure_ascii=False, indent=2).encode("utf-8"),
            },
        )

    @classmethod
    def load(cls, folder: str | Path) -> ByteLevelTokenizer:
        """Read a folder with tokens and merges, under one of their usual names.

        读取文件夹中的词表与合并规则。

        Raises: UserError naming the file that is missing or cannot be used.
        """
        folder = Path(folder)
        return cls.from_files(_first(folder, VOCABULARY_FILES), _first(folder, MERGES_FILES))

    @classmethod
    def from_files(cls, tokens: str | Path, merges: str | Path) -> ByteLevelTokenizer:
        """Read two files; special tokens are those of tokenizer_config.json beside the first, if it is there.

        读取指定的词表与合并规则文件。

        Raises: UserError naming the file that is missing or cannot be used.
        """
        found = read_tokens(tokens)
        specials, added = _roles(Path(tokens).parent, frozenset(found))
        return cls(found, read_merges(merges), specials, added=added, origin=str(tokens))


def read_tokens(path: str | Path) -> tuple[str, ...]:
    """The tokens of a JSON object of tokens and ids, or of a file with one token a line.

    读取词表：JSON（词元到编号），或每行一个词元。

    Raises: UserError naming the file, where ids are not 0, 1, 2 and so on.
    """
    path = Path(path)
    if path.suffix != ".json":
        return Vocabulary.from_file(path, SpecialTokens(unk=None)).tokens
    try:
        content = json.loads(read_bounded(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON object ({error}); fetch the file again") from None
    return in_order(content, str(path))


def in_order(ids: object, origin: str) -> tuple[str, ...]:
    """The tokens of an object of tokens and ids, by id. Raises: UserError where ids have gaps. 按编号排列。"""
    if not isinstance(ids, dict) or not all(type(number) is int for number in ids.values()):
        raise UserError(f"{origin}: expected an object of tokens and whole numbers; fetch the file again")
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise UserError(
            f"{origin}: the ids of {len(tokens)} tokens are not 0 to {len(tokens) - 1}; repair it"
        )
    return tuple(tokens)


def read_merges(path: str | Path) -> list[tuple[str, str]]:
    """The merges of a file with one a line, two parts with a blank between. 读取合并规则。

    Raises: UserError naming the file and the line.
    """
    try:
        lines = read_bounded(path).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; fetch the file again") from None
    found = []
    for number, line in enumerate(lines, start=1):
        parts = line.rstrip("\r").split(" ")
        if line.startswith("#version") or parts == [""]:
            continue
        if len(parts) != 2:
            raise UserError(
                f"{path}: line {number} is {line[:40]!r}, expected two parts with a blank between"
            )
        found.append((parts[0], parts[1]))
    return found


def _first(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: expected one of {', '.join(names)}, found none; name the file")


def _roles(folder: Path, tokens: frozenset[str]) -> tuple[SpecialTokens, list[str]]:
    """Special and added tokens by tokenizer_config.json; without one, those that are usual and present."""
    config = Section.of_file(folder / CONFIG)
    named = {role: config.token(f"{key}_token") for role, key in _KEYS.items()}
    if not any(named.values()):
        known = tokens.issuperset(_UER.names())
        return (_UER, [END] if END in tokens else []) if known else (SPECIALS, [])
    present = {role: token if token in tokens else None for role, token in named.items()}
    added = [token_text(config.file, token) for token in config.listed("additional_special_tokens")]
    return SpecialTokens(**present), [token for token in added if token]


def _check(ids: Mapping[str, int], merges: Sequence[tuple[str, str]], origin: str) -> None:
    for number, (left, right) in enumerate(merges, start=1):
        lost = [part for part in (left, right, left + right) if part not in ids]
        if lost:
            raise UserError(f"{origin}: merge {number} ({left} {right}) needs the token {lost[0]!r}")
    missing = [letter for letter in _LETTERS if letter not in ids]
    if missing:
        raise UserError(
            f"{origin}: {len(missing)} of the 256 bytes are no tokens, such as {missing[0]!r}; is this GPT-2's?"
        )


def _backend(vocabulary: Vocabulary, merges: Sequence[tuple[str, str]]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(vocabulary.ids, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    signs = [AddedToken(token, normalized=False, special=True) for token in vocabulary.atomic]
    backend.add_special_tokens(signs)
    return backend


def _bytes_of(token: str) -> bytes:
    return bytes(_LETTERS[letter] for letter in token if letter in _LETTERS)


def _letters() -> dict[str, int]:
    """Every byte's letter: itself where it can be seen, else one from U+0100 on, in order."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in seen)
    return {chr(byte): byte for byte in seen} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _remade(
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    specials: SpecialTokens,
    added: Sequence[str],
    origin: str,
) -> ByteLevelTokenizer:
    return ByteLevelTokenizer(tokens, merges, specials, added=added, origin=origin)


_LETTERS: Final = _letters()
