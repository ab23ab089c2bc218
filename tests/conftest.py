# SPDX-License-Identifier: Apache-2.0
"""JAX at its strictest: promotions are named, ranks agree, keys are used once."""

import ctypes
import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

# XLA's older emitters compile twice as fast, which is a quarter of the suite's time.
# XLA ends a process that has a flag it does not know, so another one tries it; workers
# inherit what it found. `XLA_FLAGS=` in front runs the programs that users get.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"
    trial = [sys.executable, "-c", "import jax; jax.devices()"]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        os.environ["XLA_FLAGS"] = ""

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # for the meshes of law 5
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# No example has to be quick: what a machine does besides is no fault of the code.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

LIBC = ctypes.CDLL(None)
GIVE_BACK = getattr(LIBC, "malloc_trim", None)  # of the GNU libc alone
if hasattr(LIBC, "mallopt"):
    LIBC.mallopt(-8, 1)  # M_ARENA_MAX: the compiler's threads share one pool


# Of a sweep one row in so many is short, or in `every` of its mark; in 2, 4 or 6, a
# sweep over names and two dtypes would have one of the dtypes alone.
EVERY = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rows",
        choices=("short", "rest", "all"),
        default="short",
        help="some rows of a sweep and no long test, the rest, or all",
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """What holds at many rows is shown by some; `.ci/run rest` has every one."""
    wanted = config.getoption("rows")
    seen: Counter[str] = Counter()
    here: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        test = item.nodeid.partition("[")[0]
        sweep = item.get_closest_marker("sweep")
        every = sweep.kwargs.get("every", EVERY) if sweep else 1
        long = seen[test] % every or item.get_closest_marker("thorough")
        rows = "rest" if long else "short"
        (here if wanted in (rows, "all") else left).append(item)
        seen[test] += 1
    config.hook.pytest_deselected(items=left)
    items[:] = here


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look at it again.

    Hypothesis makes its generator with the first example, and asks the collector who
    holds it. The collector does not show what is frozen, so the first example is here.
    """
    hypothesis.find(hypothesis.strategies.none(), lambda _: True)
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a file compiles and caches is its own, and goes with it: it fills a worker.

    Where no program is the subject, neither its text nor its speed, the file says
    `QUICK = True`, and LLVM leaves out most of its optimisations. Where bits are, it
    says `QUICK = not AS_USERS`: `XLA_FLAGS=` asks for those of users' programs.
    """
    quick = getattr(request.module, "QUICK", False)
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    for thing in vars(request.module).values():
        if hasattr(thing, "cache_clear") and thing.__module__.startswith("tests."):
            thing.cache_clear()
    jax.clear_caches()
    gc.collect()
    if GIVE_BACK is not None:  # freed memory else counts as the worker's
        GIVE_BACK(0)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(20)
