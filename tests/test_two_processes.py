# SPDX-License-Identifier: Apache-2.0
"""Two processes that work together draw and check what one process does."""

import hashlib
import json
import pathlib
import socket
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from tests.helpers import fresh
from tests.laws.test_law5_devices import SAMPLING, SHAPE, sharding

TEXTS = [repr(init) for init in SAMPLING if init.name != "stacked"]

# Prints what each test looks at, by its name.
TOGETHER = """
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

drawn = {}
for text in json.loads(sys.argv[3]):
    init = eval(text, vars(jaxinit))
    drawn[text] = digests(init(jax.random.key(20), (64, 128), None, where))

def init(key):
    return [
        jaxinit.he_normal()(jax.random.fold_in(key, i), (64, 32 * (1 + i % 2)))
        for i in range(6)
    ]

arrays = jaxinit.jit_init(init, out_shardings=where)(jax.random.key(20))

shapes = {name: jax.ShapeDtypeStruct((16, 32), "float32", sharding=where)
          for name in ("w", "copy", "ones", "eye")}
rules = [("[wc]*", jaxinit.he_normal()), ("ones", jaxinit.ones),
         ("eye", jaxinit.identity())]
tree = jaxinit.init_tree(jax.random.key(20), shapes, rules)
assert not tree["w"].is_fully_addressable
report = jaxinit.check_tree(tree, rules)
assert report.ok, report.problems
stds = [row.measured_std for row in report.rows]
tree = {**tree, "copy": tree["w"] + 0, "ones": tree["ones"] + tree["eye"]}
print(json.dumps({
    "drawn": drawn,
    "jit_init": [digests(array) for array in arrays],
    "stds": stds,
    "problems": jaxinit.check_tree(tree, rules).problems,
}))
"""


@pytest.fixture(scope="module")
def processes() -> list[dict[str, Any]]:
    """What each of the two found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, address, str(i), json.dumps(TEXTS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=pathlib.Path(jaxinit.__file__).parent.parent,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def shards(array: jax.Array) -> dict[str, str]:
    """The digests of the parts of an array, were it laid out over both processes."""
    whole = np.asarray(array)
    return {
        str(index): hashlib.sha256(whole[index].tobytes()).hexdigest()
        for index in sharding("4x2").devices_indices_map(whole.shape).values()
    }


@pytest.mark.parametrize("text", TEXTS)
def test_two_processes_draw_what_one_does(text, processes, key):
    halves = [process["drawn"][text] for process in processes]
    assert {**halves[0], **halves[1]} == shards(eval(text, vars(jaxinit))(key, SHAPE))
    assert [len(half) for half in halves] == [4, 4]


@pytest.mark.parametrize("i", range(6))
def test_two_processes_have_the_arrays_of_jit_init(i, processes, key):
    halves = [process["jit_init"][i] for process in processes]
    shape = (64, 32 * (1 + i % 2))
    plain = jaxinit.he_normal()(jax.random.fold_in(key, i), shape)
    assert {**halves[0], **halves[1]} == shards(plain)
    assert [len(half) for half in halves] == [4, 4]


def test_the_digests_tell_another_draw(key):
    one, other = (shards(jaxinit.normal()(k, SHAPE)) for k in jax.random.split(key))
    assert one.keys() == other.keys() and not set(one.values()) & set(other.values())


def test_arrays_over_both_processes_are_checked(processes, key):
    shape = jax.ShapeDtypeStruct((16, 32), jnp.float32)
    tree = dict.fromkeys(("w", "copy", "ones", "eye"), shape)
    rules = [
        ("[wc]*", jaxinit.he_normal()),
        ("ones", jaxinit.ones),
        ("eye", jaxinit.identity()),
    ]
    drawn = jaxinit.init_tree(fresh(key), tree, rules)
    report = jaxinit.check_tree(drawn, rules)
    wanted = np.array([row.measured_std for row in report.rows])
    for process in processes:
        # A sum over shards rounds otherwise; one too few moves a deviation by 1/16.
        np.testing.assert_allclose(process["stds"], wanted, rtol=1e-6)
        assert process["problems"] == [
            "ones: 16 of 512 entries are not those of constant(1)",
            "w: the entries are those of copy",
        ]
