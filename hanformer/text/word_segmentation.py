"""Words of Chinese text by jieba, or by its Rust twin rjieba, with the hidden Markov model off.

用 jieba 或 rjieba 切分中文词，关闭新词发现（HMM）。

Both give the same words; rjieba is many times faster. What is switched off would make words that no dictionary
holds, and no vocabulary either.

Source: jieba 0.42.1, rjieba 0.2.2 (jieba-rs).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Protocol

from hanformer.errors import UserError

AUTOMATIC: Final = "auto"
"""The name that stands for rjieba where it is installed, else jieba. 自动选择。"""


class Segmenter(Protocol):
    """Cuts a text into words whose concatenation is the text. 分词器：各词首尾相接即原文。"""

    @property
    def name(self) -> str:
        """What `segmenter` calls it. 名称。"""
        ...

    def cut(self, text: str) -> Iterable[str]:
        """The words, blanks and signs included. 切词。"""
        ...


class Jieba:
    """The Python jieba, with its own dictionary, read from the package and never from a cache file.

    纯 Python 的 jieba；词典只读自安装包，不使用临时目录中的缓存。
    """

    name = "jieba"

    def cut(self, text: str) -> Iterable[str]:
        """The words of a text. 切词。"""
        return _jieba_cut()(text, HMM=False)


class RustJieba:
    """The Rust jieba, with the dictionary that it was built with. Rust 版 jieba。"""

    name = "rjieba"

    def cut(self, text: str) -> Iterable[str]:
        """The words of a text. 切词。"""
        return _rust_cut()(text, False)


_ALL: Final[dict[str, type[Jieba] | type[RustJieba]]] = {"rjieba": RustJieba, "jieba": Jieba}


def segmenter(name: str = AUTOMATIC) -> Segmenter:
    """A segmenter by its name: rjieba, jieba, or auto for the first of these that is installed.

    按名称取分词器。

    Raises: UserError for another name, or where the package is missing.
    """
    if name != AUTOMATIC and name not in _ALL:
        raise UserError(f"segmenter: expected one of {AUTOMATIC}, {', '.join(_ALL)}, got {name!r}")
    wanted = list(_ALL) if name == AUTOMATIC else [name]
    for candidate in wanted:
        if importlib.util.find_spec(candidate) is not None:
            return _ALL[candidate]()
    raise UserError(
        f"cutting Chinese words needs {' or '.join(wanted)}, and it is not installed; "
        "pip install 'hanformer[text]'"
    )


@cache
def _jieba_cut() -> Callable[..., Iterable[str]]:
    made = importlib.import_module("jieba").Tokenizer()
    # Its own way would unmarshal a cache file that anyone may have put into the folder for temporary files.
    made.FREQ, made.total = made.gen_pfdict(made.get_dict_file())
    made.initialized = True
    return made.cut


@cache
def _rust_cut() -> Callable[[str, bool], list[str]]:
    return importlib.import_module("rjieba").cut
