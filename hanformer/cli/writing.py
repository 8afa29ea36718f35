"""What the commands share whose model writes text: where it lies, and how it is opened."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hanformer.cli.model_options import Application, ConfigFile, Family, TokenizerPath
from hanformer.cli.options import Device, Precision, Threads, prepare_machine

if TYPE_CHECKING:
    from hanformer.tasks.generation import Writer
    from hanformer.tasks.generation_options import GenerationOptions


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The options of a command with a model that writes; a command adds its own. 使用生成模型的命令的公共选项。"""

    application: Application = None
    family: Family = None
    config: ConfigFile = None
    tokenizer: TokenizerPath = None
    precision: Precision = "auto"
    device: Device = "auto"
    threads: Threads = None

    def writer(self, model: str, options: "GenerationOptions") -> "Writer":
        """The model, ready to write; what loading warns of is told in lines. 打开可以生成文本的模型。"""
        from hanformer import runtime
        from hanformer.tasks.generation import open_writer

        device = prepare_machine(self.device, self.threads)
        return open_writer(
            model,
            options,
            family=self.family,
            application=self.application,
            config=self.config,
            tokenizer=self.tokenizer,
            device=device,
            dtype=runtime.inference_dtype(self.precision, device),
        )
