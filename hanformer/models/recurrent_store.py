"""Recurrent language models on disk: config.json and model.safetensors in a folder, as other models have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm
from hanformer.records import read_record
from hanformer.weights.atomic import write_bytes, write_together
from hanformer.weights.safetensors_files import SafetensorsFile

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
#: A config.json of a recurrent model says so, with the version of the format.
FORMAT, VERSION = "hanformer_recurrent", 1
_TIED = "output.weight"


def save_recurrent(model: RecurrentLm, folder: str | Path) -> None:
    """Writes config and weights into a folder; other files in it stay.

    保存循环语言模型。

    Raises UserError where the folder cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if model.config.tied:
        del tensors[_TIED]
    write_together(folder, {WEIGHTS_FILE: to_bytes(tensors), CONFIG_FILE: _config_bytes(model.config)})


def write_recurrent_config(config: RecurrentConfig, folder: Path) -> None:
    """Writes config.json alone. 只写配置。"""
    write_bytes(folder / CONFIG_FILE, _config_bytes(config))


def load_recurrent(path: str | Path, *, device: str | torch.device = "cpu") -> RecurrentLm:
    """Opens a recurrent language model, ready for inference: a model folder, or a run folder with its best/.

    打开循环语言模型（模型文件夹或运行目录）。

    Raises UserError for what is missing or broken, and for a model of another kind.
    """
    folder = _folder(path)
    model = RecurrentLm(read_recurrent_config(folder))
    tensors = SafetensorsFile(folder / WEIGHTS_FILE)
    state = {name: tensors.read(name) for name in tensors.names()}
    _take(model, state, folder)
    return model.to(device).eval()


def is_recurrent(path: str | Path) -> bool:
    """Whether a model folder, or the best/ of a run folder, says that it holds a recurrent language model.

    判断文件夹中是否为循环语言模型。
    """
    try:
        values = json.loads((_folder(path) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, Mapping) and FORMAT in values


def _folder(path: str | Path) -> Path:
    """The model folder, also where its run folder was named."""
    best = Path(path) / "best"
    return best if (best / CONFIG_FILE).exists() else Path(path)


def read_recurrent_config(folder: Path) -> RecurrentConfig:
    """The config of a model folder; raises UserError where there is none, or it is of another kind. 读取配置。"""
    path = folder / CONFIG_FILE
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); expected a folder with config.json"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({error})") from None
    if not isinstance(values, Mapping) or values.get(FORMAT) != VERSION:
        raise UserError(
            f"{path}: expected a recurrent language model ({FORMAT} {VERSION}); "
            "train one with `hanformer train recurrent`, and open other models with hanformer.load"
        )
    known = {name: value for name, value in values.items() if name != FORMAT}
    return read_record(RecurrentConfig(), known, f"{path}: ")


def _take(model: RecurrentLm, state: dict[str, Tensor], folder: Path) -> None:
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if model.config.tied and "embedding.table.weight" in state:
        state[_TIED] = state["embedding.table.weight"]
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [name for name in expected.keys() & state.keys() if expected[name] != state[name].shape]
    if wrong:
        raise UserError(
            f"{folder}: weights and config disagree ({', '.join(wrong[:3])}); fetch the folder again"
        )
    model.load_state_dict(state)


def _config_bytes(config: RecurrentConfig) -> bytes:
    return (json.dumps({FORMAT: VERSION, **asdict(config)}, ensure_ascii=False, indent=2) + "\n").encode()
