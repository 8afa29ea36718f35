"""Pieces of several characters, learned from text: byte pair encoding over characters, with dropout if asked.

从文本学习的子词（字符级 BPE），可选 BPE-dropout 数据增强。

Training: begin with single characters; join the most frequent neighbouring pair into a new piece; repeat
until the vocabulary is full. Encoding: in each word, join the pair that was learned first, until none is
left. With dropout p, each possible join is left out with probability p at each step, so that the same text is
cut in many ways.

Words are runs between spaces; punctuation and digits stand alone. Nothing is normalised, so offsets are
exact.

Source: Sennrich et al. 2016, arXiv 1508.07909; BPE-dropout: Provilkov et al. 2020, arXiv 1910.13267.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from typing import Final

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from hanformer.errors import UserError
from hanformer.text.protocols import Encoding, Pieces, bare, frame, frame_pair
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.weights.atomic import write_text

FILE: Final = "tokenizer.json"
"""The name of the saved file, in the format of the tokenizers library. 保存的文件名。"""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ROLES: Final = ("pad", "unk", "cls", "sep", "mask")


class PieceTokenizer:
    """Cuts text into learned pieces; made by `train_pieces` or `load`. 学习得到的子词分词器。

    Raises: UserError where `backend` is not a byte pair encoding with an unknown token.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._vocabulary = _vocabulary(backend)
        self._ranks = _ranks(backend)
        self._atomic = frozenset(self._vocabulary.atomic)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and their ids. 词表。"""
        return self._vocabulary

    @property
    def vocabulary_size(self) -> int:
        """How many pieces there are, the special ones included. 词表大小。"""
        return len(self._vocabulary)

    def encode(
        self,
        text: str,
        maximum_length: int | None = None,
        *,
        special_tokens: bool = False,
        dropout: float = 0.0,
        random: Random | None = None,
    ) -> Encoding:
        """The pieces of a text, by default with nothing put around them.

        编码一段文本；`dropout` 为训练时随机不合并的概率，由给定的 `random` 决定。

        Raises: UserError where `dropout` is outside [0, 1] or has no `random` to draw from, or special tokens
        are asked for and were not trained.
        """
        pieces = self.pieces(text, dropout=dropout, random=random)
        if special_tokens:
            return frame(self._vocabulary, pieces, maximum_length)
        return bare(self._vocabulary, pieces, maximum_length)

    def encode_pair(self, first: str, second: str, maximum_length: int | None = None) -> Encoding:
        """``[CLS] first [SEP] second [SEP]``; segments 0 and 1; the longer text is cut first.

        编码一对文本，超长时先截较长者。

        Raises: UserError where these special tokens were not trained, or `maximum_length` has no room for
        them.
        """
        return frame_pair(self._vocabulary, self.pieces(first), self.pieces(second), maximum_length)

    def pieces(self, text: str, *, dropout: float = 0.0, random: Random | None = None) -> Pieces:
        """Ids and offsets of the text alone. Raises: UserError, as `encode`. 编号与位置。"""
        if not 0.0 <= dropout <= 1.0:
            raise UserError(f"dropout is {dropout}, expected a probability between 0 and 1")
        if dropout > 0.0 and random is None:
            raise UserError("dropout needs random=random.Random(seed) to draw from")
        found = self._backend.encode(_readable(text), add_special_tokens=False)
        if dropout == 0.0 or random is None:
            return Pieces(found.ids, found.offsets)
        return self._cut_again(text, found, dropout, random)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """The pieces of ids one after another; blanks between words are not kept. 解码。

        Raises: UserError for an id out of range.
        """
        dropped = frozenset(self._vocabulary.specials.names() if skip_specials else ())
        return "".join(token for token in self._vocabulary.tokens_of(ids) if token not in dropped)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json. Raises: UserError where it cannot be written. 保存为 tokenizer.json。"""
        write_text(Path(folder) / FILE, self._backend.to_str(pretty=True) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> PieceTokenizer:
        """Read the tokenizer.json of a folder. Raises: UserError naming the file. 从文件夹读取。"""
        path = Path(folder) / FILE
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except (OSError, UserError) as error:
            raise UserError(
                f"{path}: cannot be used ({error}); train the pieces again, or check the path"
            ) from None
        except Exception as error:  # the library raises nothing narrower for a file that it cannot read
            raise UserError(f"{path}: not a tokenizer file ({error}); train the pieces again") from None

    def _cut_again(self, text: str, found: tokenizers.Encoding, dropout: float, random: Random) -> Pieces:
        """Cut every word anew with dropout; where the words are, and the special tokens, stays as found."""
        # Each of these properties copies a whole list out of the library, so they are read once.
        found_ids, found_offsets, words = found.ids, found.offsets, found.word_ids
        known, unknown = self._vocabulary.ids, self._vocabulary.unk_id
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for _, group in groupby(range(len(found_ids)), key=words.__getitem__):
            places = list(group)
            start, end = found_offsets[places[0]][0], found_offsets[places[-1]][1]
            word = text[start:end]
            # A word of one character, or a special token, can only be cut in one way.
            whole = end - start == 1 or word in self._atomic
            for piece in [word] if whole else self._merged(word, dropout, random):
                ids.append(known.get(piece, unknown))
                offsets.append((start, start + len(piece)))
                start += len(piece)
        return Pieces(ids, offsets)

    def _merged(self, word: str, dropout: float, random: Random) -> list[str]:
        parts = list(word)
        while True:
            joins = [
                (self._ranks[pair], place)
                for place, pair in enumerate(pairwise(parts))
                if pair in self._ranks and (dropout == 0.0 or random.random() >= dropout)
            ]
            if not joins:
                return parts
            _, place = min(joins)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]


