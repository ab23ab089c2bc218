# SPDX-License-Identifier: Apache-2.0
"""How long `jaxinit.read` takes beside the trace of the pass, which is a part of it."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.models import gpt2

__all__ = ["reading"]

DEPTHS = (12, 24, 48)


def reading(turns: int) -> list[dict[str, Any]]:
    """GPT-2 of several depths: medians of alternating turns, in seconds."""
    import jax

    import jaxinit

    print("jaxinit.read of a Linen GPT-2, and the trace of its pass alone")
    rows = []
    for depth in DEPTHS:
        model, tokens = gpt2(depth, 1000)
        shapes = jax.eval_shape(model.init, jax.random.key(0), tokens)

        def trace(
            model: Any = model, shapes: Any = shapes, tokens: Any = tokens
        ) -> Any:
            return jax.make_jaxpr(model.apply)(shapes, tokens)

        def read(model: Any = model, shapes: Any = shapes, tokens: Any = tokens) -> Any:
            return jaxinit.read(model, shapes, tokens)

        seconds: dict[str, list[float]] = {"trace": [], "read": []}
        for turn in range(turns + 1):  # the first of each warms up
            for name, call in (("trace", trace), ("read", read)):
                taken = _timed(call)
                if turn:
                    seconds[name].append(taken)
        median = {name: statistics.median(each) for name, each in seconds.items()}
        ratio = median["read"] / median["trace"]
        rows.append({"case": f"read, {depth} blocks", **median, "ratio": ratio})
        times = "  ".join(f"{name} {each:.3f} s" for name, each in median.items())
        print(f"{depth:>4} blocks  {times}  {ratio:.2f} times", flush=True)
    return rows


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
