"""Powers of e as powers of two, e^x = 2^(x log₂ e), which torch computes in less time on a CPU.

以 2 的幂计算 e 的幂。
"""

from __future__ import annotations

import math

LOG2_E = math.log2(math.e)
