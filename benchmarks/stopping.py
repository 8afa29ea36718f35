"""Decoding that stops: a small language model with the usual head and with heads that must stop.

    python -m benchmarks.stopping

Three models of one size are trained, alike but for the head, on the text of generated word problems, character by
character, and continue the beginnings of problems that they have not seen. Printed: the mean loss of a character (nats;
a head that must stop pays for its bound), and the share of continuations that have not ended after so many characters,
for decoders that keep a part of the vocabulary. "greedy" and "beam 4" are the searches; "top-2" and "nucleus 0.2" draw;
"consistent" ones never drop the end token. The numbers depend on the seed, and on nothing else of the machine but
rounding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hanformer import models
from hanformer.arithmetic.generated import generate as draw_problems
from hanformer.config import ModelConfig
from hanformer.data.sequences import Pair, join_pairs
from hanformer.decode import Beam, Greedy, KeepEnd, Sample, TopK, TopP, generate
from hanformer.decode.search import Rule
from hanformer.errors import UserError
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating, Termination
from hanformer.theory.termination import non_termination
from hanformer.train.losses.self_terminating import predict_and_stop
from hanformer.train.objective import Objective
from hanformer.train.sequence import predict_targets

BEGIN, END, UNKNOWN = 0, 1, 2
PROMPT, BATCH = 6, 16


@dataclass(frozen=True)
class Head:
    """A name, and what makes the end token's probability; None is the usual softmax. 输出层。"""

    name: str
    termination: Termination | None


class Texts:
    """Generated problems as character ids. 生成题目的字符编号。"""

    def __init__(self, count: int, unseen: int, seed: int) -> None:
        self.train = [problem.text for problem in draw_problems(count, seed, "train")]
        self.unseen = [problem.text for problem in draw_problems(unseen, seed, "unseen_wordings")]
        known = sorted({character for text in self.train for character in text})
        self.ids = {character: place for place, character in enumerate(known, start=UNKNOWN + 1)}
        self.size = len(known) + UNKNOWN + 1

    def pair(self, text: str) -> Pair:
        """The beginning of a text, and the rest of it to predict."""
        ids = [self.ids.get(character, UNKNOWN) for character in text]
        return Pair((BEGIN, *ids[:PROMPT]), (*ids[PROMPT:], END))


def make_model(texts: Texts, head: Head, longest: int, seed: int) -> nn.Module:
    """A language model of two small layers with that head. 小型语言模型。"""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=texts.size,
        hidden_size=96,
        layers=2,
        attention_heads=4,
        intermediate_size=256,
        max_positions=max(longest, 256) + PROMPT + 1,
        application="lm",
        segment_vocab_size=0,
        pad_id=None,
        dropout=0.0,
        attention_dropout=0.0,
    )
    model = models.build(config).initialise()
    return model if head.termination is None else TerminatingTransformer(model, END, head.termination)


def objective_of(head: Head) -> Objective[Any]:
    """What trains it. 训练目标。"""
    return predict_targets() if head.termination is None else predict_and_stop()


def train(model: nn.Module, objective: Objective[Any], texts: Texts, steps: int, seed: int) -> None:
    """AdamW, a rate that falls to zero, batches drawn by the seed. 训练。"""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        chosen = torch.randint(len(texts.train), (BATCH,), generator=generator).tolist()
        loss = objective(model, join_pairs([texts.pair(texts.train[number]) for number in chosen])).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def mean_loss(model: nn.Module, objective: Objective[Any], texts: Texts) -> float:
    """Nats a character of texts that were not seen. 未见文本的平均损失。"""
    return float(objective(model, join_pairs([texts.pair(text) for text in texts.unseen])).mean())


def rules(seed: int) -> dict[str, Rule]:
    """The decoders by name. 各解码规则。"""
    return {
        "greedy": Greedy(),
        "beam 4": Beam(4),
        "top-2": Sample(seed=seed, more=(TopK(2),)),
        "top-2, consistent": Sample(seed=seed, more=(KeepEnd(TopK(2), END),)),
        "nucleus 0.2": Sample(seed=seed, more=(TopP(0.2),)),
        "nucleus 0.2, consistent": Sample(seed=seed, more=(KeepEnd(TopP(0.2), END),)),
    }


def shares(model: Any, texts: Texts, rule: Rule, lengths: Sequence[int]) -> tuple[float, ...]:
    """The share of continuations that have not ended, by length. 未终止率。"""
    prompts = [list(texts.pair(text).source) for text in texts.unseen]
    logits, state = model.prompt(prompts)
    found = generate(model.step, state, logits, rule=rule, end_id=END, maximum_length=lengths[-1])
    return non_termination([rows[0] for rows in found], lengths).curve


def lengths_of(longest: int) -> tuple[int, ...]:
    """A quarter, half and all of the greatest length. 统计的长度。"""
    return longest // 4, longest // 2, longest


def report(head: Head, options: argparse.Namespace, texts: Texts) -> None:
    """Trains one model and prints its lines. 训练一个模型并输出结果。"""
    model, objective = make_model(texts, head, options.longest, options.seed), objective_of(head)
    train(model, objective, texts, options.steps, options.seed)
    model.eval()
    print(f"{head.name}: {mean_loss(model, objective, texts):.4f} nats a character")
    for name, rule in rules(options.seed).items():
        curve = " ".join(
            f"{100 * share:7.1f}" for share in shares(model, texts, rule, lengths_of(options.longest))
        )
        print(f"  {name:<26}{curve}")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, trains and prints. 运行实验。"""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400, help="updates of each model")
    parser.add_argument("--texts", type=int, default=3000, help="problems to train on")
    parser.add_argument("--prompts", type=int, default=100, help="unseen problems to continue and to measure")
    parser.add_argument(
        "--longest", type=int, default=200, help="characters after which a continuation is cut"
    )
    parser.add_argument("--epsilon", type=float, default=1e-3, help="of the heads that must stop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if min(options.steps, options.texts, options.prompts, options.threads, options.longest // 4) < 1:
        raise UserError(
            "expected --steps, --texts, --prompts and --threads of at least 1, and --longest of 4"
        )
    torch.set_num_threads(options.threads)
    heads = (
        Head("softmax", None),
        Head("self-terminating", SelfTerminating(options.epsilon)),
        Head("non-monotonic", NonMonotonic(options.epsilon)),
    )
    texts = Texts(options.texts, options.prompts, options.seed)
    title = " ".join(f"{length:>7}" for length in lengths_of(options.longest))
    print(f"{options.steps} steps, epsilon {options.epsilon}; % not ended after\n{'':<28}{title}")
    for head in heads:
        report(head, options, texts)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
