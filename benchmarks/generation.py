"""Generation: milliseconds a step, beside `transformers` generate with the same weights.

    python -m benchmarks.generation

A post-norm BERT used as a language model continues 8 prompts by 32 tokens, greedily and with 4 beams. The time is
that of the whole call, reading the prompt included, over the number of new tokens. transformers runs its default:
SDPA attention and a dynamic cache. In fp32 both sides must give the same token ids.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from benchmarks.peer import build_peer
from hanformer import models, runtime
from hanformer.config import ModelConfig
from hanformer.decode import Beam, Greedy, generate
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer

SIZES = {
    "base width": ModelConfig(21128, 768, 4, 12, 3072, application="lm"),
    "main job": ModelConfig(3000, 256, 4, 4, 1024, application="lm"),
}
END_ID, FIRST_ID = 3, 5


def ours(model: Transformer, prompts: list[list[int]], beams: int, new_tokens: int) -> list[list[int]]:
    """The new tokens of each prompt, by hanformer.decode. 我方生成。"""
    logits, state = model.prompt(prompts)
    found = generate(
        model.step,
        state,
        logits,
        rule=Greedy() if beams == 1 else Beam(beams),
        end_id=END_ID,
        maximum_length=new_tokens,
        minimum_length=new_tokens,
    )
    return [list(hypotheses[0].tokens) for hypotheses in found]


def theirs(peer: nn.Module, prompts: Tensor, beams: int, new_tokens: int) -> list[list[int]]:
    """The same by transformers. transformers 的生成。"""
    whole = peer.generate(  # type: ignore[operator]
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        num_beams=beams,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        eos_token_id=END_ID,
        pad_token_id=0,
    )
    tokens: list[list[int]] = whole[:, prompts.shape[1] :].tolist()
    return tokens


def check(first: Callable[[], list[list[int]]], second: Callable[[], list[list[int]]], exact: bool) -> str:
    """Equal token ids, every one; in bf16 the share that is equal. 词元须完全相同（bf16 只报告比例）。"""
    own, peers = torch.tensor(first()), torch.tensor(second())
    if own.shape != peers.shape:
        raise Difference(f"generated {list(own.shape)} tokens against {list(peers.shape)}")
    same = float((own == peers).float().mean())
    if exact and same < 1:
        row = int((own != peers).any(1).nonzero()[0])
        raise Difference(
            f"token ids differ, first in row {row}: {own[row].tolist()} and {peers[row].tolist()}"
        )
    return f"{same:.1%} of {own.numel()} token ids are equal"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """Sizes, beams and prompt lengths. 全部案例。"""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[chosen.precision]
    if dtype == torch.bfloat16 and not runtime.has_fast_bfloat16(torch.device("cpu")):
        print("  note: this processor has no fast bf16", file=sys.stderr)
    for name in chosen.sizes.split(","):
        if name not in SIZES:
            raise UserError(f"sizes: expected some of {', '.join(SIZES)}, got {name!r}")
        torch.manual_seed(chosen.seed)
        config = SIZES[name].changed({"layers": chosen.layers} if chosen.layers else {})
        model = models.build(config).to(dtype).eval()
        peer = build_peer(model)
        for beams in (1, 4):
            for length in (16, 128):
                prompts = torch.randint(FIRST_ID, config.vocab_size, (chosen.batch, length))
                first = partial(ours, model, prompts.tolist(), beams, chosen.new_tokens)
                second = partial(theirs, peer, prompts, beams, chosen.new_tokens)
                yield Case(
                    f"{name}, {'greedy' if beams == 1 else f'beam {beams}'}, prompt {length}",
                    "step",
                    chosen.new_tokens,
                    False,
                    [Side("hanformer", first), Side("transformers", second)],
                    partial(check, first, second, dtype == torch.float32),
                )


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("milliseconds a step of generation beside transformers", "generation")
    options.add_argument("--sizes", default="main job", help=f"of {', '.join(SIZES)}; default: %(default)s")
    options.add_argument("--layers", type=int, default=None, help="default: 4; 12 for the whole BERT-base")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--new-tokens", type=int, default=32)
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return runner.main("generation", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
