# SPDX-License-Identifier: Apache-2.0
"""`report`: the signal of a model on a batch, layer by layer."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import Tabular, columns
from jaxinit.core import checks as check
from jaxinit.signal.chains import feeds
from jaxinit.signal.flags import Row, flags
from jaxinit.signal.sums import fetch, moments, powers, rms
from jaxinit.signal.trace import Observation, Traced

__all__ = ["Report", "Row", "report", "scalar"]


@dataclass(frozen=True, repr=False)
class Report(Tabular):
    """The rows of a network in order of execution; it prints as aligned text.

    Attributes:
        rows: a `Row` for each call of a layer.
        flags: what is wrong, in sentences; empty for a healthy network.

    Example:
        >>> import jax, flax.linen as nn
        >>> import jaxinit
        >>> layer, x = nn.Dense(64), jax.random.normal(jax.random.key(0), (128, 64))
        >>> params = layer.init(jax.random.key(1), x)
        >>> found = jaxinit.signal.report(layer, params, x)
        >>> found.to_dict()["rows"][0]["shape"], found.flags
        ([128, 64], ())
    """

    rows: tuple[Row, ...]
    flags: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.flags

    def _columns(self) -> dict[str, list[Any]]:
        named = {**columns(Row, self.rows), "path": [row.label for row in self.rows]}
        del named["call"], named["joins"]  # the label has one, the picture the other
        return named

    def _notes(self) -> tuple[str, ...]:
        return self.flags

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; NaN and infinity are words."""
        return {
            "rows": [
                {name: _plain(value) for name, value in asdict(row).items()}
                for row in self.rows
            ],
            "flags": list(self.flags),
        }

    def compare(self, predicted: Any) -> Any:
        """Beside what `signal.predict` told, row by row: a `Comparison`."""
        return predicted.compare(self)

    def plot(self, predicted: Any = None, ax: Any = None) -> Any:
        """Draw the report, and a prediction as lines, by `jaxinit.plot.report`."""
        from jaxinit import plot

        return plot.report(self, predicted, ax=ax)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def report(
    model: Any,
    *args: Any,
    loss: Callable[[Any], Any] | None = None,
    key: Any = None,
    optimizer: Any = None,
    **kwargs: Any,
) -> Report:
    """Measure the signal in a network, forward and backward, on a batch.

    Every kernel and embedding gets a row, by the path of the parameter: the mean and
    rms of its output y (with its bias), the rms of ∂loss/∂y, the fraction of its units
    that no gradient enters, the rms of its parameters' gradients, and how large its
    first update is beside it. All come from one compiled pass forward and back. Kernels
    are found where the computation uses them (`jaxinit.read`), whatever the framework:
    in attention and recurrent cells, under `scan` (a row for each layer of a stack; one
    for all steps in time), `vmap`, `remat` and `jit`. The model and its parameters stay
    as they are.

    Args:
        model: a Linen module, an NNX module, or any function of (params, *args).
        *args: for Linen, the variables and then what the module takes, as in
            `model.apply(variables, batch)`; for NNX, what the module takes; for a
            function, the parameters and then the rest.
        loss: from the model's output to a real scalar. Without one the gradients are
            those of ⟨v, output⟩ with v standard normal: a unit signal sent backward.
        key: the PRNG key of v, `jax.random.key(0)` if none is given.
        optimizer: a pair of functions `init` and `update`, as Optax makes them, whose
            first update is measured; plain gradient descent of rate 1 if none is given.
        **kwargs: for `model.apply`, such as `rngs`, `mutable` or `train=True`, for the
            NNX module's call, or for the function. Linen's collections other than the
            parameters are mutable unless `mutable` says otherwise.

    Returns:
        A `Report`, with `rows` and `flags`.

    Raises:
        TypeError: for a class in place of a model, variables without "params", shapes
            in place of arrays.
        ValueError: for a model without kernels, or a loss that is no real scalar.
        What the model itself raises.

    Example:
        A He-initialised ReLU layer keeps the second moment of its input:

        >>> import jax, flax.linen as nn
        >>> import jaxinit
        >>> from jaxinit import signal
        >>> dense = lambda: nn.Dense(512, kernel_init=jaxinit.he_normal())
        >>> model = nn.Sequential([dense(), nn.relu, dense(), nn.relu, dense()])
        >>> x = jax.random.normal(jax.random.key(0), (64, 512))
        >>> found = signal.report(model, model.init(jax.random.key(1), x), x)
        >>> all(0.8 < row.rms / found.rows[0].rms < 1.25 for row in found.rows)
        True

    References:
        Glorot & Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", 2010, figures 6 and 7.
        He, Zhang, Ren & Sun, "Delving deep into rectifiers", 2015, arXiv:1502.01852.
    """
    with check.speaker("signal.report"):
        key = check.key(jax.random.key(0) if key is None else key)
        if loss is not None and not callable(loss):
            raise TypeError(
                f"loss must be a function of the model's output, got {loss!r}"
            )
        traced = Traced(model, args, kwargs)
        update = _update(traced, optimizer)
        floats = [
            i
            for i, x in enumerate(traced.leaves)
            if jnp.issubdtype(x.dtype, jnp.inexact)
        ]
        wanted = {(each.leaf, each.axes) for tap in traced.taps for each in tap.own}

        @jax.jit
        def measure(leaves: Any, arrays: Any, zeros: Any, key: Any) -> Any:
            def objective(chosen: Any, zeros: Any) -> Any:
                new = list(leaves)
                for i, x in zip(floats, chosen, strict=True):
                    new[i] = x
                out, records = traced.run(new, arrays, zeros)
                return scalar(loss, out, key), records

            chosen = [leaves[i] for i in floats]
            (slopes, back), records = jax.grad(objective, (0, 1), has_aux=True)(
                chosen, zeros
            )
            grads = list(map(jnp.zeros_like, leaves))
            for i, x in zip(floats, slopes, strict=True):
                grads[i] = x
            updates = update(grads, leaves)
            sums = {
                (i, axes): [
                    powers(jnp.moveaxis(x[i], axes, range(len(axes))), len(axes))
                    for x in (leaves, grads, updates)
                ]
                for i, axes in wanted
            }
            return records, back, sums

        records, back, sums = fetch(
            measure(traced.leaves, traced.given.arrays, traced.probes, key)
        )
        found = list(traced.observations(records, back))
        rows = _rows(traced, found, sums)
        return Report(rows, flags(rows, feeds(traced, found), traced.lost))


