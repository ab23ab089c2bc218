# SPDX-License-Identifier: Apache-2.0
"""One competitor in a process of its own, which runs a case when it is told to.

It reads a JSON line for each request and answers with one: seconds per call, bytes.
A call that frees large buffers leaves the next one to pay for fresh pages, so a case is
run many times in a row before the next competitor has its turn; `keep` keeps every
result instead, as a model does, so that every page is fresh.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

CASES: dict[str, dict[str, str]] = {
    "he_normal": {
        "jaxinit": "jaxinit.he_normal()",
        "jax": "initializers.he_normal()",
    },
    "kaiming_normal": {
        "jaxinit": "jaxinit.kaiming_normal(nonlinearity='relu')",
        "jax": "initializers.variance_scaling(2.0, 'fan_in', 'normal')",
        "torch": "lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity='relu')",
    },
    "glorot_uniform": {
        "jaxinit": "jaxinit.glorot_uniform()",
        "jax": "initializers.glorot_uniform()",
        "torch": "torch.nn.init.xavier_uniform_",
    },
    "truncated_normal": {
        "jaxinit": "jaxinit.trunc_normal()",
        "jax": "initializers.truncated_normal(1.0)",
        "torch": "torch.nn.init.trunc_normal_",
    },
    "orthogonal": {
        "jaxinit": "jaxinit.orthogonal()",
        "jax": "initializers.orthogonal()",
        "torch": "torch.nn.init.orthogonal_",
    },
}


def draw_of(competitor: str, case: str, shape: tuple[int, ...], dtype: str) -> Any:
    """A function of no arguments that draws one array, and waits for it."""
    if competitor == "torch":
        import torch

        function = eval(CASES[case]["torch"], {"torch": torch})
        kind = getattr(torch, dtype)
        return lambda: function(torch.empty(shape, dtype=kind))
    import jax
    import jax.numpy as jnp
    from jax.nn import initializers

    import jaxinit

    if competitor == "fill":
        fill = jax.jit(lambda value: jnp.full(shape, value, dtype))
        return lambda: fill(0.5).block_until_ready()
    names = {"jaxinit": jaxinit, "initializers": initializers}
    init = eval(CASES[case][competitor], names)
    key = jax.random.key(0)
    draw = jax.jit(lambda key: init(key, shape, dtype))
    return lambda: draw(key).block_until_ready()


def calls(draw: Callable[[], Any], seconds: float, keep: bool) -> list[float]:
    """Seconds of each call, for about so long; the first is not counted."""
    kept: list[Any] = []
    times: list[float] = []
    draw()
    end = time.perf_counter() + seconds
    while not times or (time.perf_counter() < end and len(times) < 4096):
        start = time.perf_counter()
        array = draw()
        times.append(time.perf_counter() - start)
        if keep:
            kept.append(array)
            if len(times) >= 8:
                break
    return times


def eager(competitor: str, outer: bool) -> Callable[[], Any]:
    """One small call: eagerly, as a layer's constructor does, or under an outer jit."""
    import jax

    import jaxinit

    key = jax.random.key(0)
    if competitor == "jaxinit":
        make: Callable[[], Any] = jaxinit.he_normal
    else:
        make = jax.nn.initializers.he_normal
    if outer:
        init = make()
        draw = jax.jit(lambda key: init(key, (8, 8)))
        return lambda: draw(key).block_until_ready()
    return lambda: make()(key, (8, 8)).block_until_ready()


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Nothing compiled before, nothing left after."""
    import jax

    jax.clear_caches()
    yield
    jax.clear_caches()


def program(competitor: str, case: str, shape: tuple[int, ...], count: int) -> Any:
    """A jitted function of a key that draws `count` arrays, each of another shape."""
    import jax
    from jax.nn import initializers

    import jaxinit

    names = {"jaxinit": jaxinit, "initializers": initializers}
    init = eval(CASES[case][competitor], names)

    def draw(key: jax.Array) -> list[jax.Array]:
        keys = jax.random.split(key, count)
        return [init(keys[i], (*shape[:-1], shape[-1] + i)) for i in range(count)]

    return jax.jit(draw)


def compile_seconds(
    competitor: str, case: str, shape: tuple[int, ...], count: int
) -> float:
    import jax

    key = jax.random.key(0)
    with cold():
        draw = program(competitor, case, shape, count)
        start = time.perf_counter()
        draw.lower(key).compile()
        return time.perf_counter() - start


def temporary_bytes(competitor: str, case: str, shape: tuple[int, ...]) -> int:
    import jax

    compiled = program(competitor, case, shape, 1).lower(jax.random.key(0)).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def answer(request: dict[str, Any]) -> Any:
    match request:
        case {"do": "time", "competitor": competitor, "draw": [case, shape, dtype]}:
            draw = draw_of(competitor, case, tuple(shape), dtype)
            return calls(draw, request["seconds"], request["keep"])
        case {"do": "eager", "competitor": competitor, "outer": outer}:
            return calls(eager(competitor, outer), 0.3, False)
        case {"do": "compile", "competitor": competitor, "draw": [case, shape, count]}:
            return [compile_seconds(competitor, case, tuple(shape), count)]
        case {"do": "memory", "competitor": competitor, "case": case, "shape": shape}:
            return temporary_bytes(competitor, case, tuple(shape))
        case {"do": "threads", "competitor": "torch"}:
            import torch

            return torch.get_num_threads()
    raise ValueError(f"no such request: {request}")


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
