# SPDX-License-Identifier: Apache-2.0
"""Whole trees: which rule takes which path, what is drawn there, what a check finds."""

# mypy: disable-error-code="arg-type, misc, operator, return-value"

import dataclasses
import hashlib
import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import jaxinit
from jaxinit import Param, check_tree, describe_tree, init_tree, per_param
from tests.helpers import bits, fresh

QUICK = True  # see conftest.py

RULES = [
    ("embed/table", jaxinit.normal(0.02)),
    ("block_*/kernel", jaxinit.he_normal()),
    ("kernel", jaxinit.lecun_normal()),
    ("bias", jaxinit.zeros),
]


def struct(*shape: int, dtype: str = "float32", **kwargs) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), **kwargs)


def layer(*shape: int):
    return {"kernel": struct(*shape), "bias": struct(shape[-1])}


def model(blocks: int = 2):
    return {
        "embed": {"table": struct(100, 32)},
        **{f"block_{i}": layer(32, 32) for i in range(blocks)},
        "head": layer(32, 10),
    }


def takers(tree, rules, **kwargs) -> dict[str, str]:
    rows = describe_tree(tree, rules, **kwargs).rows
    return {row.path: row.initializer for row in rows}


def folded(key: jax.Array, path: str) -> jax.Array:
    """The key of a path, by the words of the documentation."""
    hashed = hashlib.blake2b(path.encode(), digest_size=8).hexdigest()
    high, low = np.uint32(int(hashed[:8], 16)), np.uint32(int(hashed[8:], 16))
    return jax.random.fold_in(jax.random.fold_in(key, high), low)


# --- patterns -------------------------------------------------------------------------

PATH = "params/block_0/attn/query/kernel"
GLOBS = [
    ("kernel", True),
    ("query/kernel", True),
    ("attn/*/kernel", True),
    ("block_*/**", True),
    ("block_?/**/kernel", True),
    ("block_[0-3]/**", True),
    ("block_[!0]/**", False),
    ("**", True),
    ("*", True),
    ("/**", True),
    ("/params/**/kernel", True),
    ("params/**/block_0/**", True),
    ("/**/query/**/kernel", True),
    (PATH + "/**", True),
    ("/" + PATH, True),
    ("/kernel", False),
    ("/block_0/**", False),
    ("query", False),
    ("ernel", False),
    ("kern", False),
    ("Kernel", False),
    ("attn/kernel", False),
    ("params/*/kernel", False),
    ("attn*kernel", False),
    ("/*", False),
    ("", False),
    ("kernel/", False),
]


@pytest.mark.parametrize(("pattern", "matches"), GLOBS)
def test_globs(pattern, matches):
    tree = {"params": {"block_0": {"attn": {"query": {"kernel": struct(2, 3)}}}}}
    if not matches:
        with pytest.raises(ValueError, match="matches nothing"):
            describe_tree(tree, [(pattern, jaxinit.zeros), ("**", jaxinit.ones)])
    else:
        assert takers(tree, [(pattern, jaxinit.ones)]) == {PATH: repr(jaxinit.ones)}


def test_regular_expressions_predicates_and_mappings():
    rules = {
        re.compile(r"block_\d+/"): jaxinit.normal(),
        (lambda param: len(param.shape) == 1): jaxinit.zeros,
        (lambda param: param.name == "table"): jaxinit.ones,
        "**": jaxinit.lecun_normal(),
    }
    found = takers(model(), rules)
    assert found["block_1/bias"] == found["block_0/kernel"] == repr(jaxinit.normal())
    assert found["head/bias"] == repr(jaxinit.zeros)
    assert found["embed/table"] == repr(jaxinit.ones)
    assert found["head/kernel"] == repr(jaxinit.lecun_normal())


def test_the_first_match_wins():
    found = takers(model(), RULES)
    assert found["block_0/kernel"] == repr(jaxinit.he_normal())
    assert found["head/kernel"] == repr(jaxinit.lecun_normal())
    everywhere = [("head/kernel", jaxinit.ones), ("**", jaxinit.zeros)]
    assert list(takers(model(), everywhere).values()).count(repr(jaxinit.ones)) == 1


