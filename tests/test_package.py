"""The package itself: what it shows of what it loads when first used."""

from __future__ import annotations

import hanformer


def test_public_names_are_listed_and_exist() -> None:
    assert set(hanformer.__all__) <= set(dir(hanformer))
    assert {"load", "encode", "fill_mask"} <= set(hanformer.__all__)
    assert all(getattr(hanformer, name) is not None for name in hanformer.__all__)
