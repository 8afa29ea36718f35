"""A language model of recurrent layers: ON-LSTM, LSTM and their kin, trained on running text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import RecurrentCell, State
from hanformer.nn.layers.recurrent.kinds import ON_LSTM, make_cell
from hanformer.nn.layers.recurrent.regularise import DroppedEmbedding
from hanformer.nn.layers.recurrent.stack import RecurrentStack, StackOutput


@dataclass(frozen=True)
class RecurrentConfig:
    """The sizes and choices of a recurrent language model; the defaults are the paper's for Penn Treebank.

    循环语言模型的配置；默认值取自 ON-LSTM 论文。

    `kind` is a cell of `recurrent.kinds`; `chunk_size` and `form` belong to on_lstm. With `tied` the last layer has
    `embedding_size` units and the output shares the word vectors. Dropouts: whole words, the input, between layers,
    the output (locked), and the recurrent matrices (`weight_drop`).
    Raises UserError for sizes below 1, and what the cells refuse.
    """

    vocabulary_size: int = 10000
    embedding_size: int = 400
    hidden_size: int = 1150
    layers: int = 3
    kind: str = ON_LSTM
    chunk_size: int = 10
    form: str = "paper"
    tied: bool = True
    embedding_dropout: float = 0.1
    input_dropout: float = 0.5
    hidden_dropout: float = 0.3
    output_dropout: float = 0.45
    weight_drop: float = 0.45

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "embedding_size", "hidden_size", "layers", "chunk_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Channels of the input and of every layer. 输入与各层的宽度。"""
        last = self.embedding_size if self.tied else self.hidden_size
        return (self.embedding_size, *[self.hidden_size] * (self.layers - 1), last)

    def cells(self) -> list[RecurrentCell]:
        """New cells of these sizes. 按配置新建各层。"""
        return [
            make_cell(self.kind, below, above, chunk_size=self.chunk_size, form=self.form)
            for below, above in pairwise(self.sizes)
        ]


class RecurrentState:
    """What the layers of a recurrent model remember of R rows: of one size, however long the rows are.

    循环模型的解码状态；大小与已读长度无关。
    """

    def __init__(self, states: Sequence[State]) -> None:
        self.states = tuple(states)
        self._length = 0

    @property
    def length(self) -> int:
        """Tokens appended after the prompt. 提示之后追加的词元数。"""
        return self._length

    @property
    def numbers(self) -> int:
        """How many numbers it holds for one row. 每行状态所含的数值个数。"""
        return sum(part.shape[1] for state in self.states for part in state)

    def append(self, states: Sequence[State], count: int) -> None:
        """Takes the states after `count` more tokens. 更新状态。"""
        self.states, self._length = tuple(states), self._length + count

    def select(self, rows: Tensor) -> None:
        """Row r becomes the old row `rows[r]`. 按行选择。"""
        self.states = _rows(self.states, rows)

    def truncate(self, length: int) -> None:
        """Raises UserError unless nothing would be forgotten: a recurrent state cannot go back. 不能回退。"""
        if length != self._length:
            raise UserError(
                f"a recurrent state cannot go back from {self._length} to {length} tokens; decode without a draft"
            )


def _rows(states: Sequence[State], rows: Tensor) -> tuple[State, ...]:
    return tuple(tuple(part[rows.to(part.device)] for part in state) for state in states)


class RecurrentLm(nn.Module):
    """p(x_{t+1} | x_1 ... x_t) from a stack of recurrent layers, with the dropouts of AWD-LSTM.

    循环语言模型。

    Shapes: calling it takes ids [B, L] to logits [B, L, V]; `read` and its states keep time first.
    Source: Merity et al. 2018, arXiv 1708.02182; Shen et al. 2019, arXiv 1810.09536.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = DroppedEmbedding(
            config.vocabulary_size, config.embedding_size, config.embedding_dropout
        )
        self.stack = RecurrentStack(
            config.cells(),
            input_dropout=config.input_dropout,
            hidden_dropout=config.hidden_dropout,
            output_dropout=config.output_dropout,
            weight_drop=config.weight_drop,
        )
        self.output = nn.Linear(config.sizes[-1], config.vocabulary_size)
        if config.tied:
            self.output.weight = self.embedding.table.weight
        self._initialise()

    def _initialise(self) -> None:
        nn.init.uniform_(self.embedding.table.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.output.weight.device

    def read(self, ids: Tensor, states: Sequence[State] | None = None) -> StackOutput:
        """What the layers make of ids [L, B], time first, going on from `states`.

        各层对 [L, B] 词元的输出。

        Raises UserError for ids outside the vocabulary.
        """
        size = self.config.vocabulary_size
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < size:
            raise UserError(f"expected ids in 0..{size - 1}, got {int(ids.min())}..{int(ids.max())}")
        output: StackOutput = self.stack(self.embedding(ids), states)
        return output

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, L, V] of the next words for ids [B, L]. 每个位置的下一词 logits。"""
        logits: Tensor = self.output(self.read(ids.T).outputs.transpose(0, 1))
        return logits

    @torch.no_grad()
    def prompt(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, RecurrentState]:
        """Reads prompts of any lengths: next-token logits [B, V] at their ends, and the state to go on from.

        读入若干提示（长度可不同），返回末尾 logits 与解码状态。

        Rows stop at their own ends, and their results do not depend on their neighbours.
        Raises UserError for an empty prompt.
        """
        lengths = [len(row) for row in rows]
        if not lengths or min(lengths) < 1:
            raise UserError(f"expected prompts of at least one token, got lengths {lengths}")
        hidden = self.output.weight.new_empty(len(rows), self.config.sizes[-1])
        states = self.stack.first_states(len(rows))
        for start, stop in pairwise([0, *sorted(set(lengths))]):
            going = torch.tensor([row for row, length in enumerate(lengths) if length > start])
            ids = torch.tensor([rows[row][start:stop] for row in going.tolist()], device=self.device)
            output = self.read(ids.T, _rows(states, going))
            hidden[going] = output.outputs[-1].to(hidden.dtype)
            states = _replaced(states, going, output.states)
        return self.output(hidden), RecurrentState(states)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: RecurrentState) -> Tensor:
        """Logits [R, T, V] after each of tokens [R, T], which are appended to the state. 追加词元。"""
        output = self.read(tokens.T, state.states)
        state.append(output.states, tokens.shape[1])
        logits: Tensor = self.output(output.outputs.transpose(0, 1))
        return logits

    def prepare_for_inference(self) -> RecurrentLm:
        """Evaluation mode, with the scale of weight drop folded into the matrices: not to be trained again.

        进入推理模式，并把权重失活的缩放并入权重。
        """
        self.stack.fold_weight_drop()
        return self.eval()


def _replaced(states: Sequence[State], rows: Tensor, newer: Sequence[State]) -> tuple[State, ...]:
    return tuple(
        tuple(
            old.index_copy(0, rows.to(old.device), new.to(old.dtype)) for old, new in zip(*pair, strict=True)
        )
        for pair in zip(states, newer, strict=True)
    )
