"""Finished runs at work: whatever the task, a run is evaluated on data and predicts from texts.

训练好的运行目录：不论任务，都可评测与预测。
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from hanformer.errors import UserError
from hanformer.train.data_files import fingerprints
from hanformer.train.runs import read_description, run_of, task_of

Row = TypeVar("Row")


@dataclass(frozen=True)
class ServingOptions:
    """How a run is used: width of the beam where the task decodes, device, precision, runs that vote with it, how many
    rows of the data are judged, spread evenly (none: all), where texts are written, the tokens of a row where a
    pretrained model is judged (none: as in training), and whether candidates of equal value vote (word problems).

    使用选项：束宽（生成类任务）、设备、精度、一起投票的其他运行目录、评测的行数、预训练评测时每行的词元数、
    取值相同的候选是否投票（应用题）。
    """

    beams: int = 3
    device: str = "cpu"
    precision: str = "auto"
    beside: tuple[Path, ...] = ()
    rows: int | None = None
    length: int | None = None
    vote: bool = True

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise UserError(f"--rows: expected at least 1, got {self.rows}")


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation says: text for people, figures by name, and a row for every example.

    评测结果：供阅读的文字、各项指标、逐例记录。
    """

    text: str
    figures: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class Service(ABC):
    """A finished run of one task. 某一任务的训练成果。"""

    @abstractmethod
    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Judged on a data set. Raises UserError where it cannot be read, or holds nothing to judge.

        在数据集上评测。
        """

    def predict(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """One line of answer for every text, or the error that it meets. Raises UserError for a text outside a list.

        逐条作答；每条给出一行答案，或其错误。
        """
        if isinstance(texts, str):
            raise UserError(
                f"predict: expected a list of texts, got one text; write predict([{texts[:20]!r}])"
            )
        return self._answers(texts)

    @abstractmethod
    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]: ...


#: Task -> "module:function" of (run folder, options) to a service.
SERVICES: dict[str, str] = {
    "arithmetic": "hanformer.arithmetic.service:open_service",
    "chat": "hanformer.chat.service:open_service",
    "classify": "hanformer.tasks.classify.service:open_service",
    "pair": "hanformer.tasks.pair.service:open_service",
    "recurrent": "hanformer.parsing.service:open_service",
    "pretrain": "hanformer.tasks.pretrain.service:open_service",
    "seq2seq": "hanformer.tasks.seq2seq.service:open_service",
    "tag": "hanformer.tasks.tag.service:open_service",
}

#: The word for problems of the embedded generator, in place of a path.
GENERATED = "generated"

#: Tasks that judge by what they held out of one file, or warn of it themselves.
HOLDING_OUT = ("arithmetic", "recurrent")

#: Tasks whose evaluation writes a text for every row, which takes time.
WRITING = ("chat", "seq2seq")


def spread(rows: Sequence[Row], count: int | None) -> list[Row]:
    """So many of the rows, spread evenly over them; all without a count. 均匀抽取若干行。"""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]


def check_data(run: str | Path, data: str) -> None:
    """Raises UserError where a run of another task than word problems would be judged by generated ones, and warns
    where it would be judged by the file that it was trained on.

    除应用题外，评测必须指定数据；用训练文件评测时给出警告。
    """
    task = task_of(run)
    if data == GENERATED and task != "arithmetic" and not Path(data).exists():
        raise UserError(
            f"{run}: a run of {task}: name what to judge by, such as --data test.tsv or a folder with one"
        )
    if was_trained_on(run, data):
        warnings.warn(
            f"{data}: this run was trained on it, and rows that it knows by heart flatter it; judge by others (in a "
            "table, a column named split sets some apart)",
            stacklevel=2,
        )


def was_trained_on(run: str | Path, data: str) -> bool:
    """Whether a file holds, byte for byte, what a run was trained on as its one file (a zip may hold other parts).

    数据文件是否就是该运行的训练文件。
    """
    values = read_description(run_of(run))
    known, path = values.get("files", {}), Path(data)
    learned = known.get(Path(str(values.get("data"))).name)
    if values.get("task") in HOLDING_OUT:
        return False
    return path.is_file() and path.suffix.lower() != ".zip" and learned in fingerprints(data).values()


def open_service(run: str | Path, options: ServingOptions) -> Service:
    """The service of a run, by the task that its run.toml names.

    按 run.toml 中的任务打开运行目录。

    Raises UserError for a folder that is no run, is incomplete, or is of an unknown task.
    """
    task = task_of(run)
    if task not in SERVICES:
        raise UserError(f"{run}: a run of the task {task!r}; expected one of {', '.join(sorted(SERVICES))}")
    if options.beside and task != "arithmetic":
        raise UserError(f"--with lets runs of the task arithmetic vote; {run} is of the task {task}")
    if not options.vote and task != "arithmetic":
        raise UserError(f"--no-voting: values vote in the task arithmetic; {run} is of the task {task}")
    if options.rows and task not in WRITING:
        raise UserError(
            f"--rows shortens the judging of tasks that write texts ({', '.join(WRITING)}), not of {task}"
        )
    if options.length is not None and task != "pretrain":
        raise UserError(
            f"--length says how long the rows are that a pretrained model is judged by; {run} is of {task}"
        )
    module, _, name = SERVICES[task].partition(":")
    opener: Callable[[Path, ServingOptions], Service] = getattr(import_module(module), name)
    return opener(Path(run), options)
