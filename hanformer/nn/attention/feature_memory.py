"""What the features of linear attention take, told where there is no memory for it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import Tensor

from hanformer.nn.attention.feature_maps import FeatureMap
from hanformer.runtime import within_memory


def room_for_features(features: FeatureMap, query: Tensor) -> AbstractContextManager[None]:
    """Inside, queries [N, H, D] and their keys are mapped; raises UserError with the sizes where no memory holds that.

    在其中计算特征映射；内存不足时说明特征、头与词元的数目。
    """

    def said(asked: str) -> str:
        tokens, heads, _ = query.shape
        count = features.query(query[:1].detach()).shape[-1]
        # Queries and keys, in float32 at least.
        needed = 2 * tokens * heads * count * max(query.element_size(), 4)
        return (
            f"attention: no memory for {count} features x {heads} heads x {tokens} tokens{asked}, which need about "
            f"{needed / 2**30:,.1f} GiB; take fewer features, shorter rows or smaller batches"
        )

    return within_memory(said)
