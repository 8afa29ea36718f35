"""The same GPT-2 in CTranslate2, converted from the one in `transformers`; in fp32 alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

try:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
except ImportError:
    ctranslate2 = None

Generate = Callable[[Tensor, int, int], list[list[int]]]
"""Prompts [B, L], beams and new tokens, to the new tokens of each prompt."""
_END = "<|endoftext|>"


def build_ctranslate2_peer(peer: nn.Module) -> Generate | None:
    """A function that generates with the weights of that GPT2LMHeadModel; None where CTranslate2 is not installed.

    转换为 CTranslate2 的同一模型；未安装时返回 None。
    """
    if ctranslate2 is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        peer.save_pretrained(source)  # type: ignore[operator]
        words = _write_tokenizer(source, peer.config.vocab_size)  # type: ignore[union-attr, arg-type]
        TransformersConverter(str(source)).convert(str(target))
        generator = ctranslate2.Generator(
            str(target), device="cpu", compute_type="float32", intra_threads=torch.get_num_threads()
        )

    def generate(prompts: Tensor, beams: int, new_tokens: int) -> list[list[int]]:
        found = generator.generate_batch(
            [[words[number] for number in row] for row in prompts.tolist()],
            beam_size=beams,
            max_length=new_tokens,
            min_length=new_tokens,
            include_prompt_in_result=False,
            end_token=_END,
        )
        return [list(row.sequences_ids[0]) for row in found]

    return generate


def _write_tokenizer(folder: Path, size: int) -> list[str]:
    """Files of a GPT-2 tokenizer of that many made-up words; CTranslate2 reads and writes tokens as words."""
    words = [f"w{number}" for number in range(size - 1)] + [_END]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": _END, "bos_token": _END, "unk_token": _END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return words