@dataclasses.dataclass
class Point:
    value: jax.ShapeDtypeStruct
    key: jax.ShapeDtypeStruct


jax.tree_util.register_dataclass(Point, ["value", "key"], [])


def test_paths_of_dicts_sequences_and_attributes():
    tree = {"a": [struct(2), (struct(3),)], "p": Point(struct(4), struct(5))}
    paths = ["a/0", "a/1/0", "p/value", "p/key"]  # the value is in no box: it has a key
    assert list(takers(tree, {"**": jaxinit.zeros})) == paths
    assert list(takers(struct(3), {"**": jaxinit.zeros})) == [""]
    assert list(takers({7: struct(3)}, {"7": jaxinit.zeros})) == ["7"]


# --- what is drawn --------------------------------------------------------------------


def test_each_parameter_is_drawn_by_the_key_of_its_path(key):
    tree = init_tree(fresh(key), model(), RULES)
    kernel = jaxinit.he_normal()(folded(key, "block_1/kernel"), (32, 32), "float32")
    assert bits(tree["block_1"]["kernel"]) == bits(kernel)
    assert bits(tree["block_0"]["kernel"]) != bits(kernel)
    assert not tree["head"]["bias"].any()
    chex.assert_trees_all_equal_shapes_and_dtypes(tree, model())


def test_another_layer_changes_no_other_parameter(key):
    few = init_tree(fresh(key), model(2), RULES)
    many = init_tree(fresh(key), model(5), RULES)
    chex.assert_trees_all_equal({name: many[name] for name in few}, few)


def test_legacy_keys_tracers_and_vmap(key):
    words = jax.random.key_data(fresh(key))
    tree = init_tree(fresh(key), model(), RULES)
    chex.assert_trees_all_equal(init_tree(words, model(), RULES), tree)
    jitted = jax.jit(lambda k: init_tree(k, model(), RULES))(fresh(key))
    chex.assert_trees_all_equal(jitted, tree)
    many = jax.vmap(lambda k: init_tree(k, model(), RULES))(fresh(key)[None])
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[0], many), tree)
    again = jax.jit(lambda k, like: init_tree(k, like, RULES))(fresh(key), tree)
    chex.assert_trees_all_equal(again, tree)


def test_dtypes_and_callables_of_others(key):
    theirs = jax.nn.initializers.he_normal()
    tree = {"a": struct(8, 8, dtype="bfloat16"), "b": struct(8, 8), "e": struct(0, 3)}
    rules = [("a", jaxinit.he_normal()), ("b", theirs), ("e", jaxinit.he_normal())]
    got = init_tree(fresh(key), tree, rules)
    assert got["a"].dtype == jnp.bfloat16 and got["e"].shape == (0, 3)
    by_hand = jax.jit(lambda k: theirs(k, (8, 8), jnp.float32))(folded(key, "b"))
    assert bits(got["b"]) == bits(by_hand)


def test_what_is_kept(key):
    table, step = jnp.arange(6.0).reshape(2, 3), jnp.zeros((), "int32")
    tree = {
        "kernel": struct(4, 4),
        "table": table,
        "step": step,
        "rng": fresh(key),
        "numpy": np.arange(3),
    }
    rules = [("kernel", jaxinit.orthogonal())]
    got = init_tree(fresh(key), tree, rules, keep=["table"])
    assert got["table"] is table and got["step"] is step
    assert got["rng"] is tree["rng"] and got["numpy"] is tree["numpy"]
    found = takers(tree, rules, keep=["table"])
    assert [path for path, init in found.items() if init != "kept"] == ["kernel"]
    counted = init_tree(fresh(key), tree, [*rules, ("step", jaxinit.ones)], keep=["t*"])
    assert counted["step"].dtype == jnp.int32 and int(counted["step"]) == 1
    assert init_tree(key, {"step": step}, ())["step"] is step


