"""Hub ids: a name such as owner/model stands for a folder that is fetched once. hub 名称与本地文件夹。"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.weights.embedded import NAMES, embedded_place

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_BARE_NAME: Final = re.compile(r"[\w-]+")
#: Configs and tokenizers.
SMALL_FILES: Final = ("*.json", "*.txt", "*.model", "*.bpe")
#: These and the weights.
ALL_FILES: Final = (*SMALL_FILES, "*.safetensors", "*.bin", "*.ckpt*", "*.index", "*.data-*", "checkpoint")


def said_of_name(path: str | Path) -> str:
    """What to do about a bare name (no slash, no ending) of which nothing lies here; nothing for any other path.

    对不存在的裸名称的提示。
    """
    if not _BARE_NAME.fullmatch(str(path)):
        return ""
    return (
        f"{path}: nothing of that name lies here; give a path, {' or '.join(NAMES)} (the model in the package), or a "
        "model of the hub with its owner, as google-bert/bert-base-chinese"
    )


def local_place(path: str | Path, files: tuple[str, ...] = ALL_FILES) -> Path:
    """The path itself, the folder of an embedded model (tiny), or the folder into which a hub id was fetched.

    路径本身；若为随包模型或 hub 名称，则为其文件夹。

    What lies at the path comes first. `files` are patterns of what is fetched. Raises UserError as
    `embedded_place`, `reaching` and `fetch` do.
    """
    if (embedded := embedded_place(path)) is not None:
        return embedded
    place = Path(path)
    looks_like_id = _HUB_ID.fullmatch(str(path)) is not None
    with reaching(path):
        if place.exists() or not looks_like_id or place.parent.exists():
            return place
    return fetch(str(path), files)


@contextmanager
def reaching(path: str | Path) -> Iterator[None]:
    """Turns an OSError of the block, such as a closed folder, into a UserError that names `path`.

    把读取路径时的系统错误转为可读的 UserError。
    """
    try:
        yield
    except OSError as error:
        at = "" if error.filename in (None, str(path)) else f" at {error.filename}"
        raise UserError(
            f"{path}: cannot be opened ({error.strerror or error}{at}); check the path and its permissions"
        ) from None


def fetch(identifier: str, files: tuple[str, ...] = ALL_FILES) -> Path:
    """The local folder of a hub model, fetched if need be. 从 hub 获取模型文件夹。

    Raises UserError where there is neither a network nor a copy from before, and for an unknown name.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(
            f"{identifier}: no such file or folder here; models of the hub need the huggingface_hub library: "
            "pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(identifier, allow_patterns=list(files)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{identifier}: no such file or folder here, and the hub did not give a model of that name ({reason}). "
            "Without a network, fetch the folder elsewhere and give its path"
        ) from None
