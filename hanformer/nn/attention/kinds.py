"""Which module serves which mechanism."""

from __future__ import annotations

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import (
    Atrous,
    GatedUnit,
    Linear,
    Local,
    Mechanism,
    Performer,
    Softmax,
    Sparse,
    Synthesizer,
    Taylor,
)
from hanformer.nn.attention.gated_unit import GatedUnitAttention
from hanformer.nn.attention.linear import LinearAttention
from hanformer.nn.attention.linear_turned import TurnedLinearAttention, TurnedPerformerAttention
from hanformer.nn.attention.performer import PerformerAttention
from hanformer.nn.attention.rolling import WindowedAttention
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.synthesizer import SynthesizerAttention
from hanformer.nn.attention.taylor import TaylorAttention

#: The module of each mechanism; it takes a ModelConfig and refuses, with a UserError, what it cannot honour.
KINDS: dict[type[Mechanism], type[SoftmaxAttention]] = {
    Softmax: SoftmaxAttention,
    Synthesizer: SynthesizerAttention,
    GatedUnit: GatedUnitAttention,
    Linear: LinearAttention,
    Performer: PerformerAttention,
    Taylor: TaylorAttention,
    Local: WindowedAttention,
    Atrous: SoftmaxAttention,
    Sparse: SoftmaxAttention,
}

#: The same for features that rotary positions turn.
_TURNED: dict[type[Mechanism], type[SoftmaxAttention]] = {
    Linear: TurnedLinearAttention,
    Performer: TurnedPerformerAttention,
}


def attention_of(config: ModelConfig) -> SoftmaxAttention:
    """The attention that a config asks for. 按配置建立注意力。

    Raises UserError for a mechanism without a module, and for a config that the mechanism cannot honour.
    """
    kind = KINDS.get(type(config.attention))
    if kind is None:
        served = ", ".join(sorted(served.name for served in KINDS))
        raise UserError(f"attention: {config.attention.name!r} has no module; there are {served}")
    if getattr(config.attention, "rotates", "inputs") == "features":
        kind = _TURNED[type(config.attention)]
    return kind(config)
