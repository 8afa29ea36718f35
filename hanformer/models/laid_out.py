"""Parameters as they lie in memory: views of a file for inference, rows one after the other for training.

参数的内存布局：推理时可为文件的转置视图，训练前按行连续排列。
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from hanformer.weights.mapping import let_go


def is_whole(tensor: Tensor) -> bool:
    """Whether its numbers fill a stretch of memory without gaps, in whatever order: it can serve as it lies.

    张量是否（以任意维度顺序）填满一段连续内存。
    """
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda pair: pair[1]):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


@torch.no_grad()
def lay_out(model: nn.Module) -> None:
    """Lays the rows of every parameter out one after the other, where they are not.

    把所有参数按行连续排列。

    Kernels of TensorFlow lie transposed in their file, and are multiplied as they lie. Optimizers walk through weight,
    gradient and state side by side, as they lie in memory, and must not meet two orders.
    """
    for parameter in model.parameters():
        if not parameter.is_contiguous():
            lying = parameter.data
            parameter.data = lying.contiguous()
            let_go(lying)


class LaidOut(nn.Module):
    """A model whose parameters are laid out before it is trained. 训练前自动整理参数布局的模型。"""

    def train(self, mode: bool = True) -> Self:
        """Training mode or evaluation mode, as of every module. 切换训练或推理模式。"""
        if mode:
            lay_out(self)
        return super().train(mode)
