"""The shared harness: what every model and every visibility rule must satisfy.

`check_model(config, heads)` builds a tiny model with random weights and runs every check that its application
allows; `check_rule(rule)` does the same for a visibility rule. Each check is also a function of its own, so that
a failure names what broke. The oracles are naive: one row at a time, no padding, no cache, no plan.
"""

from __future__ import annotations

from tests.harness.decoding import DECODING, UncachedState, check_cached_decoding
from tests.harness.material import (
    CLOSE,
    EXACT,
    Rows,
    assert_all_close,
    flatten_rows,
    random_model,
    random_rows,
    run_packed,
    run_row_by_row,
    segment_pattern,
    tiny_config,
)
from tests.harness.models import (
    check_empty_rows,
    check_gradients,
    check_half_precision,
    check_model,
    check_packing,
    check_padding,
    check_save_and_load,
    check_who_sees_whom,
    jacobian_pattern,
)
from tests.harness.rules import (
    check_claims,
    check_rule,
    check_visibility,
    naive_attend,
    naive_visible,
    patterned_layout,
    rows_of,
)

__all__ = [
    "CLOSE",
    "DECODING",
    "EXACT",
    "Rows",
    "UncachedState",
    "assert_all_close",
    "check_cached_decoding",
    "check_claims",
    "check_empty_rows",
    "check_gradients",
    "check_half_precision",
    "check_model",
    "check_packing",
    "check_padding",
    "check_rule",
    "check_save_and_load",
    "check_visibility",
    "check_who_sees_whom",
    "flatten_rows",
    "jacobian_pattern",
    "naive_attend",
    "naive_visible",
    "patterned_layout",
    "random_model",
    "random_rows",
    "rows_of",
    "run_packed",
    "run_row_by_row",
    "segment_pattern",
    "tiny_config",
]
