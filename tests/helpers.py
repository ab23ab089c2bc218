# SPDX-License-Identifier: Apache-2.0
"""What several laws' tests share: bits, and tolerances derived from sample sizes."""

import math
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np

import jaxinit

SIGMAS = 5.0  # a right answer fails one check in two million


def fresh(key: jax.Array) -> jax.Array:
    """The same key again, deliberately."""
    return jax.random.clone(key)


def bits(array: jax.Array) -> bytes:
    """An array's very bits."""
    return np.asarray(array).tobytes()


def z_of_mean(x: np.ndarray, mean: float, std: float) -> float:
    """How many standard errors the sample's mean is off."""
    return float((x.mean() - mean) / (std / math.sqrt(x.size)))


def z_of_variance(
    x: np.ndarray, mean: float, std: float, kurtosis: float = 3.0
) -> float:
    """How many standard errors the sample's variance is off, given E z⁴ of the law."""
    error = std**2 * math.sqrt((kurtosis - 1) / x.size)
    return float(((np.abs(x - mean) ** 2).mean() - std**2) / error)


JOINED = """
import hashlib, json, sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import numpy as np
import jaxinit
from jax.sharding import NamedSharding, PartitionSpec
mesh = jax.make_mesh((4, 2), ("x", "y"))
where = NamedSharding(mesh, PartitionSpec("x", "y"))

def digests(array):
    return {
        str(shard.index): hashlib.sha256(np.asarray(shard.data).tobytes()).hexdigest()
        for shard in array.addressable_shards
    }
"""


def in_two_processes(script: str, *args: str) -> list[str]:
    """The last line that a script prints in each of two processes that work together.

    It has the names of `JOINED`. Its arguments are the address to join at, the number
    of the process, and `args`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    root = pathlib.Path(jaxinit.__file__).parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOINED + script, address, str(i), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output.splitlines()[-1] for output, _ in outputs]
