"""The same GPT-2 in CTranslate2, converted from the one in `transformers`; in fp32 alone."""

from __future__ import annotations

import json
import subprocess
import sys
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

ROOT = Path(__file__).parents[1]
Generate = Callable[[Tensor, int, int], list[list[int]]]
"""Prompts [B, L], beams and new tokens, to the new tokens of each prompt."""
_END = "<|endoftext|>"


def build_ctranslate2_peer(peer: nn.Module) -> Generate | None:
    """A function that generates with the weights of that GPT2LMHeadModel; None where CTranslate2 is not installed.

    转换为 CTranslate2 的同一模型；未安装时返回 None。

    It runs in a process of its own, since its threads and torch's take time from each other when they share one; its
    CPU seconds are therefore not those that are printed.
    """
    if ctranslate2 is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        peer.save_pretrained(source)  # type: ignore[operator]
        words = _write_tokenizer(source, peer.config.vocab_size)  # type: ignore[union-attr, arg-type]
        TransformersConverter(str(source)).convert(str(target))
        command = [
            sys.executable,
            "-m",
            "benchmarks.peer_ctranslate2",
            str(target),
            str(torch.get_num_threads()),
        ]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None and child.stdout is not None
        asked, told = child.stdin, child.stdout
        assert json.loads(told.readline()) == "ready"

    def generate(prompts: Tensor, beams: int, new_tokens: int) -> list[list[int]]:
        tokens = [[words[number] for number in row] for row in prompts.tolist()]
        print(json.dumps([tokens, beams, new_tokens]), file=asked, flush=True)
        found: list[list[int]] = json.loads(told.readline())
        return found

    return generate


def serve(folder: str, threads: int) -> None:
    """Answers each line of standard input, prompts, beams and new tokens as JSON, by a line of token ids.

    在独立进程中逐行应答。
    """
    generator = ctranslate2.Generator(folder, device="cpu", compute_type="float32", intra_threads=threads)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        tokens, beams, new_tokens = json.loads(line)
        found = generator.generate_batch(
            tokens,
            beam_size=beams,
            max_length=new_tokens,
            min_length=new_tokens,
            include_prompt_in_result=False,
            end_token=_END,
        )
        print(json.dumps([list(row.sequences_ids[0]) for row in found]), flush=True)


def _write_tokenizer(folder: Path, size: int) -> list[str]:
    """Files of a GPT-2 tokenizer of that many made-up words; CTranslate2 reads and writes tokens as words."""
    words = [f"w{number}" for number in range(size - 1)] + [_END]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": _END, "bos_token": _END, "unk_token": _END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return words


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
