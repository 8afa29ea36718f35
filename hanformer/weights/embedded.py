"""Models that lie inside the package, opened by their bare names. 随包附带的模型。"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hanformer.errors import UserError

_FOLDER: Final = Path(__file__).parent.parent / "models" / "embedded"
#: Bare name -> what to do where this installation lacks it.
NAMES: Final = {
    "tiny": "install the published package, or train it: hanformer train pretrain "
    "--recipe examples/tiny_encoder.toml (docs/tiny.md)",
}


def is_embedded(path: str | Path) -> bool:
    """Whether a path names an embedded model; what lies at the path comes first. 是否为随包模型的名称。"""
    return str(path) in NAMES and not Path(path).exists()


def embedded_folder(name: str) -> Path:
    """Where the package keeps an embedded model, whether it is there or not. 随包模型所在的文件夹。"""
    return _FOLDER / name


def embedded_place(path: str | Path) -> Path | None:
    """The folder of an embedded model; None for any other path.

    随包模型的文件夹；其他路径返回 None。

    Raises UserError where this installation does not hold it.
    """
    if not is_embedded(path):
        return None
    folder = embedded_folder(str(path))
    if not (folder / "config.json").is_file():
        raise UserError(f"{path}: this installation lacks the embedded model ({folder}); {NAMES[str(path)]}")
    return folder
