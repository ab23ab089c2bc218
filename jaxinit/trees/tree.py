# SPDX-License-Identifier: Apache-2.0
"""Whole trees of parameters: drawn by rules over their paths.

A leaf's path, such as "params/block_0/query/kernel", joins keys, attributes and
indices, without the box that Flax may put around a leaf. The first rule that matches it
names the initializer. A parameter without a rule, and a rule without a parameter, are
mistakes that are told before anything is drawn.
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxinit import compat
from jaxinit.compile import jit_init
from jaxinit.core import checks as check
from jaxinit.network import Parameter
from jaxinit.trees.parts import Part
from jaxinit.trees.patterns import (
    Param,
    Pattern,
    Possible,
    Rules,
    Unplaced,
    nearest,
    read_rules,
    words,
)

CURE = "put rules for them before the recipe"
READ = "pass layers=jaxinit.read(model, batch), which needs no names, or "
# What a box calls the leaf in it: Flax's `Partitioned`, the variables of NNX.
BOXES = [jax.tree_util.GetAttrKey(name) for name in ("value", "raw_value")]


def init_tree(
    key: Any,
    tree: Any,
    rules: Rules,
    *,
    keep: Sequence[Pattern] = (),
    layers: Mapping[str, Parameter] | None = None,
) -> Any:
    """Draw every parameter of a tree by the first rule that its path matches.

    A parameter's key is folded from its path alone, `jax.random.fold_in` with the high
    and then the low half of the path's 64-bit blake2b hash: adding a layer changes no
    other parameter. (`per_param` may name another path, for two that must fit.) All are
    drawn by one `jit_init`. Counters, keys and other arrays that are not of floats are
    kept where no rule matches them.

    Args:
        key: one PRNG key, typed or legacy.
        tree: a pytree of arrays or `jax.ShapeDtypeStruct`, which give the shapes, the
            dtypes and the shardings; Flax boxes and NNX states go through.
        rules: pairs (pattern, value). A pattern is a glob, a compiled regular
            expression to search for, or a predicate of a `Param`. In a glob `*`, `?`
            and `[...]` stay within a segment and `**` is any number of segments; it
            matches from any segment on to the end, or, with a leading "/", from the
            root. A value is an initializer or `per_param`.
        keep: patterns of arrays that come back as they are.
        layers: what each parameter does, from `jaxinit.read`: a family that takes
            `fans` and was given none has the parameter's (`orthogonal` is then
            orthogonal from its inputs to its outputs), a stack is drawn slice by slice
            and a fused kernel part by part. A parameter whose use is not known is
            asked a rule that needs no fans.

    Raises:
        TypeError, ValueError: for parameters that no rule matches, rules without a
            parameter, and, by path, what an initializer or a sharding refuses.

    Example:
        >>> import jax, jaxinit
        >>> layer = {"kernel": jax.numpy.zeros((64, 64)), "bias": jax.numpy.zeros(64)}
        >>> rules = [("bias", jaxinit.zeros), ("*/kernel", jaxinit.orthogonal())]
        >>> tree = jaxinit.init_tree(jax.random.key(0), {"a": layer, "b": layer}, rules)
        >>> w = tree["b"]["kernel"]
        >>> bool(jax.numpy.allclose(w @ w.T, jax.numpy.eye(64), atol=1e-5))
        True
    """
    with check.speaker("init_tree"):
        key = check.key(key)
        plan, structure = plan_of(tree, rules, keep, layers)
        drawn = [leaf for leaf in plan if leaf.init is not None]
        draw = jit_init(
            lambda k: _draw(k, drawn),
            out_shardings=[leaf.param.sharding for leaf in drawn],
        )
        arrays = iter(draw(key) if drawn else ())
        leaves = [leaf.value if leaf.init is None else next(arrays) for leaf in plan]
    return jax.tree.unflatten(structure, leaves)


def _draw(key: Any, leaves: Sequence["Leaf"]) -> list[jax.Array]:
    """The arrays of leaves; what several are parts of is drawn once."""
    wholes: dict[Any, Any] = {}
    arrays = []
    for leaf in leaves:
        if isinstance(leaf.init, Part):
            with check.speaker(leaf.param.path):
                whole = leaf.init.whole(leaf.param.shape, leaf.param.dtype)
            if (leaf.source, whole) not in wholes:
                wholes[leaf.source, whole] = whole(leaf.key(key))
            arrays.append(leaf.draw(None, wholes[leaf.source, whole]))
        else:
            arrays.append(leaf.draw(leaf.key(key)))
    return arrays


# --- leaves ---------------------------------------------------------------------------


class Leaf(NamedTuple):
    """A leaf, its initializer, None where it is kept, and the path of its key.

    `rule` are the words of the rule, `fans` is where its fans come from.
    """

    param: Param
    value: Any
    init: Any = None
    source: str = ""
    rule: str | None = None
    fans: str | None = None

    @property
    def is_float(self) -> bool:
        """Whether the entries are real or complex numbers."""
        return bool(jnp.issubdtype(self.param.dtype, jnp.inexact))

    @property
    def is_array(self) -> bool:
        """Whether there are entries; a `jax.ShapeDtypeStruct` has none."""
        return isinstance(self.value, check.ARRAYS)

    def key(self, key: Any) -> Any:
        """The key of its source."""
        digest = hashlib.blake2b(self.source.encode(), digest_size=8).digest()
        for half in np.frombuffer(digest, ">u4").astype(np.uint32):
            key = jax.random.fold_in(key, half)
        return key

    def draw(self, key: Any, whole: Any = None) -> jax.Array:
        """The array of the initializer, or its part of a whole, checked."""
        path, shape, dtype = self.param.path, self.param.shape, self.param.dtype
        cure = "" if self.is_float else f" (of {dtype}; keep= leaves it as it is)"
        with check.speaker(f"{path}{cure}"):
            array = jnp.asarray(
                self.init(key, shape, dtype)
                if whole is None
                else self.init.part(whole, shape, dtype)
            )
            wanted = jax.dtypes.canonicalize_dtype(dtype)
            if (array.shape, array.dtype) != (shape, wanted):
                raise ValueError(
                    f"{words(self.init)} returned {array.dtype.name} of shape "
                    f"{array.shape} for {wanted.name} of shape {shape}"
                )
        return array


def leaves_of(tree: Any, layers: Mapping[str, Parameter]) -> tuple[list[Leaf], Any]:
    """The leaves in order, without initializers as yet."""
    flat, structure = jax.tree.flatten_with_path(tree)
    places = [place for place, _ in flat]
    params: dict[str, Param] = {}
    structs: dict[str, jax.ShapeDtypeStruct] = {}
    families: dict[str, dict[str, jax.ShapeDtypeStruct]] = {}
    known: dict[str, dict[str, Parameter]] = {}
    for path, layer in layers.items():
        parent, _, name = path.rpartition("/")
        known.setdefault(parent, {})[name] = layer
    neighbours = zip(flat, ((), *places), (*places[1:], ()), strict=False)
    for (place, value), before, after in neighbours:
        above, n = place[:-1], len(place) - 1
        # a box holds nothing else: no neighbour has the same parent
        boxed = above and place[-1] in BOXES and above not in (before[:n], after[:n])
        keys = above if boxed else place
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if not isinstance(value, (*check.ARRAYS, jax.ShapeDtypeStruct)):
            raise TypeError(
                f"{path} must be an array or a jax.ShapeDtypeStruct, got {value!r}"
            )
        if path in params:
            raise ValueError(f"two leaves have the path {path}; rename one")
        sharding = _sharding(value)
        if sharding is not None:
            with check.speaker(f"{path} of shape {value.shape} as {sharding}"):
                sharding.shard_shape(value.shape)
        parent, _, name = path.rpartition("/")
        struct = jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
        family = families.setdefault(parent, {})
        family[name] = structs[path] = struct
        near = family, known.get(parent, {}), structs, layers
        params[path] = Param(path, value.shape, value.dtype, sharding, *near)
    if missing := [path for path in layers if path not in params]:
        close = difflib.get_close_matches(missing[0], params, 1, 0.0)
        raise ValueError(
            f"layers has {', '.join(missing[:3])}, and the tree has no such path; the "
            f"nearest is {close[0] if close else 'none'}"
        )
    return list(map(Leaf, params.values(), (value for _, value in flat))), structure


def _sharding(value: Any) -> Any:
    """Where a shape, or an array that lies on a mesh, wants to be."""
    if check.is_traced(value):
        return None
    sharding = getattr(value, "sharding", None)
    if isinstance(value, jax.ShapeDtypeStruct):
        return sharding
    placed = isinstance(sharding, NamedSharding) and compat.is_committed(value)
    return sharding if placed else None


# --- the plan -------------------------------------------------------------------------


def plan_of(
    tree: Any, rules: Any, keep: Any, layers: Mapping[str, Parameter] | None = None
) -> tuple[list[Leaf], Any]:
    """The leaves with their initializers, and the tree's structure."""
    rules = read_rules(rules, keep)
    leaves, structure = leaves_of(tree, layers or {})
    chosen = [
        next((rule for rule in rules if rule.matches(leaf.param)), None)
        for leaf in leaves
    ]
    wrong = []
    for leaf, rule in zip(leaves, chosen, strict=True):
        path = leaf.param.path
        if rule is None and (leaf.is_float or not leaf.is_array):
            near = nearest([(each.pattern, path, each.who) for each in rules])
            wrong.append(f"no rule matches {path}{near}")
        elif rule is not None and rule.value is None and not leaf.is_array:
            wrong.append(f"{path} is a shape, and {rule.who} keeps arrays")
    for rule in rules:
        if rule not in chosen and not isinstance(rule.pattern, Possible):
            hits = [rule.matches(leaf.param) for leaf in leaves]
            winners = [each for each, hit in zip(chosen, hits, strict=True) if hit]
            takers = dict.fromkeys(each.who for each in winners if each is not None)
            paths = [leaf.param.path for leaf in leaves]
            near = nearest([(rule.pattern, path, path) for path in paths])
            wrong.append(
                f"{rule.who} is left nothing by {', '.join(takers)}"
                if takers
                else f"{rule.who} matches nothing{near}"
            )
    if wrong:
        raise ValueError("\n  ".join(wrong))
    plan: list[Leaf] = []
    lost: dict[str, list[str]] = {}
    for leaf, rule in zip(leaves, chosen, strict=True):
        if rule is None:
            plan.append(leaf)
            continue
        try:
            line, source = rule.line(leaf.param), rule.source(leaf.param)
        except Unplaced as error:
            lost.setdefault(error.recipe, []).append(error.line)
        else:
            plan.append(Leaf(leaf.param, leaf.value, line.init, source, *line[1:]))
    for recipe, lines in lost.items():
        cure = CURE if layers else READ + CURE
        raise ValueError("\n  ".join((f"{recipe} has no law for", *lines, cure)))
    return plan, structure
