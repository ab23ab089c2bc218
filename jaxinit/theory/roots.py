# SPDX-License-Identifier: Apache-2.0
"""Where a function of one number changes sign.

References:
    Ridders, "A new algorithm for computing a single root of a real continuous
        function", IEEE Transactions on Circuits and Systems 26, 1979.
"""

import math
from collections.abc import Callable


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function changes sign between low and high."""
    low, high = sorted([low, high])
    at_low, at_high = function(low), function(high)
    if at_low == 0 or at_high == 0:
        return low if at_low == 0 else high
    last = math.inf
    while True:
        middle = (low + high) / 2
        at = function(middle)
        bend = math.sqrt(at * at - at_low * at_high)
        x = middle + (middle - low) * math.copysign(1, at_low - at_high) * at / bend
        at_x = function(x)
        if at_x == 0 or abs(x - last) <= 1e-13 * max(1.0, abs(x)):
            return x
        ends = sorted([(low, at_low), (middle, at), (x, at_x), (high, at_high)])
        signs = [value * at_low > 0 for _, value in ends]
        first = signs.index(False)
        (low, at_low), (high, at_high) = ends[first - 1 : first + 1]
        last = x
