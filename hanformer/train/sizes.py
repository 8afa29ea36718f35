"""The shape of a Transformer that is trained from scratch, as recipes hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Mechanism, Softmax
from hanformer.models.resizing import SIZES

#: How a model learns, not what it is: a pretrained one takes them over.
DROPOUTS = ("dropout", "attention_dropout")


@dataclass(frozen=True)
class Sizes:
    """The shape of a Transformer that is trained from scratch, as far as it is said; the words are those of
    `ModelConfig`.

    从头训练的模型尺寸；未写明者（None 或空串）取任务的默认值。

    What is unsaid (None; of words, the empty one, for none is a kind of position) is as usual for the task (`over`),
    and where nothing is usual as `ModelConfig` has it; `max_positions` are then as many as the task needs, 512 at
    least. A pretrained model has its own sizes: it takes over the mechanism and the rates of dropout that are said, and
    what else is said must be so already (`check_kept`).
    """

    hidden_size: int | None = None
    layers: int | None = None
    attention_heads: int | None = None
    intermediate_size: int | None = None
    norm_place: str = ""
    position: str = ""
    attention: Mechanism | None = None
    residual_attention: bool | None = None
    key_value_heads: int | None = None
    attention_key_size: int | None = None
    activation: str = ""
    dropout: float | None = None
    attention_dropout: float | None = None
    initial_deviation: float | None = None
    share_layers: bool | None = None
    max_positions: int | None = None
    hierarchical_positions: float | None = None
    relative_distance: int | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What is said, by name. 已写明的尺寸。"""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value != ""}

    def over(self, usual: Sizes) -> Sizes:
        """These sizes, and the usual ones for what is unsaid. 未写明者取默认值。"""
        return replace(usual, **self.said)

    def unlike(self, usual: Sizes) -> Sizes:
        """These sizes where they are not the usual ones, which count as unsaid. 仅保留与默认值不同的尺寸。"""
        known = usual.said
        return Sizes(**{name: value for name, value in self.said.items() if value != known.get(name)})

    def config(
        self,
        vocab_size: int,
        application: str,
        max_positions: int,
        changes: Mapping[str, Any] | None = None,
    ) -> ModelConfig:
        """A config of this shape; `max_positions` are those that the task needs, `changes` further fields of
        `ModelConfig`. Raises UserError for sizes that are not whole. 生成模型配置。"""
        if unsaid := [name for name in USUAL.said if name not in self.said]:
            raise UserError(f"sizes: {', '.join(unsaid)} unsaid; take sizes.over(usual) for the usual ones")
        whole = {"max_positions": max_positions, **self.said, **(changes or {})}
        return ModelConfig(vocab_size=vocab_size, application=application, **whole)

    @property
    def kept(self) -> dict[str, Any]:
        """What is said, and no pretrained model can take over. 已写明且不能用于预训练模型的尺寸。"""
        return {name: value for name, value in self.said.items() if name not in (*DROPOUTS, "attention")}

    @property
    def dropouts(self) -> dict[str, float]:
        """The rates of dropout that are said. 已写明的失活率。"""
        return {name: value for name, value in self.said.items() if name in DROPOUTS}


#: What is usual where a task has no sizes of its own.
USUAL = Sizes(
    hidden_size=192,
    layers=3,
    attention_heads=6,
    intermediate_size=768,
    norm_place="pre",
    position="rotary",
    attention=Softmax(),
    residual_attention=False,
    activation="relu",
    dropout=0.1,
    attention_dropout=0.0,
    initial_deviation=0.05,
    share_layers=False,
)


#: What is usual for models that write.
WIDER = Sizes(hidden_size=256, layers=4, attention_heads=4).over(USUAL)


@dataclass(frozen=True)
class ShapedRecipe:
    """What recipes of Transformers have in common: a new model of some sizes, or a pretrained one, which has its own.

    Transformer 配方的公共部分：按尺寸新建，或从预训练模型开始。
    """

    start_from: str = ""
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def usual_sizes(self) -> Sizes:
        """The sizes of a new model where nothing is said. 本任务的默认尺寸。"""
        return USUAL

    @property
    def shape(self) -> Sizes:
        """The sizes of a new model: what is said, and what is usual. 新模型的尺寸。"""
        return self.sizes.over(self.usual_sizes)

    def check_start(self, config: ModelConfig) -> None:
        """Raises UserError for sizes that the pretrained model, of this config, has not: they are for a new one.

        检查所写尺寸与预训练模型是否一致。
        """
        check_kept(self.start_from, self.sizes.kept, config)


def settled(recipe: Any) -> Any:
    """The recipe with the usual sizes of its new model where none are said; any other as it is. 补全新模型的尺寸。"""
    if not isinstance(recipe, ShapedRecipe) or recipe.start_from:
        return recipe
    return replace(recipe, sizes=recipe.shape)


def check_kept(start_from: str, said: Mapping[str, Any], config: ModelConfig) -> None:
    """Raises UserError for sizes beside a pretrained model that are not its own, which is what it is trained with.

    微调时所写的尺寸须与预训练模型一致，否则拒绝，而不是忽略。
    """
    # What a config leaves open it has nevertheless.
    filled = {
        "key_value_heads": config.key_value_heads or config.attention_heads,
        "attention_key_size": config.key_size,
    }
    has = {name: filled.get(name, getattr(config, name)) for name in said}
    others = {name: value for name, value in said.items() if value != has[name]}
    if not others:
        return
    named = ", ".join(f"{name}={value}" for name, value in others.items())
    own = ", ".join(f"{name}={has[name]}" for name in others)
    changeable = [name for name in others if name not in SIZES]
    way = (
        f"; or write it to a folder (hanformer convert {start_from} FOLDER), change {', '.join(changeable)} in "
        "FOLDER/config.json, and start from there"
        if changeable
        else ""
    )
    raise UserError(
        f"{start_from}: a pretrained model keeps its sizes ({own}), and {named} would be of a new one: leave that "
        f"out{way}"
    )
