"""What the commands of `hanformer train` share: their options, and the way from these to a run folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from hanformer.cli.options import Device, Threads, prepare_machine, read_assignments
from hanformer.errors import UserError

if TYPE_CHECKING:
    import torch

    from hanformer.config import ModelConfig
    from hanformer.tasks.text_recipe import TextRecipe
    from hanformer.train.history import History
    from hanformer.train.options import TrainOptions
    from hanformer.train.progress import Reporter

RecipeT = TypeVar("RecipeT", contravariant=True)
DataT = TypeVar("DataT", contravariant=True)
TextRecipeT = TypeVar("TextRecipeT", bound="TextRecipe")

#: An option of the panel of training.
train_option = partial(typer.Option, rich_help_panel="Training · 训练")

Out = Annotated[Path, typer.Option(help="The run folder to write. 输出的运行目录。")]
Assignments = Annotated[
    list[str] | None,
    train_option("--set", help="Change one choice of the recipe: --set train.epochs=20. 修改配方中的一项。"),
]
Resume = Annotated[
    bool, train_option("--resume", help="Go on with a run that was cut, by its own choices. 按原配方续训。")
]


class Train(Protocol[RecipeT, DataT]):
    """How every task trains. 各任务的训练函数。"""

    def __call__(
        self,
        recipe: RecipeT,
        data: DataT,
        run_folder: Path,
        /,
        *,
        device: "torch.device",
        reporter: "Reporter",
        resume: bool,
    ) -> "History":
        """Trains by a recipe into a run folder."""


class Training(ABC):
    """A command that trains; its record says which options it has. 训练命令的公共部分。"""

    out: Path
    data: str | Path
    resume: bool
    device: str
    threads: int | None

    @abstractmethod
    def choose(self) -> object:
        """The recipe that the options stand for. Raises UserError for what none can have. 由选项得到配方。"""

    @abstractmethod
    def __call__(self) -> None:
        """Trains, and says what comes next."""

    @property
    def begun(self) -> Path | None:
        """What the run that goes on says of itself, if it was begun. 续训时已有的 run.toml。"""
        from hanformer.train.runs import RUN_FILE

        file = self.out / RUN_FILE
        return file if self.resume and file.exists() else None

    def machine(
        self, start_from: str = "", check: Callable[["ModelConfig"], None] | None = None
    ) -> "torch.device":
        """The device, with threads and allocator set. Raises UserError where the pretrained model cannot be opened, or
        its config does not pass the check.

        准备运行设备，并确认预训练模型可以打开、与配方相符。
        """
        device = prepare_machine(self.device, self.threads)
        if start_from:
            from hanformer.models.checkpoint import open_checkpoint

            try:
                checkpoint = open_checkpoint(start_from)
                if check is not None:
                    check(checkpoint.config({}))
            except UserError as error:
                raise UserError(f"--start-from: {error}") from None
        return device

    def train(
        self, train: Train[RecipeT, DataT], recipe: RecipeT, data: DataT, device: "torch.device"
    ) -> "History":
        """Trains into the run folder; an interruption says how to go on. 训练；中断时说明如何继续。"""
        from hanformer.train.progress import reporter_for
        from hanformer.train.runs import RUN_FILE

        try:
            return train(recipe, data, self.out, device=device, reporter=reporter_for(), resume=self.resume)
        except KeyboardInterrupt:
            if (self.out / RUN_FILE).exists():
                typer.echo(f"to go on from what {self.out} keeps: the same command with --resume", err=True)
            raise

    def ended(self, history: "History", options: "TrainOptions", said: str, following: str = "") -> None:
        """Says what was kept, as `said` puts the metrics of its validation, and the command that comes next.

        报告保留的检查点与下一步命令。
        """
        from hanformer.train.validation import kept

        record = kept(history, options)
        data = Path(self.data)
        holds_parts = not data.is_file() or data.suffix.lower() == ".zip"
        judged = self.data if holds_parts else "TEST (rows that it has not seen)"
        typer.echo(
            f"kept update {record.update}: validation {said.format(**record.metrics)}; "
            f"next: {following or f'hanformer evaluate {self.out} --data {judged}'}"
        )


@dataclass(frozen=True, kw_only=True)
class TextTraining(Training):
    """The options of all tasks on text; a task adds its own. 文本任务共有的训练选项。"""

    out: Out
    data: str
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid rows are held out. 验证文件。")
    ] = None
    recipe: Annotated[
        Path | None, train_option(help="A recipe (TOML), or the run.toml of an earlier run. 配方文件。")
    ] = None
    assignments: Assignments = None
    tricks: Annotated[
        list[str] | None,
        train_option(
            "--trick",
            help="Wrap the objective: --trick r_drop:4 --trick fgm, the first outermost. 训练技巧，可叠加。",
        ),
    ] = None
    average: Annotated[
        str | None, train_option(help="Averaging of weights: none, ema or last. 权重平均。")
    ] = None
    optimizer: Annotated[str | None, train_option(help="An update rule, such as adamw or adax. 优化器。")] = (
        None
    )
    tensorboard: Annotated[
        str | None, train_option(help="A folder for TensorBoard's curves. TensorBoard 曲线的输出目录。")
    ] = None
    start_from: Annotated[
        str | None,
        train_option(help="A pretrained model to fine-tune: a folder or a hub id. 要微调的预训练模型。"),
    ] = None
    resume: Resume = False
    device: Device = "auto"
    threads: Threads = None

    def chosen(self, default: TextRecipeT, own: Mapping[str, str | Path | None] | None = None) -> TextRecipeT:
        """The recipe: a file, or that of the run which goes on; then the options with names of their own (`own` are the
        task's), then `--set`.

        命令所用的配方：先读文件（续训时读运行目录），再按各选项与 --set 修改。

        Raises UserError also where no model has the shape that they ask for.
        """
        from hanformer.tasks.text_recipe import with_tricks
        from hanformer.train.runs import read_recipe

        file = self.recipe or self.begun
        chosen = default if file is None else read_recipe(default, file)
        named = {
            "train.average": self.average,
            "train.tensorboard": self.tensorboard,
            "optimizer": self.optimizer,
            "start_from": self.start_from,
            "valid_file": self.valid,
            **(own or {}),
        }
        given = {name: str(value) for name, value in named.items() if value}
        recipe = with_tricks(chosen, self.tricks or ()).changed(
            given | read_assignments(self.assignments or [])
        )
        recipe.check_shape()
        return recipe
