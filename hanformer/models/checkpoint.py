"""What a path holds: a config, tensors, and the family and dialect that they speak."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanformer.config import ModelConfig
from hanformer.dialects import ALIASES
from hanformer.errors import UserError
from hanformer.models.families import Family, family_of, foreign_type, recognise, resembles
from hanformer.models.names import Entry, NameMap, copied, entry
from hanformer.weights.hub import local_place, reaching
from hanformer.weights.source import Source, open_described, open_source

CONFIG_FILE = "config.json"
#: A head that must stop, and what kind it is, beside the weights that it was trained with.
STOP_WEIGHTS_FILE, STOP_FILE = "stop.safetensors", "stop.json"
#: A config.json of ours says so.
OWN_FORMAT = "hanformer"


class LeftOut(UserWarning):
    """What lies beside the weights and does not come with them. 未随权重一起读取的部分。"""


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk before it is built.

    磁盘上尚未构建的模型。

    `origin` is the path as it was written, `raw` the JSON config, `dialect` the way that tensors are named:
    own, tensorflow, transformers, megatron or llama2.c. `family` is None where nothing tells.
    """

    origin: str
    raw: Mapping[str, Any]
    source: Source
    dialect: str
    family: Family | None

    @property
    def names(self) -> frozenset[str]:
        """The published names."""
        return frozenset(self.source.names())

    @property
    def left_out(self) -> str | None:
        """A sentence on the head that must stop beside the weights, which `load` does not open; None without one."""
        place = Path(self.source.origin)
        folder = place if place.is_dir() else place.parent
        if not any((folder / name).is_file() for name in (STOP_FILE, STOP_WEIGHTS_FILE)):
            return None
        return (
            f"{self.origin}: the head that must stop ({STOP_WEIGHTS_FILE}) is left out: hanformer.load opens the model "
            "without it, hanformer.models.terminating_files.load_writing with it, as generate, evaluate and chat do"
        )

    def config(self, changes: Mapping[str, Any]) -> ModelConfig:
        """The config that the JSON, the family's defaults and the changes make together."""
        try:
            found = self._written(changes.get("convention", self.raw.get("convention", "standard")))
        except UserError as error:
            raise UserError(self._named(str(error))) from None
        return found.changed(changes)

    def _written(self, convention: Any) -> ModelConfig:
        """The config without changes, apart from what a convention makes of the JSON's words."""
        if self.dialect == "own":
            self._refuse_another_family()
            return ModelConfig.from_dict(own_values(self.raw))
        family = self.known_family()
        said = ModelConfig.words(self.raw)
        asked = {**self.raw, "convention": convention}
        follows = {**family.reads(asked, self.dialect, self.source), **family.fixed}
        own = {"application": self.raw.get("application", family.application), "family": family.name}
        return ModelConfig.from_dict({**family.defaults, **said, **own, **follows})

    def _refuse_another_family(self) -> None:
        """Beside what our own config says no other can be named: all else in it was made of that."""
        said = _own_family(self.raw)
        if said is not None and self.family is not None and self.family is not said:
            raise UserError(
                f"{self.origin}: its own config says the family {said.name}; leave {self.family.name} out "
                "(family=, --family)"
            )

    def _named(self, complaint: str) -> str:
        """What is wrong with the JSON, with the path, and with the JSON's own word for the field."""
        if not complaint.startswith("config: "):
            return complaint
        field = complaint.split()[1]
        words = [key for key in self.raw if ALIASES.get(key) == field]
        also = f" ({field} is what its JSON calls {' or '.join(words)})" if words else ""
        return f"{self.origin}: {complaint}{also}"

    def known_family(self) -> Family:
        """The family; raises UserError where it must be named."""
        if self.family is None:
            self._refuse_foreign_type()
            some = ", ".join(sorted(self.names)[:3])
            raise UserError(
                f"{self.origin}: the family of this model is not to be told from its config and names ({some}, ...): "
                'name it (family="nezha", --family nezha, ...); `hanformer inspect` shows what is in it'
            )
        return self.family

    def _refuse_foreign_type(self) -> None:
        """Names are no proof: others compute otherwise with the same."""
        word, near = foreign_type(self.raw), resembles(self.names, self.raw)
        if word is not None and near is not None:
            raise UserError(
                f"{self.origin}: its config says model_type {word!r}, which no family here is known to compute like; "
                f"its names are those of {near.name}: if it is compatible, name the family "
                f'(family="{near.name}", --family {near.name})'
            )

    def name_map(self, config: ModelConfig, parameters: Sequence[str]) -> NameMap:
        """The names of this checkpoint for a model of that config."""
        if self.dialect == "own":
            spreads = ModelConfig.from_dict(own_values(self.raw)).share_layers and not config.share_layers
            depth = {"stack": config.layers, "encoder": config.layers, "decoder": config.decoder_layers or 1}
            return NameMap(
                tuple(_spread(name, depth) if spreads else entry(name, name) for name in parameters)
            )
        return self.known_family().names(self.dialect, config, self.names)


