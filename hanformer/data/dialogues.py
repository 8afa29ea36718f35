"""Dialogues from files: JSON of lists of utterances, turns between tabs, and the Egret corpus.

读取对话数据：由话语列表组成的 JSON、制表符分隔的各轮，以及 Egret 问答语料。
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from hanformer.data.egret import egret_dialogues, is_egret
from hanformer.data.files import iterate_members, lines, members_within
from hanformer.data.held_out import draw, hold_out
from hanformer.data.published import open_splits
from hanformer.data.tables import SPLITS
from hanformer.errors import UserError

Dialogue = tuple[str, ...]

_TABBED: Final = (".tsv", ".txt")
_PACKED: Final = (".gz", ".xz", ".zip")


@dataclass(frozen=True)
class DialogueData:
    """Training and held-out dialogues, and where they came from. 训练与验证对话。"""

    source: str
    train: Sequence[Dialogue]
    valid: Sequence[Dialogue]


def read_dialogues(path: str | Path) -> dict[str, list[Dialogue]]:
    """The dialogues of a file by split; all of them are training data where the file names no splits.

    读出文件中的对话；文件未分划分时全部视为训练集。

    A file holds a JSON list of dialogues, an object of such lists by split (train, valid, test), one dialogue a line,
    as a JSON list or as turns between tabs, or the Egret corpus (its zip or its folder). A dialogue is a list of
    utterances in turn. Utterances whose every character stands between blanks, as LCCC publishes them, are joined.
    Raises UserError naming the file and the dialogue: no list, an utterance that is no text, or an empty one; no
    dialogue at all.
    """
    if is_egret(path):
        found = {"train": [tuple(turns) for turns in egret_dialogues(path)]}
    elif _is_tabbed(Path(path)):
        found = {"train": _checked(path, enumerate(_tabbed(path), start=1), "line")}
    else:
        found = {split: _checked(path, rows, f"{split} record") for split, rows in _json(path).items()}
    if not any(found.values()):
        raise UserError(f"{path}: holds no dialogues; expected lists of utterances")
    return found


def open_dialogues(
    path: str | Path,
    *,
    valid: int,
    limit: int = 0,
    seed: int = 0,
    valid_file: str | Path | None = None,
) -> DialogueData:
    """Training dialogues and those to choose by: the files of a folder or a zip, or one file; `valid` dialogues are
    held out where neither names some.

    打开训练与验证对话。

    `limit` dialogues are drawn from the training set by the seed (0: all), `valid` at most from the validation set.
    Raises UserError as `read_dialogues` does, and where too few are left to train on.
    """
    splits = _splits(path)
    if valid_file is not None:
        splits["valid"] = _only(read_dialogues(valid_file), "valid")
    train = splits.get("train")
    if not train:
        raise UserError(
            f"{path}: there is no training file (train.*) among {', '.join(sorted(splits))}; name one of its files"
        )
    random = Random(f"dialogues/{seed}")
    train, held = hold_out(path, "dialogues", train, splits.get("valid", []), valid, random)
    return DialogueData(str(path), draw(train, limit, random), held)


def open_test(path: str | Path) -> list[Dialogue]:
    """The dialogues to judge by: the test split of a folder or a file, else its validation split, else all of it.

    测试用对话。
    """
    splits = _splits(path, ("test", "valid", "train"))
    return next(splits[split] for split in ("test", "valid", "train") if splits.get(split))


def _splits(path: str | Path, wanted: Sequence[str] = ("train", "valid")) -> dict[str, list[Dialogue]]:
    """The wanted splits of a file, or those of the files of a folder or a zip."""
    if is_egret(path) or (Path(path).is_file() and len(members_within(path)) <= 1):
        return read_dialogues(path)
    with open_splits(path) as files:
        return {
            split: _only(read_dialogues(file), split) if split in wanted else []
            for split, file in files.items()
        }


def _only(found: Mapping[str, list[Dialogue]], split: str) -> list[Dialogue]:
    """What a file holds for a split: that split of it, or all."""
    return found[split] if split in found else [each for dialogues in found.values() for each in dialogues]


def _is_tabbed(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _PACKED]
    return bool(suffixes) and suffixes[-1] in _TABBED


def _tabbed(path: str | Path) -> Iterator[list[str]]:
    return (line.split("\t") for line in lines(path) if line.strip())


def _json(path: str | Path) -> dict[str, Iterator[tuple[int, Any]]]:
    """Numbered values by split, of a file of one JSON value, or of one a line."""
    first = next((line for line in lines(path) if line.strip()), "")
    if _is_dialogue(first):
        return {"train": _json_lines(path)}
    content = _whole(path)
    if isinstance(content, list):
        return {"train": iter(enumerate(content, start=1))}
    names = {name: split for split, names in SPLITS.items() for name in names}
    if not isinstance(content, dict) or not set(content) <= names.keys():
        raise UserError(
            f"{path}: expected a JSON list of dialogues, or an object of such lists named train, valid and test; "
            f"got {_kind(content)}"
        )
    wrong = [name for name, value in content.items() if not isinstance(value, list)]
    if wrong:
        raise UserError(f"{path}: {wrong[0]}: expected a list of dialogues, got {_kind(content[wrong[0]])}")
    return {names[name]: iter(enumerate(value, start=1)) for name, value in content.items()}


def _is_dialogue(line: str) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and bool(value) and all(isinstance(turn, str) for turn in value)


def _json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(path), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: line {number} is no JSON ({error})") from None


def _whole(path: str | Path) -> Any:
    try:
        contents = [json.loads(b"".join(chunks)) for _, chunks in iterate_members(path, (".json", ".jsonl"))]
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected JSON, or turns between tabs in a .tsv or .txt file ({error})"
        ) from None
    if len(contents) != 1:
        raise UserError(f"{path}: expected one file of dialogues in it, found {len(contents)}")
    return contents[0]


def _kind(value: Any) -> str:
    return f"an object of {', '.join(map(str, value))}"[:80] if isinstance(value, dict) else repr(value)[:40]


def _checked(path: str | Path, rows: Iterator[tuple[int, Any]], what: str) -> list[Dialogue]:
    return [_dialogue(f"{path}: {what} {number}", turns) for number, turns in rows]


def _dialogue(where: str, turns: Any) -> Dialogue:
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: expected a list of utterances, got {_kind(turns)}")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, str) or not turn.strip():
            raise UserError(f"{where}, turn {number}: expected a text that is not empty, got {turn!r}")
    return tuple(joined(turn.strip()) for turn in turns)


def joined(text: str) -> str:
    """The text without blanks, where single characters stand between them; any other as it is.

    去掉逐字之间的空格。
    """
    parts = text.split(" ")
    return "".join(parts) if all(len(part) == 1 for part in parts) else text
