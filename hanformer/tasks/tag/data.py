"""Tagged texts to train on and to choose by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hanformer.data.held_out import draw, hold_out
from hanformer.errors import UserError
from hanformer.tasks.tag.labels import kinds_of
from hanformer.tasks.tag.reading import Reading, Source, open_sources
from hanformer.tasks.tag.spans import TaggedText


@dataclass(frozen=True)
class TagData:
    """Training and held-out texts, and where they came from. 训练与验证文本。"""

    source: str
    train: Sequence[TaggedText]
    valid: Sequence[TaggedText]


def open_tagged(
    path: str | Path,
    reading: Reading,
    *,
    valid: int,
    limit: int = 0,
    seed: int = 0,
    valid_file: str | Path | None = None,
) -> TagData:
    """Texts to train on and to choose by: the files of a folder or zip, or one file of which `valid` are held out.

    打开训练与验证数据。

    `limit` texts are drawn from the training set by the seed (0: all), `valid` at most from the validation set.
    Raises UserError as `Reading.texts` does, where too few texts are left, and for a type of entity that the training
    texts have not.
    """
    with open_sources(path) as sources:
        if valid_file is not None:
            sources["valid"] = Source(Path(valid_file))
        if "train" not in sources:
            raise UserError(f"{path}: there is no training file (train.*) among {', '.join(sorted(sources))}")
        read = reading.texts(sources["train"])
        given = reading.texts(sources["valid"]) if "valid" in sources else []
    random = Random(f"tag/{seed}")
    train, held = hold_out(path, "texts", read, given, valid, random)
    train = draw(train, limit, random)
    _check_kinds(path, train, held)
    return TagData(str(path), train, held)


def _check_kinds(path: str | Path, train: Sequence[TaggedText], held: Sequence[TaggedText]) -> None:
    known = kinds_of(train)
    if not known:
        raise UserError(f"{path}: no training text has an entity; there is nothing to learn")
    strange = [(text.place, span.kind) for text in held for span in text.spans if span.kind not in known]
    if strange:
        place, kind = strange[0]
        raise UserError(
            f"{place}: the type {kind!r} stands in no training text (there: {', '.join(known)}); add examples of it, "
            "or take it out of the validation set"
        )


def texts_to_judge(path: str | Path, reading: Reading) -> tuple[str, list[TaggedText]]:
    """The texts to judge by, and where they stand: the test file of a folder or zip, else its validation file, else
    the file itself.

    评测所用的文本：优先测试集。
    """
    with open_sources(path) as sources:
        source = sources.get("test") or sources.get("valid") or sources["train"]
        return str(source), reading.texts(source)
