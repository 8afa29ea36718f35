"""What the tricks ask of their numbers."""

from __future__ import annotations

import math

from hanformer.errors import UserError


def check_strength(name: str, value: float) -> None:
    """Raises UserError unless 0 <= value < infinity. 检查强度。"""
    if not 0 <= value < math.inf:
        raise UserError(f"{name}: expected a strength of 0 or more, got {value}")


def check_above_zero(name: str, value: float) -> None:
    """Raises UserError unless 0 < value < infinity. 检查正数。"""
    if not 0 < value < math.inf:
        raise UserError(f"{name}: expected a number above 0, got {value}")


def check_share(name: str, value: float) -> None:
    """Raises UserError unless 0 <= value <= 1. 检查比例。"""
    if not 0 <= value <= 1:
        raise UserError(f"{name}: expected a share from 0 to 1, got {value}")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises UserError for a smaller whole number. 检查次数。"""
    if value < least:
        raise UserError(f"{name}: expected {least} or more, got {value}")
