# SPDX-License-Identifier: Apache-2.0
"""`read`: a network's parameters, told from its computation."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxinit.core import checks as check
from jaxinit.network.network import Network
from jaxinit.network.parameters import parameters
from jaxinit.network.passes import Pass, pass_of
from jaxinit.network.paths import Graph
from jaxinit.network.reader import Reader

__all__ = ["read"]


def read(model: Any, *args: Any, **kwargs: Any) -> Network:
    """What each parameter of a network does, read from the computation itself.

    The shape of a kernel does not tell its fans, and neither does its layer's class:
    kernels are transposed, grouped, stacked, fused, tied. The computation tells. The
    pass is traced, and each parameter followed through whatever only moves its entries
    to the equation that uses them: a contraction has inputs and outputs, a look-up
    rows, an addition makes a bias. It works for any function of parameters, and runs
    nothing.

    A kernel's fan_in is the number of its entries that meet in an output, its fan_out
    that of the outputs that an input reaches, on average where strides or dilations
    leave some out; stacked copies and fused parts are counted one by one.

    Args:
        model: a Flax Linen module, an NNX module, or any function of (params, *args):
            Haiku's `apply`, a function that combines an Equinox model, plain JAX.
        *args: for Linen, the variables and then what the module takes; for NNX, what
            the module takes; for a function, the parameters and then the rest. Shapes
            (`jax.ShapeDtypeStruct`) will do for arrays.
        **kwargs: keyword arguments of the pass, such as `rngs` or `train=True`.

    Returns:
        A `Network`: a `Parameter` for each path, in order of execution. It prints as a
        table, and `init_tree`, `describe_tree` and `check_tree` take it as `layers`.

    Raises:
        TypeError: for a class in place of a model, a Linen module without variables,
            leaves that are no arrays.
        What the model itself raises where it cannot be traced on such a batch; a note
            says so, and names the parameters that were at hand there.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> def heads(params, x):
        ...     y = jax.nn.relu(jnp.einsum("btd,dhk->bthk", x, params["up"]))
        ...     return jnp.einsum("bthk,hkd->btd", y, params["down"])
        >>> def shape(*sizes):
        ...     return jax.ShapeDtypeStruct(sizes, "float32")
        >>> params = {"up": shape(64, 8, 16), "down": shape(8, 16, 64)}
        >>> network = jaxinit.read(heads, params, shape(2, 5, 64))
        >>> network["up"].fan_in, network["down"].fan_in, network["down"].after.name
        (64, 128, 'relu')

    References:
        The fans are those of He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015,
        arXiv:1502.01852, section 2.2; that of layers whose kernels are read from their
        equations, Eschenhagen et al., "Kronecker-factored approximate curvature for
        modern neural network architectures", 2023, arXiv:2311.00636.
    """
    with check.speaker("read"):
        given = pass_of(model, args, kwargs)
    trace = _trace(given)
    chosen = [i for i in range(len(given.leaves)) if i not in given.fixed]
    paths = [given.paths[i] for i in chosen]
    shapes = [given.leaves[i].shape for i in chosen]
    graph = Graph(Reader(trace, given.kinds))
    return Network(parameters(graph, paths, shapes), graph)


def _trace(given: Pass) -> Any:
    """The trace of a pass; what it raises has a note."""
    seen: list[Any] = []

    def run(leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
        seen[:] = leaves
        return given.run(leaves, arrays)

    try:
        return jax.make_jaxpr(run)(given.leaves, given.arrays)
    except Exception as error:
        batch = ", ".join(str(tuple(x.shape)) for x in given.arrays)
        at = [given.paths[i] for i in _at_hand(error, seen)]
        near = f", at {', '.join(at)}" if at else ""
        error.add_note(
            f"jaxinit.read: while tracing {given.who} on arrays of shapes "
            f"{batch or '()'}{near}"
        )
        raise


def _at_hand(error: Exception, arrays: Sequence[Any]) -> list[int]:
    """Which of the arrays have a name in the innermost frame in which any has."""
    found: list[int] = []
    traceback = error.__traceback__
    while traceback is not None:
        named = {id(value) for value in traceback.tb_frame.f_locals.values()}
        here = [i for i, array in enumerate(arrays) if id(array) in named]
        found, traceback = here or found, traceback.tb_next
    return found