def train_pieces(
    texts: Iterable[str], size: int, *, minimum_count: int = 2, specials: Sequence[str] = ("[UNK]",)
) -> PieceTokenizer:
    """Learn pieces from texts; the same texts always give the same pieces, so there is no seed.

    从文本学习子词；同样的文本总得到同样的结果，因此不需要随机种子。

    `size` bounds the vocabulary: special tokens, single characters (the most frequent ones, seen at least
    `minimum_count` times; others become [UNK]), then joined pieces seen at least twice.
    Raises: UserError where the texts hold no character or `size` leaves no room for one.
    """
    if "[UNK]" not in specials:
        raise UserError(f"special tokens {list(specials)} lack [UNK], which stands for unknown characters")
    texts = [_readable(text) for text in texts]
    kept = frequent_characters(texts, size - len(specials), minimum_count)
    # A rare character ends a word in training, so that no piece contains it.
    rare = {ord(character): " " for character in set("".join(texts)) - kept}
    backend = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(specials),
        initial_alphabet=sorted(kept),
        show_progress=False,
    )
    backend.train_from_iterator((text.translate(rare) for text in texts), trainer)
    return PieceTokenizer(backend)


def frequent_characters(texts: Iterable[str], room: int, minimum_count: int) -> set[str]:
    """The `room` most frequent characters that are no blanks, of those seen at least `minimum_count` times.

    最常见的若干字符（不含空白）。

    Of equals those of lower code points. Raises: UserError where there is none.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update("".join(_readable(text).split()))
    frequent = sorted((-count, character) for character, count in counts.items() if count >= minimum_count)
    kept = {character for _, character in frequent[: max(room, 0)]}
    if not kept:
        raise UserError(
            f"no character was seen {minimum_count} times, or the size has room for {max(room, 0)}; "
            "give more text or a larger size"
        )
    return kept


def _readable(text: str) -> str:
    """Lone surrogates, which the library cannot take, as the replacement character; places stay the same."""
    return _SURROGATES.sub("\ufffd", text)


def _vocabulary(backend: tokenizers.Tokenizer) -> Vocabulary:
    by_id = sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    if [number for _, number in by_id] != list(range(len(by_id))):
        raise UserError("the ids of the pieces are not 0, 1, 2, ...")
    tokens = [token for token, _ in by_id]
    roles = {role: f"[{role.upper()}]" for role in _ROLES}
    specials = SpecialTokens(**{role: token if token in tokens else None for role, token in roles.items()})
    registered = [token.content for token in backend.get_added_tokens_decoder().values()]
    return Vocabulary(tokens, specials, registered)


def _ranks(backend: tokenizers.Tokenizer) -> dict[tuple[str, str], int]:
    model = json.loads(backend.to_str())["model"]
    if model.get("type") != "BPE" or model.get("unk_token") is None:
        raise UserError(f"expected a byte pair encoding with an unknown token, found {model.get('type')}")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {(left, right): rank for rank, (left, right) in enumerate(pairs)}