def torch_bias(param: Param):
    return jaxinit.torch_bias(param.siblings["kernel"].shape[0])


def test_a_rule_may_depend_on_the_parameter(key):
    rules = [("kernel", jaxinit.torch_linear()), ("bias", per_param(torch_bias))]
    tree = {"a": layer(400, 1000), "b": layer(25, 1000)}
    got = init_tree(fresh(key), tree, rules)
    for name, bound in (("a", 1 / 20), ("b", 1 / 5)):
        assert 0.9 * bound < float(abs(got[name]["bias"]).max()) <= bound
    bias = jaxinit.torch_bias(25)(folded(key, "b/bias"), (1000,))
    assert bits(got["b"]["bias"]) == bits(bias)
    assert repr(per_param(torch_bias)) == "per_param(torch_bias)"
    assert per_param(torch_bias) == per_param(torch_bias)


def test_a_parameter_knows_its_siblings():
    seen: list[Param] = []

    def every(param: Param) -> bool:
        seen.append(param)
        return True

    rules = [(every, jaxinit.zeros)]
    describe_tree({"a": layer(4, 3), "b": struct(2)}, rules)
    bias, _, b = seen
    assert (bias.path, bias.name, bias.shape) == ("a/bias", "bias", (3,))
    assert bias.dtype == jnp.float32 and bias.sharding is None
    assert bias.siblings["kernel"].shape == (4, 3) and "bias" in bias.siblings
    assert set(b.siblings) == {"b"}


def test_stacked_layers_are_drawn_slice_by_slice(key):
    rules = [("kernel", jaxinit.stacked(jaxinit.orthogonal()))]
    w = init_tree(key, {"kernel": struct(6, 16, 16)}, rules)["kernel"]
    eye = np.broadcast_to(np.eye(16), (6, 16, 16))
    chex.assert_trees_all_close(w @ w.transpose(0, 2, 1), eye, atol=1e-5)


# --- shardings ------------------------------------------------------------------------


