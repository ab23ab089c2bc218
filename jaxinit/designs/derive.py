# SPDX-License-Identifier: Apache-2.0
"""`design`: an initialisation for any network, each scale with its reason."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Initializer
from jaxinit.core import checks as check
from jaxinit.designs.critical import at_criticality
from jaxinit.designs.formulas import formula
from jaxinit.designs.lines import Design, Line
from jaxinit.families import normal, ones, zeros
from jaxinit.network import Network, Parameter, read
from jaxinit.signal import corrections
from jaxinit.trees import leaves_of

__all__ = ["design"]

DIRECTIONS = ("forward", "backward", "critical")
LEAST = 0.01  # of a deviation: what less is predicted does not change the formula


def design(model: Any, *args: Any, direction: str = "forward", **kwargs: Any) -> Design:
    """An initialisation derived from the network, each scale with its reason.

    The network is read (`jaxinit.read`), and the variance of each kernel is the one
    that gives its output the mean square 1 where the signals before it have it:
    Var W = 1 / (fan_in · E f²), with f what its input comes through since then, of one
    to three signals, integrated over Gaussians. A kernel that ends one of N residual
    branches is divided by √N, so that the stream grows from 1 to 2 and no further; a
    kernel that reads the stream as it is takes that growth into account. Then the
    network is run on these laws (`signal.predict`), and where a kernel's output would
    miss its size by more than 1 %, because of a border of zeros, a pooling or units
    that are correlated, its deviation is multiplied by what is missing, in order of
    execution. The head's output, and what comes of attention's average, may begin
    small. What is recurrent is orthogonal. Look-ups have variance 1, or 1 / features
    where the table is the last layer too. Biases are 0, scales 1, running means 0 and
    running variances 1.

    For gradients, direction="backward" keeps the mean square of what comes back:
    Var W = 1 / (fan_out · E f′²). For both, direction="critical" puts kernels behind an
    activation at the edge of chaos, χ_1 = σ_w² E f′² = 1, with biases of the variance
    σ_b² = 1 - σ_w² E f², which hold the length; where there is no such point, as for
    the sigmoid, or no bias, it is the forward one, and says so.

    Args:
        model, *args, **kwargs: as `jaxinit.read` takes them; shapes will do, for which
            (and for arrays of one number) normal entries of rms 1 stand in.
        direction: "forward", "backward" or "critical".

    Returns:
        A `Design`: rules for `init_tree`, with `layers=jaxinit.read(model, ...)`. It
        has no rule for parameters whose use is not known: they are left to you.

    Raises:
        TypeError, ValueError: as `read`, and for an unknown direction.

    Example:
        >>> import jax, jaxinit
        >>> def block(params, x):
        ...     return x + jax.nn.relu(x @ params["up"]) @ params["down"]
        >>> w, x = (jax.ShapeDtypeStruct(s, "float32") for s in ((64, 64), (2, 64)))
        >>> params = {"up": w, "down": w}
        >>> rules = jaxinit.design(block, params, x)
        >>> network = jaxinit.read(block, params, x)
        >>> table = jaxinit.describe_tree(params, rules, layers=network)
        >>> {row.path: round(row.std**2 * 64, 6) for row in table.rows}
        {'down': 2.0, 'up': 1.0}

    References:
        He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015, arXiv:1502.01852
        (fans and E f²); Bingham, Miikkulainen, "AutoInit", 2023, arXiv:2109.08958 (any
        network, by its layers); De, Smith, "Batch normalization biases residual blocks
        towards the identity function", 2020, arXiv:2002.10444, and Brown et al.,
        "GPT-3", 2020, arXiv:2005.14165 (1/√N); Saxe, McClelland, Ganguli, 2014,
        arXiv:1312.6120 (orthogonal over time); Schoenholz, Gilmer, Ganguli,
        Sohl-Dickstein, 2017, arXiv:1611.01232 (the edge of chaos); Radford et al.,
        2019, and Press, Wolf, 2017, arXiv:1608.05859 (tied tables).
    """
    with check.speaker("design"):
        direction = check.choice("direction", direction, DIRECTIONS)
    network = read(model, *args, **kwargs)
    lines = [formula(network, each, direction) for each in network.values()]
    if direction == "critical":
        lines = at_criticality(network, lines)
    if direction == "forward":
        lines = _correct(lines, network, model, args, kwargs)
    return Design([*lines, *_averages(args, network)])


def _averages(args: Any, network: Network) -> list[Line]:
    """Lines of the running averages that Linen keeps beside the parameters."""
    given = args[0] if args else None
    if not isinstance(given, Mapping) or "batch_stats" not in given:
        return []
    leaves, _ = leaves_of({"batch_stats": given["batch_stats"]}, {})
    lines = {
        "mean": (zeros, "0 at first: running mean"),
        "var": (ones, "1 at first: running variance"),
    }
    return [
        Line(leaf.param.path, *lines[leaf.param.name])
        for leaf in leaves
        if leaf.param.name in lines and leaf.param.path not in network
    ]


def _correct(
    lines: Sequence[Line], network: Network, model: Any, args: Any, kwargs: Any
) -> list[Line]:
    """The lines, with the factors that a prediction of their outputs asks for."""
    wanted = {
        p.path: 1 / p.branch.of if p.branch else 1.0
        for p in network.values()
        if _is_correctable(p)
    }
    if not wanted:
        return list(lines)
    rules = [
        line.rule if line.initializer is not None else (line.rule[0], normal(1.0))
        for line in lines
    ]
    args, kwargs = jax.tree.map(_shape_if_constant, (args, kwargs))
    factors = corrections(model, args, kwargs, rules, wanted)
    return [_times(line, factors.get(line.path, 1.0)) for line in lines]


def _is_correctable(p: Parameter) -> bool:
    """Whether a kernel's output is to have the wanted size, whatever enters it.

    Not where its scale does not count, in a loop over time, in the head, whose output
    may begin small, and behind a product of data, as attention's average is, which the
    literature leaves as small as it comes.
    """
    loose = p.after is None or {"contraction", "loop"} & {*p.after.kinds}
    head = "output" in p.before
    return p.role == "kernel" and not (p.invariant or p.tied or loose or head)


def _shape_if_constant(x: Any) -> Any:
    """A batch's shape, where it is an array of one number and tells nothing else."""
    if not isinstance(x, check.ARRAYS) or np.ndim(x) == 0:
        return x
    if not jnp.issubdtype(x.dtype, jnp.number):
        return x
    flat = np.asarray(x).ravel()
    alike = flat.size > 0 and (flat == flat[0]).all()
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if alike else x


def _times(line: Line, factor: float) -> Line:
    """A line whose deviation is multiplied, where that is more than 1 %."""
    if abs(factor - 1) < LEAST or not isinstance(line.initializer, Initializer):
        return line
    scale = line.initializer.arguments["scale"] * factor**2
    return Line(
        line.path,
        line.initializer.replace(scale=float(f"{scale:.6g}")),
        f"{line.reason}; × {factor:.3g}: by the prediction of its output",
    )