def _update(traced: Traced, optimizer: Any) -> Callable[[Any, Any], list[Any]]:
    """The first update, of gradients and parameters, on the model's own tree."""
    if optimizer is None:
        return lambda grads, params: grads
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            "optimizer must have the functions init and update, as those of Optax, got "
            f"{getattr(optimizer, '__name__', type(optimizer).__name__)}"
        )

    def first(grads: Any, leaves: Any) -> list[Any]:
        structure = traced.given.structure
        grads, params = (jax.tree.unflatten(structure, x) for x in (grads, leaves))
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return jax.tree.leaves(updates)

    return first


def scalar(loss: Callable[[Any], Any] | None, out: Any, key: Any) -> Any:
    """The loss of an output, or without one ⟨v, output⟩ for a normal v."""
    if loss is not None:
        value = loss(out)
        if jnp.shape(value) != () or not jnp.issubdtype(
            jnp.result_type(value), jnp.floating
        ):
            raise ValueError(
                "loss must return a real scalar, got "
                f"{jnp.result_type(value)} of shape {jnp.shape(value)}; take its mean"
            )
        return value
    total = jnp.float32(0)
    for i, x in enumerate(jax.tree.leaves(out)):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            is_complex = jnp.issubdtype(x.dtype, jnp.complexfloating)
            wide = jnp.complex64 if is_complex else jnp.float32
            v = jax.random.normal(jax.random.fold_in(key, i), x.shape, wide)
            total += jnp.vdot(v, x.astype(wide)).real
    return total


def _rows(traced: Traced, found: Sequence[Observation], sums: Any) -> tuple[Row, ...]:
    calls: Counter[str] = Counter()
    rows = []
    for each in found:
        record, back, count = each.record, each.back, each.count
        calls[each.label] += 1
        whole = []
        for own in each.tap.own:
            i, axes = own.leaf, own.axes
            x = traced.leaves[i]
            slices = math.prod(x.shape[axis] for axis in axes)
            at = each.index(own)
            whole.append((x.size // slices, [power[at] for power in sums[i, axes]]))
        mean, size = moments(record["total"], record["power"], count)
        grad = rms(back["power"], count)
        weight = _over(whole[:1], 0)
        rows.append(
            Row(
                path=each.label,
                call=calls[each.label],
                shape=each.shape,
                mean=mean,
                rms=size,
                dead=float((back["alive"] == 0).mean()) if grad else None,
                grad_rms=grad,
                param_grad_rms=_over(whole, 1),
                update_ratio=_over(whole[:1], 2) / weight if weight else None,
                joins=_joins(traced, each),
            )
        )
    return tuple(rows)


def _joins(traced: Traced, each: Observation) -> bool:
    """Whether a kernel's output ends a residual branch."""
    parameter = traced.network.get(traced.given.paths[each.tap.own[0].leaf])
    return parameter is not None and parameter.branch is not None


def _over(parts: list[tuple[int, Any]], k: int) -> float:
    """The rms over several parameters, of their values, gradients or updates."""
    if not parts:
        return 0.0
    return rms(sum(sums[k] for _, sums in parts), sum(size for size, _ in parts))
