"""Activation checkpointing: blocks keep their input alone, and compute the rest again on the way back."""

from __future__ import annotations

from torch import nn

from hanformer.errors import UserError
from hanformer.models.stack import Stack


def recompute_blocks(model: nn.Module) -> None:
    """Lets every stack of blocks inside the model recompute its activations in the backward pass.

    反向传播时重新计算各层激活，以时间换显存。

    Gradients stay the same, dropout included; a step takes about one forward pass longer. Raises UserError where there
    is no stack, and for residual attention, which hands scores from block to block.
    Source: Chen et al., arXiv 1604.06174.
    """
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    if not stacks:
        raise UserError(f"recompute: {type(model).__name__} has no stack of blocks; train it without")
    if any(stack.residual for stack in stacks):
        raise UserError("recompute: residual attention hands scores from block to block; train it without")
    for stack in stacks:
        stack.recompute = True
