"""Tagged texts to train on and to choose by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hanformer.errors import UserError
from hanformer.tasks.tag.labels import kinds_of
from hanformer.tasks.tag.reading import Reading, Source, find_sources
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
    sources = find_sources(path)
    if valid_file is not None:
        sources["valid"] = Source(Path(valid_file))
    if "train" not in sources:
        raise UserError(f"{path}: there is no training file (train.*) among {', '.join(sorted(sources))}")
    train = reading.texts(sources["train"])
    random = Random(f"tag/{seed}")
    if "valid" in sources:
        held = reading.texts(sources["valid"])
        held = random.sample(held, valid) if len(held) > valid else held
    else:
        if len(train) <= valid:
            raise UserError(
                f"{path}: has {len(train)} texts, {valid} are held out to choose by; take fewer, such as "
                f"--set valid={max(len(train) // 10, 1)}, "
                "or name a validation file"
            )
        random.shuffle(train)
        held, train = train[:valid], train[valid:]
    train = random.sample(train, limit) if 0 < limit < len(train) else train
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


def texts_to_judge(path: str | Path, reading: Reading) -> tuple[Source, list[TaggedText]]:
    """The texts to judge by: the test file of a folder or zip, else its validation file, else the file itself.

    评测所用的文本：优先测试集。
    """
    sources = find_sources(path)
    source = sources.get("test") or sources.get("valid") or sources["train"]
    return source, reading.texts(source)
