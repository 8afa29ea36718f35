"""A model on disk: config.json beside model.safetensors, in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.weights.atomic import write_bytes, write_together

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def build(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> Transformer:
    """A new model with initial weights, drawn from torch's random state.

    按配置新建模型并初始化权重。
    """
    return Transformer(config, heads).initialise()


def save(model: Transformer, folder: str | Path) -> None:
    """Writes config.json and model.safetensors into a folder, together; other files in it stay.

    保存模型：权重与配置总是配套；文件夹中的其他文件不受影响。

    An error leaves both as they were, and a kill never leaves new weights beside an old config
    (`weights.atomic.write_together`). Raises UserError where the folder cannot be written, a full disk included.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_together(folder, {WEIGHTS_FILE: to_bytes(tensors), CONFIG_FILE: _config_bytes(model)})


def write_config(model: Transformer, folder: Path) -> None:
    """Writes config.json: the config and the heads of the model. 写入 config.json。"""
    write_bytes(folder / CONFIG_FILE, _config_bytes(model))


def _config_bytes(model: Transformer) -> bytes:
    values = {**model.config.to_dict(), "heads": list(model.heads)}
    return (json.dumps(values, ensure_ascii=False, indent=2) + "\n").encode()


def load(
    folder: str | Path,
    *,
    application: str | None = None,
    heads: Sequence[str] | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Transformer:
    """Opens the model in a folder, ready for inference; of a run folder, its best checkpoint.

    打开文件夹中的模型（训练得到的运行目录也可以）。

    `application` (encoder, lm, unilm) and `heads` default to what the model was saved with. Built on the meta
    device: nothing is initialised that the file then overwrites. Raises UserError for a missing or broken file,
    and for names or shapes that do not fit the config.
    """
    source = Path(folder)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; expected one with {CONFIG_FILE} and {WEIGHTS_FILE}")
    if (source / "best" / CONFIG_FILE).exists():
        source = source / "best"
    config, saved_heads = read_config(source)
    heads = saved_heads if heads is None else heads
    if application is not None:
        config = config.changed({"application": application})
    tensors = _read_tensors(source / WEIGHTS_FILE)
    with torch.device("meta"), _WithoutDrawing():
        model = Transformer(config, heads)
    _check(source / WEIGHTS_FILE, model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    return model.to(device=torch.device(device), dtype=dtype).eval()


def read_config(folder: Path) -> tuple[ModelConfig, tuple[str, ...]]:
    """The config of a model folder and the heads it was saved with. 读取配置与输出头。"""
    config = ModelConfig.from_file(folder / CONFIG_FILE)
    extra: dict[str, Any] = dict(config.extra)
    heads = extra.pop("heads", ["lm"])
    if not isinstance(heads, list) or not all(isinstance(name, str) for name in heads):
        raise UserError(f"{folder / CONFIG_FILE}: heads must be a list of names, got {heads!r}")
    return config.changed({"extra": extra}), tuple(heads)


class _WithoutDrawing(TorchFunctionMode):
    """Inside, modules are built without initial weights: torch draws on the meta device through its compiler,
    which takes a second to import."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return None
        return func(*args, **(kwargs or {}))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is the run folder incomplete?") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); use another checkpoint") from None


def _check(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = sorted(
        f"{name} {list(found[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if expected[name].shape != found[name].shape
    )
    problems = [
        f"{title}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if problems:
        raise UserError(f"{path}: weights and config disagree: {'; '.join(problems)}")