def _spread(name: str, depth: Mapping[str, int]) -> Entry:
    """A parameter of a stack's first layer gives copies to all layers, `depth` in each; others stay themselves."""
    stack, first, inside = name.partition(".blocks.0.")
    if not first:
        return entry(name, name)
    count = depth[stack]
    return Entry(tuple(f"{stack}.blocks.{layer}.{inside}" for layer in range(count)), (name,), copied(count))


def open_checkpoint(
    path: str | Path,
    *,
    family: str | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    checksums: bool = True,
) -> Checkpoint:
    """Opens a folder, a file, a TensorFlow prefix or a hub id, without reading any tensor.

    打开检查点（文件夹、文件、TensorFlow 前缀或 hub 名称），不读取张量。

    `config` is a JSON file or its values, where none lies beside the weights. Raises UserError for what is missing,
    and for a family of another name.
    """
    with reaching(path):
        place = _opened_place(path)
        return _checkpoint(path, place, open_source(place, checksums=checksums), family, config)


def _opened_place(path: str | Path) -> Path:
    """The path itself, the folder of a hub id, or the best weights of a run."""
    place = local_place(path)
    return place / "best" if (place / "best" / CONFIG_FILE).exists() else place


def weights_folder(path: str | Path) -> Path:
    """The folder that holds the weights of a path, wherever they were named or fetched. 权重所在的文件夹。"""
    place = _opened_place(path)
    return place if place.is_dir() else place.parent


def describe_checkpoint(
    path: str | Path, *, family: str | None = None, config: str | Path | Mapping[str, Any] | None = None
) -> Checkpoint:
    """`open_checkpoint` for looking only: an index of TensorFlow without its data is enough, tensors then being empty.

    打开检查点以供查看：只有 TensorFlow 索引也可以。
    """
    with reaching(path):
        place = _opened_place(path)
        return _checkpoint(path, place, open_described(place), family, config)


def _checkpoint(
    path: str | Path,
    place: Path,
    source: Source,
    family: str | None,
    config: str | Path | Mapping[str, Any] | None,
) -> Checkpoint:
    """What a source of tensors and a config make, its family and dialect told."""
    raw = config if isinstance(config, Mapping) else read_raw(Path(config) if config else find_config(place))
    names = frozenset(source.names())
    dialect = "own" if OWN_FORMAT in raw else dialect_of(source.format, names)
    chosen = family_of(family) if family is not None else None
    if chosen is None:
        chosen = recognise(names, raw) if dialect != "own" else _own_family(raw)
    return Checkpoint(str(path), raw, source, dialect, chosen)


def _own_family(raw: Mapping[str, Any]) -> Family | None:
    word = raw.get("family")
    return family_of(word) if isinstance(word, str) else None


def own_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The config of our own JSON, without what else it says. 去掉格式标记与输出头后的配置。"""
    return {key: value for key, value in raw.items() if key not in (OWN_FORMAT, "heads")}


def dialect_of(kind: str, names: frozenset[str]) -> str:
    """How these tensors are named. 张量命名方式。"""
    if kind == "tensorflow" or any("/" in name for name in names):
        return "tensorflow"
    if {"tok_embeddings", "wq"} <= names or any(name.endswith("tok_embeddings.weight") for name in names):
        return "llama2.c"
    return (
        "megatron"
        if any(".input_layernorm." in n and n.startswith("transformer.") for n in names)
        else "transformers"
    )


def find_config(place: Path) -> Path:
    """The JSON config that lies beside the weights; raises UserError for none, or for several.

    查找与权重相邻的配置文件。
    """
    folder = place if place.is_dir() else place.parent
    for name in (CONFIG_FILE, "bert_config.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(file for file in folder.glob("*config*.json") if _is_model_config(file))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(file.name for file in found) or "none"
    raise UserError(
        f"{folder}: expected one JSON config of a model beside the weights (config.json, bert_config.json, ...), "
        f"found {listed}; name it (config=, --config)"
    )


def _is_model_config(file: Path) -> bool:
    try:
        values = read_raw(file)
    except UserError:
        return False
    return "vocab_size" in values


def read_raw(path: Path) -> dict[str, Any]:
    """A JSON object, as it stands. 读取 JSON 配置原文。"""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the config.json of a model") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error}); is it truncated?") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values