def sharded(tree):
    """Kernels in rows over the mesh, the rest wherever they fall."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("d"))
    return rows, jax.tree.map(
        lambda s: struct(*s.shape, sharding=rows) if len(s.shape) > 1 else s, tree
    )


def test_shardings_are_honoured_and_change_no_bit(key):
    plain = {"a": layer(64, 32), "b": layer(64, 32)}
    rows, tree = sharded(plain)
    got = init_tree(fresh(key), tree, RULES[2:])
    chex.assert_trees_all_equal(got, init_tree(fresh(key), plain, RULES[2:]))
    assert got["a"]["kernel"].sharding.is_equivalent_to(rows, 2)
    assert got["a"]["kernel"].addressable_shards[0].data.shape == (8, 32)
    again = init_tree(fresh(key), got, RULES[2:])  # from arrays that lie so
    assert again["b"]["kernel"].sharding.is_equivalent_to(rows, 2)
    assert check_tree(got, RULES[2:]).ok
    jitted = jax.jit(lambda k: init_tree(k, tree, RULES[2:]))(fresh(key))
    assert jitted["a"]["kernel"].sharding.is_equivalent_to(rows, 2)


def test_a_mesh_of_explicit_axes(key):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = NamedSharding(mesh, PartitionSpec("d"))
    tree = {"a": {"kernel": struct(64, 32, sharding=rows)}}
    got = init_tree(fresh(key), tree, RULES[2:3])
    assert got["a"]["kernel"].sharding.is_equivalent_to(rows, 2)
    plain = {"a": {"kernel": struct(64, 32)}}
    chex.assert_trees_all_equal(got, init_tree(fresh(key), plain, RULES[2:3]))


def test_a_sharding_that_does_not_divide_is_told_by_path(key):
    _, tree = sharded({"a": layer(12, 32)})
    with pytest.raises(ValueError, match=r"init_tree: a/kernel of shape .12, 32. as N"):
        init_tree(key, tree, RULES[2:])


# --- boxes ----------------------------------------------------------------------------


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        x = nn.Dense(8, kernel_init=nn.with_partitioning(init, ("in", "out")))(x)
        return nn.Dense(
            4, kernel_init=nn.with_logical_partitioning(init, ("in", "out"))
        )(x)


def test_boxes_of_linen_go_through(key):
    boxed = jax.eval_shape(Boxed().init, fresh(key), jnp.ones((1, 8)))
    rules = [("kernel", jaxinit.orthogonal()), ("bias", jaxinit.zeros)]
    paths = [f"params/Dense_{i}/{name}" for i in (0, 1) for name in ("bias", "kernel")]
    assert list(takers(boxed, rules)) == paths
    got = init_tree(fresh(key), boxed, rules)
    assert isinstance(got["params"]["Dense_0"]["kernel"], nn.Partitioned)
    chex.assert_trees_all_equal_structs(got, boxed)
    plain = init_tree(fresh(key), nn.meta.unbox(boxed), rules)
    chex.assert_trees_all_equal(nn.meta.unbox(got), plain)


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs) for _ in range(2)])
        self.value = nnx.Linear(8, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def test_a_state_of_nnx_goes_through(key):
    net = Net(nnx.Rngs(0))
    graph, state = nnx.split(net)
    rules = [("kernel", jaxinit.orthogonal()), ("bias", jaxinit.ones)]
    assert "layers/1/kernel" in takers(state, rules)
    assert "value/kernel" in takers(state, rules)
    got = init_tree(fresh(key), state, rules)
    new = nnx.merge(graph, got)
    draw = jaxinit.orthogonal()(folded(key, "value/kernel"), (8, 8))
    chex.assert_trees_all_close(new.value.kernel[...], draw, atol=1e-6)
    assert (new.layers[0].bias[...] == 1).all()
    abstract = nnx.eval_shape(lambda: nnx.state(Net(nnx.Rngs(0)), nnx.Param))
    params = init_tree(fresh(key), abstract, rules)
    chex.assert_trees_all_equal(
        nnx.to_pure_dict(params), nnx.to_pure_dict(nnx.state(new, nnx.Param))
    )


# --- mistakes -------------------------------------------------------------------------

KERNEL = {"a": {"kernel": struct(4, 4), "bais": struct(4)}}
MISTAKES = [
    (
        KERNEL,
        [("kernel", jaxinit.zeros), ("bias", jaxinit.zeros)],
        "no rule matches a/bais; the nearest is rule 1 ('bias')",
    ),
    (
        KERNEL,
        [("*", jaxinit.zeros), ("/a/kernal", jaxinit.zeros)],
        "rule 1 ('/a/kernal') matches nothing; the nearest is a/kernel",
    ),
    (
        KERNEL,
        [("a/*", jaxinit.zeros), ("b*", jaxinit.zeros), ("kernel", jaxinit.ones)],
        "rule 2 ('kernel') is left nothing by rule 0 ('a/*')",
    ),
    (
        KERNEL,
        [("a/*", jaxinit.zeros), (re.compile("xx"), jaxinit.zeros)],
        "rule 1 (re.compile('xx')) matches nothing",
    ),
    (
        {"step": struct(dtype="int32"), "a": struct(2)},
        [("a", jaxinit.zeros)],
        "no rule matches step",
    ),
    (
        {"a/b": struct(2), "a": {"b": struct(2)}},
        [("**", jaxinit.zeros)],
        "two leaves have the path a/b",
    ),
    (
        {"conv": struct(3)},
        [("conv", jaxinit.orthogonal())],
        "conv: orthogonal() for shape (3,): the shape must have at least 2 axes",
    ),
    (
        {"a": struct(3, dtype="float8_e4m3fn")},
        [("a", jaxinit.normal(1e4))],
        "a: normal(10000.0) for shape (3,): dtype float8_e4m3fn holds",
    ),
    (
        {"a": struct(3, 4)},
        [("a", lambda key, shape, dtype: jnp.zeros(shape[::-1], dtype))],
        "returned float32 of shape (4, 3) for float32 of shape (3, 4)",
    ),
    (
        {"a": struct(3), "x": struct(2)},
        [("a", per_param(lambda param: param.shape[1])), ("x", jaxinit.zeros)],
        "a: rule 0 ('a'): tuple index out of range",
    ),
]


@pytest.mark.parametrize(
    "use", [init_tree, describe_tree], ids=lambda use: use.__name__
)
@pytest.mark.parametrize(("tree", "rules", "words"), MISTAKES, ids=lambda x: "")
def test_mistakes_are_told_in_words(key, use, tree, rules, words):
    args = (key, tree, rules) if use is init_tree else (tree, rules)
    with pytest.raises((ValueError, IndexError), match=re.escape(words)) as caught:
        use(*args)
    assert str(caught.value).startswith(f"{use.__name__}: ")


def test_all_mistakes_are_told_at_once(key):
    rules = [("kernal", jaxinit.zeros), ("bias", jaxinit.zeros)]
    with pytest.raises(ValueError, match="no rule matches") as caught:
        init_tree(key, {f"l{i}": layer(2, 2) for i in range(3)}, rules, keep=["tabel"])
    text = str(caught.value)
    assert all(f"no rule matches l{i}/kernel; the nearest is" in text for i in range(3))
    assert "rule 0 ('kernal') matches nothing; the nearest is l0/kernel" in text
    assert "keep[0] ('tabel') matches nothing" in text and "rule 1" not in text


WRONG_KINDS = [
    ([("kernel", jaxinit.he_normal)], (), "rule 0: the value must be an initializer"),
    ([("*", jaxinit.ones), ("b", "zeros")], (), "rule 1: the value must be"),
    ([("kernel", nn.Dense)], (), "rule 0: the value must be an initializer"),
    ([("kernel",)], (), "rule 0 must be a pair (pattern, value), got ('kernel',)"),
    (["kernel"], (), "rule 0 must be a pair (pattern, value), got 'kernel'"),
    ([(3, jaxinit.ones)], (), "rule 0: the pattern must be a glob, a compiled regular"),
    ("kernel", (), "rules must be a sequence, got 'kernel'"),
    (jaxinit.ones, (), "rules must be a sequence"),
    ([("**", jaxinit.ones)], "bias", "keep must be a sequence, got 'bias'"),
    ([("**", jaxinit.ones)], [3], "keep[0]: the pattern must be a glob"),
    (
        [("**", per_param(lambda param: jaxinit.he_normal))],
        (),
        "returns must be an initializer, got the factory he_normal; call it",
    ),
]


@pytest.mark.parametrize(("rules", "keep", "words"), WRONG_KINDS, ids=lambda x: "")
def test_wrong_kinds(key, rules, keep, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        init_tree(key, {"kernel": jnp.zeros((2, 2))}, rules, keep=keep)


def test_wrong_leaves_and_keys(key):
    ones = [("**", jaxinit.ones)]
    with pytest.raises(TypeError, match=r"init_tree: a must be an array or a jax\.S"):
        init_tree(key, {"a": jnp.tanh}, ones)
    with pytest.raises(ValueError, match=r"a is a shape, and keep.0. .'a'. keeps"):
        init_tree(key, {"a": struct(2), "b": struct(2)}, ones, keep=["a"])
    with pytest.raises(TypeError, match="init_tree: key must be a JAX PRNG key, got 3"):
        init_tree(3, {"a": struct(2)}, ones)
    with pytest.raises(
        TypeError, match=r"step .of int32; keep= leaves it as it is.: no"
    ):
        init_tree(key, {"step": jnp.zeros(3, "int32")}, [("*", jaxinit.normal())])
    with pytest.raises(TypeError, match="check_tree: a must be an array with values"):
        check_tree({"a": struct(2)}, ones)
    for wrong in (jaxinit.ones, 3):
        with pytest.raises(TypeError, match="per_param: fn must be a function of a Pa"):
            per_param(wrong)


# --- tables ---------------------------------------------------------------------------


def test_the_description():
    tree = {**model(1), "step": jnp.zeros((), "int32")}
    table = describe_tree(tree, RULES)
    rows = {row.path: row for row in table.rows}
    kernel = rows["head/kernel"]
    assert (kernel.shape, kernel.dtype) == ((32, 10), "float32")
    assert kernel.initializer == repr(jaxinit.lecun_normal())
    assert (kernel.fan_in, kernel.fan_out, kernel.std) == (32, 10, 32**-0.5)
    assert (kernel.parameters, kernel.bytes) == (320, 1280)
    assert rows["head/bias"].std == 0 and rows["head/bias"].fan_in is None
    assert rows["step"].initializer == "kept" and rows["step"].std is None
    assert table.ok and kernel.z_std is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.rows = ()


def test_the_fans_of_the_layer_are_those_described():
    fans = jaxinit.Fans.conv_local(2)  # cannot tell fan_out
    (row,) = describe_tree(
        struct(5, 5, 27, 8), {"**": jaxinit.he_normal(fans=fans)}
    ).rows
    assert (row.fan_in, row.fan_out) == (27, None)
    theirs = {"**": jax.nn.initializers.he_normal()}
    (row,) = describe_tree(struct(5, 5), theirs).rows
    assert row.std is None and row.fan_in is None


def test_the_text_of_a_table():
    tree = {"kernel": struct(1024, 2048), "bias": struct(2048)}
    lines = str(describe_tree(tree, RULES[2:])).splitlines()
    heads = ["initializer", "rule", "fans", "fan in", "fan out"]
    assert re.split("  +", lines[0])[3:8] == heads
    assert "1024×2048" in lines[2] and "2.097M" in lines[2] and "8.389M" in lines[2]
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3:] == [
        "2 leaves, 2.099M parameters, 8.008 MiB",
        "the fans of 1 are guessed, as of dense kernels; layers=jaxinit.read(model, "
        "...) reads them",
    ]
    assert str(describe_tree({}, ())) == "0 leaves, 0 parameters, 0 MiB"


# --- checks ---------------------------------------------------------------------------

MANY = {
    "normal": jaxinit.normal(0.1, mean=1.0),
    "he": jaxinit.he_normal(),
    "uniform": jaxinit.uniform_between(-1.0, 3.0),
    "trunc": jaxinit.trunc_normal(0.5, 1.0, 0.0, 1.0),
    "orthogonal": jaxinit.orthogonal(),
    "delta": jaxinit.delta_orthogonal(),
    "sparse": jaxinit.sparse(0.9),
    "stack": jaxinit.stacked(jaxinit.scaled(jaxinit.orthogonal(), 0.5)),
    "eye": jaxinit.identity(),
    "zero": jaxinit.scaled(jaxinit.he_normal(), 0.0),
    "constant": jaxinit.constant(0.1),
    "theirs": jax.nn.initializers.he_normal(),
}
SHAPES = {"delta": (3, 3, 16, 64), "stack": (8, 16, 16), "eye": (16, 16)}


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_what_the_rules_drew_passes(key, dtype):
    real = () if dtype != "complex64" else ("trunc", "theirs")
    kinds = [name for name in MANY if name not in real]
    tree = {name: struct(*SHAPES.get(name, (64, 96)), dtype=dtype) for name in kinds}
    rules = [(name, MANY[name]) for name in kinds]
    report = check_tree(init_tree(key, tree, rules), rules)
    assert report.ok, report.problems
    measured = {row.path: row for row in report.rows}
    assert (measured["he"].z_std is None) == (dtype == "complex64")
    assert measured["constant"].z_std is None and measured["constant"].measured_std == 0
    assert "theirs" in real or measured["theirs"].z_mean is None
    assert abs(measured["he"].measured_std / measured["he"].std - 1) < 0.05


@pytest.mark.sweep
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16])
def test_small_leaves_raise_no_false_alarm(key, size):
    inits = [jaxinit.normal(), jaxinit.uniform(), jaxinit.orthogonal()]
    tree = {f"{n}_{i}": struct(size, size) for i in range(50) for n in range(3)}
    rules = [(f"{n}_*", init) for n, init in enumerate(inits)]
    report = check_tree(init_tree(key, tree, rules), rules)
    assert report.ok, report.problems
    assert all((row.z_std is None) == (size == 1) for row in report.rows)


WIDE = [("w", jaxinit.normal(0.1)), ("u", jaxinit.uniform()), ("c", jaxinit.ones)]


def planted(key, name, change) -> tuple[str, ...]:
    shape = struct(100, 200)
    tree = init_tree(key, {"w": shape, "u": shape, "v/w": shape, "c": shape}, WIDE)
    assert check_tree(tree, WIDE).ok
    return check_tree({**tree, name: change(tree[name])}, WIDE).problems


FAULTS = [
    (
        "w",
        lambda w: w * 1.05,
        r"w: the standard deviation is 0\.1\d+, not 0\.1: z = \+",
    ),
    (
        "w",
        lambda w: w * 0.95,
        r"w: the standard deviation is 0\.09\d+, not 0\.1: z = -",
    ),
    ("w", lambda w: w + 0.005, r"w: the mean is 0\.00\d+, not 0: z = \+"),
    (
        "w",
        lambda w: w.at[3, 4].set(np.nan),
        "w: 1 of 20000 entries are NaN or infinite",
    ),
    ("w", lambda w: w.at[3].set(np.inf), "w: 200 of 20000 entries are NaN or inf"),
    ("w", lambda w: 0 * w + 0.1, r"w: all entries are 0\.1$"),
    ("w", lambda w: 0 * w, "w: all entries are 0$"),
    (
        "u",
        lambda u: u.at[0, 0].set(0.0101),
        r"u: entries reach from \S+ to 0\.0101, and",
    ),
    ("u", lambda u: u.at[0, 0].set(-1e-6), "u: entries reach from -1e-06 to"),
    (
        "c",
        lambda c: c.at[0, 0].set(1.5),
        "c: 1 of 20000 entries are not those of const",
    ),
    ("c", lambda c: c + np.nan, "c: 20000 of 20000 entries are NaN"),
]


@pytest.mark.parametrize(("name", "change", "words"), FAULTS, ids=lambda x: "")
def test_a_planted_fault_is_found(key, name, change, words):
    (problem,) = planted(key, name, change)
    assert re.match(words, problem)


def test_duplicates_are_found(key):
    tree = init_tree(key, {"a": layer(16, 16), "b": layer(16, 16)}, RULES[2:])
    tree["b"]["kernel"] = tree["a"]["kernel"] + 0
    report = check_tree(tree, RULES[2:])
    assert report.problems == ("b/kernel: the entries are those of a/kernel",)
    assert not report.ok and str(report).endswith(report.problems[0])
    tree["b"]["kernel"] = tree["a"]["kernel"][::-1]  # the same values, but elsewhere
    assert check_tree(tree, RULES[2:]).ok


def test_kept_leaves_must_be_finite(key):
    tree = {"mean": jnp.full(3, np.nan), "step": jnp.zeros((), "int32"), "rng": key}
    (problem,) = check_tree(tree, (), keep=["mean"]).problems
    assert problem == "mean: 3 of 3 entries are NaN or infinite"


def test_the_wrong_fan_is_found(key):
    tree = init_tree(key, {"kernel": struct(64, 80)}, {"*": jaxinit.lecun_normal()})
    wrong = {"*": jaxinit.variance_scaling(1.0, "fan_out", "truncated_normal")}
    report = check_tree(tree, wrong)
    assert report.rows[0].z_std > 5 and len(report.problems) in (1, 2)
