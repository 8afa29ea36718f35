"""Frozen records of choices: changed by dotted names, written to TOML and JSON, and read back.

冻结的选项记录：按“名称=值”修改，写入并读回 TOML 与 JSON。
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from hanformer.errors import UserError

#: How None is written where a format has no word for it, and on the command line.
NONE = "none"
#: How the annotation of pairs begins, and what stands between the parts of one on the command line.
_PAIRS, _BETWEEN = "tuple[tuple[float, float]", ":"

Record = TypeVar("Record")
Chosen = TypeVar("Chosen", bound="Choice")


@dataclass(frozen=True)
class Choice:
    """One of several records, chosen by name: a base lists its kinds, each kind is a frozen record with a `name`.

    按名称选择的若干选项记录之一。

    A base is a direct subclass; every class below it that has a name of its own is found by `kinds`.
    """

    name: ClassVar[str] = ""

    @classmethod
    def kinds(cls) -> dict[str, type[Any]]:
        """All kinds by name. 所有可选项。"""
        found: dict[str, type[Any]] = {}
        for kind in _below(_base_of(cls)):
            if kind.name:
                found[kind.name] = kind
        return found

    @classmethod
    def named(cls, name: str) -> Any:
        """The kind of that name with its defaults; raises UserError for an unknown one. 按名称取默认选项。"""
        kinds = cls.kinds()
        if name not in kinds:
            raise UserError(f"expected one of {', '.join(sorted(kinds))}, got {name!r}")
        return kinds[name]()

    def to_dict(self) -> dict[str, Any]:
        """The name and every field, for JSON and TOML. 转为普通字典。"""
        return {"name": self.name, **{entry.name: getattr(self, entry.name) for entry in fields(self)}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | str) -> Any:
        """The record that `to_dict` wrote, or that a bare name stands for; raises UserError for anything else.

        由字典或名称还原。
        """
        if isinstance(values, str):
            return cls.named(values)
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            raise UserError(f"expected a name, or a table with a name and its options, got {values!r}")
        return read_record(cls.named(values["name"]), {k: v for k, v in values.items() if k != "name"})


def _base_of(kind: type[Choice]) -> type[Choice]:
    return next(
        above for above in reversed(kind.__mro__) if issubclass(above, Choice) and above is not Choice
    )


def _below(kind: type[Choice]) -> list[type[Choice]]:
    return [kind, *(lower for child in kind.__subclasses__() for lower in _below(child))]


def assign(record: Record, assignments: Mapping[str, str]) -> Record:
    """A copy with fields set by dotted name, as `--set train.learning_rate=5e-4` gives them.

    按“名称=值”修改记录，名称与类型都会检查。

    A choice is set by its name (`attention=local`; none where it may be left open), and then its fields
    (`attention.radius=128`).
    Raises UserError for an unknown name or a value of another type.
    """
    given = [(name, name.split("."), text) for name, text in assignments.items()]
    result: Record = _assigned(record, given) if given else record
    return result


def _assigned(record: Any, given: Sequence[tuple[str, list[str], str]]) -> Any:
    """All at once, since a record may check fields against each other; choices come before their fields."""
    if not is_dataclass(record) or isinstance(record, type):
        name, path, _ = given[0]
        raise UserError(
            f"--set {name}: {path[0]!r} stands inside a plain value; leave out the last part of the name"
        )
    known = {entry.name: str(entry.type) for entry in fields(record)}
    changes: dict[str, Any] = {}
    for name, path, text in given:
        if path[0] not in known:
            raise UserError(
                f"--set {name}: unknown name {path[0]!r}; {_there_are(record, known)}{_near(record, path[0])}"
            )
        if len(path) == 1:
            changes[path[0]] = _value(record, name, path[0], text, known[path[0]])
    for field_name in dict.fromkeys(path[0] for _, path, _ in given if len(path) > 1):
        below = [(name, path[1:], text) for name, path, text in given if path[1:] and path[0] == field_name]
        current = changes.get(field_name, getattr(record, field_name))
        if current is None and (choice := _choice_in(record, field_name)):
            raise UserError(
                f"--set {below[0][0]}: {field_name} is none: choose first one of {', '.join(sorted(choice.kinds()))}"
            )
        changes[field_name] = _assigned(current, below)
    return replace(record, **changes)


def _near(record: Any, name: str) -> str:
    """The field, or the field of a group, whose name is nearest; nothing where none is near."""
    groups = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    dotted = {name: name for name in groups} | {
        entry.name: f"{group}.{entry.name}"
        for group, value in groups.items()
        if is_dataclass(value) and not isinstance(value, type)
        for entry in fields(value)
        if entry.name not in groups
    }
    found = get_close_matches(name, dotted, 1, 0.75)
    return f"; did you mean {dotted[found[0]]}?" if found else ""


def _there_are(record: Any, known: Mapping[str, str]) -> str:
    if isinstance(record, Choice) and not known:
        return f"{record.name!r} has none: choose first one of {', '.join(sorted(record.kinds()))}"
    return f"there are {', '.join(sorted(known))}"


def _value(record: Any, name: str, field_name: str, text: str, kind: str) -> Any:
    current, choice = getattr(record, field_name), _choice_in(record, field_name)
    if choice is not None and not _unchosen(text.lower(), kind):
        return _choose(name, choice, text)
    if choice is None and is_dataclass(current):
        raise UserError(
            f"--set {name}: is a group; set one of {', '.join(e.name for e in fields(current))} in it"
        )
    return _read(name, text, current, kind)


def _choice_in(record: Any, field_name: str) -> type[Choice] | None:
    """The choice that a field holds, or may hold where it is None."""
    kind = get_type_hints(type(record))[field_name]
    found = (part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, Choice))
    return next(found, None)


def _unchosen(value: Any, kind: str) -> bool:
    return "None" in kind and (value is None or value == NONE)


def _choose(name: str, choice: type[Choice], text: str) -> Any:
    try:
        return choice.named(text)
    except UserError as error:
        raise UserError(f"--set {name}: {error}") from None


def _read(name: str, text: str, current: Any, kind: str) -> Any:
    """The text as a value of the field's kind, which is its annotation."""
    try:
        if text.lower() == NONE and "None" in kind:
            return None
        if kind.startswith("bool"):
            return {"true": True, "false": False}[text.lower()]
        if kind.startswith("tuple"):
            return _read_tuple(text.split(",") if text else [], current, kind)
        if kind.startswith("str"):
            return text
        value = int(text) if kind.startswith("int") else float(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    except (KeyError, ValueError, ZeroDivisionError):
        raise UserError(f"--set {name}: expected {in_words(kind, current)}, got {text!r}") from None


def in_words(kind: str, current: Any) -> str:
    """A kind of value as people say it: "a whole number such as 3, or none". 值类型的说明。"""
    words = {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        _PAIRS: "pairs of numbers with commas between them, such as 0:0,1000:1",
        "tuple": "a list with commas",
    }
    said = next((word for name, word in words.items() if kind.startswith(name)), "a word")
    unsaid = current in (None, (), "") or kind.startswith(("bool", _PAIRS))
    example = "" if unsaid else f" such as {shown(current)}"
    return f"{said}{example}" + (", or none" if "None" in kind else "")


def shown(value: Any) -> str:
    """A value as it stands on the command line; a list has commas. 命令行上的写法。"""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read_tuple(parts: list[str], current: tuple[Any, ...], kind: str) -> tuple[Any, ...]:
    """Parts of one type; a tuple of fixed length keeps it."""
    if kind.startswith(_PAIRS):
        return tuple(_read_pair(part) for part in parts)
    if "..." not in kind and len(parts) != len(current):
        raise ValueError
    inner = next((read for word, read in _PART_READERS.items() if f"[{word}" in kind), None)
    if inner is None:
        raise ValueError
    return tuple(inner(part.strip()) for part in parts)


def _read_pair(text: str) -> tuple[float, float]:
    """0:0.5 to (0, 0.5)."""
    first, second = (float(part) for part in text.split(_BETWEEN))
    if not (math.isfinite(first) and math.isfinite(second)):
        raise ValueError
    return first, second


_PART_READERS: dict[str, Callable[[str], Any]] = {
    "Fraction": Fraction,
    "float": float,
    "int": int,
    "str": str,
}


def plain(value: Any) -> Any:
    """Values that TOML can write: records as tables, fractions and paths as text, None as "none".

    转为 TOML 可写的值。
    """
    if isinstance(value, Choice):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return plain({entry.name: getattr(value, entry.name) for entry in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None:
        return NONE
    return str(value) if isinstance(value, (Fraction, Path)) else value


def read_record(default: Record, values: Mapping[str, Any], where: str = "") -> Record:
    """A record like `default` with the values of a TOML or JSON table; what the table leaves out stays.

    由 TOML 或 JSON 表还原记录；未写明的字段保持默认值。

    Raises UserError for unknown names and values of another type.
    """
    kinds = get_type_hints(type(default))
    known = {entry.name for entry in fields(default)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        place = f"{where}{name}"
        if name not in known:
            raise UserError(f"{place}: unknown name; there are {', '.join(sorted(known))}")
        changes[name] = _restored(default, name, value, _said(kinds[name]), place)
    return replace(default, **changes)  # type: ignore[type-var]


def _said(kind: Any) -> str:
    """A type as its annotation is written."""
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _restored(record: Any, name: str, value: Any, kind: str, place: str) -> Any:
    current, choice = getattr(record, name), _choice_in(record, name)
    if choice is not None:
        return None if _unchosen(value, kind) else choice.from_dict(value)
    if is_dataclass(current) and not isinstance(current, type):
        if not isinstance(value, Mapping):
            raise UserError(f"{place}: expected a table, got {value!r}")
        return read_record(current, value, f"{place}.")
    return _value_of_kind(current, value, kind, place)


def _value_of_kind(current: Any, value: Any, kind: str, place: str) -> Any:
    wrong = UserError(f"{place}: expected {in_words(kind, current)}, got {value!r}")
    if kind.startswith("tuple"):
        if not isinstance(value, (list, tuple)):
            raise wrong
        try:
            return _read_tuple([_written(part) for part in value], current, kind.replace("fractions.", ""))
        except (ValueError, ZeroDivisionError):
            raise wrong from None
    if _unchosen(value, kind):
        return None
    accepted = _accepted(kind)
    right = isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))
    if not right:
        raise wrong
    return float(value) if float in accepted and not isinstance(value, bool) else value


def _written(part: Any) -> str:
    """A part of a list as it stands on the command line."""
    return _BETWEEN.join(map(str, part)) if isinstance(part, (list, tuple)) else str(part)


def _accepted(kind: str) -> tuple[type, ...]:
    if "bool" in kind:
        return (bool,)
    if "float" in kind:
        return (float, int)
    return (int,) if "int" in kind else (str,)


def full_name(record: Any, name: str, groups: Sequence[str]) -> str:
    """The dotted name of a field that is named without its group: epochs is train.epochs where only train has it.

    补全省略了分组的字段名。

    A name that the record has itself, none of the `groups` has, or several have, stays as it is.
    """
    first = name.partition(".")[0]
    if first in record.__dataclass_fields__:
        return name
    found = [group for group in groups if first in getattr(record, group).__dataclass_fields__]
    return f"{found[0]}.{name}" if len(found) == 1 else name
