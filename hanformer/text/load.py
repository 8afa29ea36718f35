"""One call for every tokenizer: what a folder or a file holds is recognised by names, then by content.

统一入口：按文件名与内容识别分词器并读取。
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text import fast_files, wobert
from hanformer.text.bert4keras_rules import is_chinese
from hanformer.text.byte_level import MERGES_FILES, VOCABULARY_FILES, ByteLevelTokenizer
from hanformer.text.cpm import CpmTokenizer
from hanformer.text.llama import load_llama2c
from hanformer.text.pieces import PieceTokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.text.sentencepiece_kinds import CPM
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.text.wordpiece_files import settles_words
from hanformer.weights.hub import SMALL_FILES, local_place, reaching, said_of_name

ACCEPTED: Final = (
    "vocab.txt (WordPiece), *.model (SentencePiece), vocab.json or vocab.txt with merges.txt (byte-level BPE), "
    "tokenizer.json (WordPiece, byte-level BPE, Unigram, or pieces learned here), tok*.bin (llama2.c)"
)
"""What `load_tokenizer` reads. 可识别的文件。"""

_SHOWN: Final = 8
#: What a vocabulary of WordPiece may be said to be, and how many words make it WoBERT's.
_WORDPIECES: Final = ("wordpiece", "wobert")
_FEWEST_WORDS: Final = 1000
#: What may stand between the name of a model and that of its file, as in gpt2_encoder.json.
_JOINTS: Final = ("", "_", "-", ".")
#: Of a run, the folder of its best weights.
_BEST: Final = "best"


def load_tokenizer(path: str | Path, kind: str | None = None) -> Tokenizer:
    """Open the tokenizer of a folder (of a run too), of a hub id, or that a file is.

    打开文件夹（含运行目录）、hub 名称或文件中的分词器。

    `kind` names the family of a SentencePiece model (see `sentencepiece_kinds.KINDS`) where neither a config
    beside it nor its pieces show it. A WordPiece vocabulary with a thousand words of several ideographs is read as
    WoBERT's, which needs a segmenter (extra `text`): `kind` "wobert" says so, and "wordpiece" that it is not.
    Raises: UserError that lists what was found and what is accepted.
    """
    with reaching(path):
        return _opened(local_place(path, SMALL_FILES), kind)


def _opened(path: Path, kind: str | None) -> Tokenizer:
    """The tokenizer of what lies at the path."""
    if not path.exists():
        raise UserError(
            said_of_name(path) or f"{path}: does not exist; expected a folder, a hub id or a file: {ACCEPTED}"
        )
    file = _chosen(path) if path.is_dir() else path
    if (halves := _halves(file)) is not None:
        return ByteLevelTokenizer.from_files(*halves)
    if file.suffix == ".model":
        return _sentencepiece(file, kind)
    if file.name == fast_files.FILE:
        return _fast(file, kind)
    if file.suffix == ".bin":
        return load_llama2c(file)
    if file.suffix == ".txt" and not file.name.endswith(MERGES_FILES):
        return _wordpiece(file.parent if path.is_dir() else file, kind)
    _refuse_half(file)
    raise UserError(f"{file}: no tokenizer that is known; expected {ACCEPTED}")


def _chosen(folder: Path) -> Path:
    """The file by which a folder's tokenizer is known."""
    names = [
        *VOCABULARY_FILES,
        "*.model",
        fast_files.FILE,
        "tok*.bin",
        "*[_.-]vocab.json",
        "*[_.-]encoder.json",
    ]
    for name in names:
        found = sorted(file for file in folder.glob(name) if file.is_file())
        if len(found) > 1:
            raise UserError(f"{folder}: holds {[file.name for file in found]}; name one of them")
        if found and (found[0].suffix != ".json" or name == fast_files.FILE or _halves(found[0])):
            return found[0]
    if (folder / _BEST).is_dir():
        return _chosen(folder / _BEST)
    for name in (*VOCABULARY_FILES, *MERGES_FILES):
        _refuse_half(folder / name)
    held = sorted(file.name for file in folder.iterdir())
    shown = ", ".join(held[:_SHOWN]) + (", ..." if len(held) > _SHOWN else "")
    raise UserError(f"{folder}: no tokenizer found among {shown or 'no files'}; expected {ACCEPTED}")


def _role(file: Path) -> tuple[str, tuple[str, ...]] | None:
    """Of one half of byte-level BPE: what stands before its usual name (gpt2_), and the names of the other half."""
    for here, there in ((VOCABULARY_FILES, MERGES_FILES), (MERGES_FILES, VOCABULARY_FILES)):
        for name in here:
            before = file.name.removesuffix(name)
            if file.name.endswith(name) and before[-1:] in _JOINTS:
                return before, there
    return None


def _halves(file: Path) -> tuple[Path, Path] | None:
    """A file of tokens and one of merges, where a half has its other half beside it under the same prefix."""
    role = _role(file)
    if role is None or not file.is_file():
        return None
    before, there = role
    other = next((found for name in there if (found := file.with_name(before + name)).is_file()), None)
    if other is None:
        return None
    return (file, other) if there is MERGES_FILES else (other, file)


def _refuse_half(file: Path) -> None:
    """Raises UserError for a vocabulary of byte-level BPE without its merges, or the other way round."""
    role = _role(file)
    if role is None or not file.is_file():
        return
    before, there = role
    model = ""
    if there is MERGES_FILES:
        model = (
            "; if it lists the pieces of a SentencePiece model, as CPM's does, open the .model file instead"
        )
    raise UserError(
        f"{file}: one half of a byte-level BPE tokenizer, whose other half does not lie beside it; put "
        f"{' or '.join(before + name for name in there)} into {file.parent}{model}"
    )


def _wordpiece(place: Path, kind: str | None) -> Tokenizer:
    """WordPiece, or WoBERT's where the vocabulary is made of words."""
    plain = WordPieceTokenizer.load(place)
    if kind not in (None, *_WORDPIECES):
        raise UserError(
            f"{place}: kind is {' or '.join(_WORDPIECES)} for a vocabulary of WordPiece, got {kind!r}"
        )
    settled = settles_words(place) or not _has_words(plain.vocabulary)
    if kind == "wordpiece" or (kind is None and settled):
        return plain
    try:
        return wobert.load(place)
    except UserError as error:
        raise UserError(f'{place}: a vocabulary of words (WoBERT): {error}; or kind="wordpiece"') from None


def _has_words(vocabulary: Vocabulary) -> bool:
    """Whether ideographs stand together in it, as they do in no vocabulary of BERT."""
    words = (token for token in vocabulary.tokens if len(token) > 1 and all(map(is_chinese, token)))
    return sum(1 for _ in islice(words, _FEWEST_WORDS)) == _FEWEST_WORDS


def _sentencepiece(file: Path, kind: str | None) -> Tokenizer:
    found = SentencePieceTokenizer.load(file, kind)
    return CpmTokenizer(found.model) if found.kind is CPM else found


def _fast(file: Path, kind: str | None) -> Tokenizer:
    named = fast_files.model_type(file)
    if named == "WordPiece":
        return WordPieceTokenizer.load(file.parent)
    if named == "ByteLevel":
        return fast_files.byte_level_of(file)
    if named == "Unigram":
        return fast_files.unigram_of(file, kind)
    if named == "BPE":
        return PieceTokenizer.load(file.parent)
    raise UserError(f"{file}: a model of the type {named}, expected WordPiece, BPE or Unigram")
