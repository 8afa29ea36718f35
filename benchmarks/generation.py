"""Generation: milliseconds a step, beside `transformers` generate with the same weights, and beside the stream limit.

    python -m benchmarks.generation
    python -m benchmarks.generation --sizes "gpt2 small" --precision both --shapes 1x8x16,1x1x16,4x8x512 --new-tokens 64

A post-norm BERT used as a language model, or GPT-2, continues prompts by a fixed number of tokens: `--shapes` are beams
x batch x prompt length. The time is that of the whole call, reading the prompt included, over the number of new
tokens. transformers runs its default: SDPA attention and a dynamic cache. In fp32 both sides must give the same token
ids. Where CTranslate2 is installed, it runs GPT-2 in fp32 too; how many of its token ids are ours is printed, for its
beam search is another one.

Ours is run twice: with its weights prepacked, as `hanformer generate` does, and plain. The side "stream limit" reads as
many bytes as the weights have, once for each new token: no step that reads its weights can be faster. Its
`time / ours` is the share of the limit that ours reaches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from benchmarks.peer import build_peer
from benchmarks.peer_ctranslate2 import Generate, build_ctranslate2_peer
from benchmarks.peer_gpt2 import build_gpt2_peer, gpt2_config
from hanformer import models, runtime
from hanformer.config import ModelConfig
from hanformer.decode import Beam, Greedy, generate
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.layers.prepacked import prepacked

SIZES: dict[str, ModelConfig] = {
    "base width": ModelConfig(21128, 768, 4, 12, 3072, application="lm"),
    "main job": ModelConfig(3000, 256, 4, 4, 1024, application="lm"),
    "gpt2 small": gpt2_config(),
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
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


@dataclass(frozen=True)
class Shape:
    """What is generated together: beams, prompts, and their length. 束宽、批大小与提示长度。"""

    beams: int
    batch: int
    prompt: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        rule = "greedy" if self.beams == 1 else f"beam {self.beams}"
        return f"{rule}, batch {self.batch}, prompt {self.prompt}"


def read_shapes(words: str) -> list[Shape]:
    """Shapes such as 1x8x16,4x8x512; raises UserError for others. 解析形状列表。"""
    found = []
    for word in words.split(","):
        numbers = word.strip().split("x")
        if len(numbers) != 3 or not all(number.isdecimal() and int(number) for number in numbers):
            raise UserError(f"shapes: expected beams x batch x prompt, such as 4x8x512, got {word!r}")
        found.append(Shape(*map(int, numbers)))
    return found


def stream_limit(model: Transformer, steps: int) -> Callable[[], object]:
    """Reads as many bytes as the weights have, `steps` times. 按权重字节数流式读取。"""
    count = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    buffer = torch.ones(count // 4)

    def read() -> float:
        return sum(float(torch.dot(buffer, buffer)) for _ in range(steps))

    return read


def model_of(name: str, layers: int | None, dtype: torch.dtype) -> Transformer:
    """A model of that size with random weights. 随机权重的模型。"""
    if name not in SIZES:
        raise UserError(f"sizes: expected some of {', '.join(SIZES)}, got {name!r}")
    return models.build(SIZES[name].changed({"layers": layers} if layers else {})).to(dtype).eval()


def peer_of(model: Transformer) -> nn.Module:
    """The same model in transformers. 对应的 transformers 模型。"""
    return build_gpt2_peer(model) if model.config.family == "gpt2" else build_peer(model)


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """Sizes, precisions and shapes. 全部案例。"""
    shapes = read_shapes(chosen.shapes)
    words = PRECISIONS if chosen.precision == "both" else (chosen.precision,)
    if "bf16" in words and not runtime.has_fast_bfloat16(torch.device("cpu")):
        print("  note: this processor has no fast bf16", file=sys.stderr)
    for name in chosen.sizes.split(","):
        for word in words:
            torch.manual_seed(chosen.seed)
            model = model_of(name, chosen.layers, PRECISIONS[word])
            peer, fast = peer_of(model), prepacked(model)
            limit = stream_limit(model, chosen.new_tokens)
            third = build_ctranslate2_peer(peer) if (name, word) == ("gpt2 small", "fp32") else None
            for shape in shapes:
                yield case(f"{name}, {word}", shape, model, fast, peer, third, limit, chosen.new_tokens)


def case(
    name: str,
    shape: Shape,
    model: Transformer,
    fast: Transformer,
    peer: nn.Module,
    third: Generate | None,
    limit: Callable[[], object],
    new_tokens: int,
) -> Case:
    """One shape, and the sides that run it. 一个案例。"""
    prompts = torch.randint(FIRST_ID, model.config.vocab_size, (shape.batch, shape.prompt))
    words = (prompts.tolist(), shape.beams, new_tokens)
    first, plain = partial(ours, fast, *words), partial(ours, model, *words)
    second = partial(theirs, peer, prompts, shape.beams, new_tokens)
    exact = next(model.parameters()).dtype == torch.float32
    sides = [
        Side("hanformer, prepacked", first),
        Side("hanformer", plain),
        Side("transformers", second),
        Side("stream limit", limit),
    ]
    confirm = partial(check, first, second, exact)
    if third is not None:
        other = partial(third, prompts, shape.beams, new_tokens)
        sides.append(Side("ctranslate2", other))
        confirm = partial(_check_both, confirm, partial(check, first, other, False))
    return Case(f"{name}, {shape.name}", "step", new_tokens, False, sides, confirm)


def _check_both(first: Callable[[], str], second: Callable[[], str]) -> str:
    return f"transformers: {first()}; ctranslate2: {second()}"


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("milliseconds a step of generation beside transformers", "generation")
    options.add_argument("--sizes", default="main job", help=f"of {', '.join(SIZES)}; default: %(default)s")
    options.add_argument("--layers", type=int, default=None, help="default: what the size has")
    options.add_argument(
        "--shapes",
        default="1x8x16,1x8x128,4x8x16,4x8x128",
        help="beams x batch x prompt; default: %(default)s",
    )
    options.add_argument("--new-tokens", type=int, default=32)
    options.add_argument("--precision", choices=("fp32", "bf16", "both"), default="fp32")
    return runner.main("generation", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
