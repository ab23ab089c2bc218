# SPDX-License-Identifier: Apache-2.0
"""A network, run on the laws of its weights: `predict`, and corrections by it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Initializer
from jaxinit.core import checks as check
from jaxinit.prediction import Drawn, Entry, Given, Interpreter, Mixture, number, signal
from jaxinit.signal.prediction import Predicted, Prediction
from jaxinit.signal.trace import Traced
from jaxinit.trees import Rules, plan_of

__all__ = ["corrections", "predict"]


def predict(
    model: Any, *args: Any, rules: Rules | None = None, **kwargs: Any
) -> Prediction:
    """The signal in a network at initialisation, before any weight is drawn.

    A fresh kernel makes its output Gaussian, of variance fan_in · σ² · E x²,
    independent across units. So the network's computation is run on quadrature nodes
    in place of arrays: functions of single entries on the nodes themselves, a
    contraction with a kernel starts a new Gaussian, sums over units are their
    expectations, and the covariances between positions and examples are carried along
    for averages, normalisations over the batch and attention. It is exact as the width
    grows; at finite width the error is of the order 1 / width, and single networks
    walk around it.

    Args:
        model, *args: as `jaxinit.read` takes them: the parameters as shapes, with
            `rules`, or as arrays, whose own moments then count. The batch as arrays;
            for shapes, normal entries of rms 1, and tokens, are put in place.
        rules: the rules that are to draw the parameters, as for `init_tree`.
        **kwargs: keyword arguments of the pass.

    Returns:
        A `Prediction`, with a row for each that `signal.report` has. Where something
        cannot be predicted (routing, sorting, random masks), its output is taken to be
        of unit size, and the rows behind it say so in their notes.

    Raises:
        TypeError, ValueError: as `signal.report`; for shapes without rules; for an
            initializer that states no law.

    Example:
        Twenty ReLU layers keep He's signal, and halve LeCun's square:

        >>> import jax, jaxinit
        >>> from jaxinit import signal
        >>> def mlp(params, x):
        ...     for w in params:
        ...         x = jax.nn.relu(x @ w)
        ...     return x
        >>> w, x = (jax.ShapeDtypeStruct(s, "float32") for s in ((64, 64), (8, 64)))
        >>> for init in (jaxinit.he_normal(), jaxinit.lecun_normal()):
        ...     rows = signal.predict(mlp, [w] * 20, x, rules=[("**", init)]).rows
        ...     print(round((rows[-1].rms / rows[0].rms) ** 2 * 2**19))
        524288
        1

    References:
        G. Yang, "Tensor programs I", 2019, arXiv:1910.12478; Poole et al., 2016,
        arXiv:1606.05340; Schoenholz et al., 2017, arXiv:1611.01232; Yang et al., "A
        mean field theory of batch normalization", 2019, arXiv:1902.08129.
    """
    with check.speaker("signal.predict"):
        traced = Traced(model, args, kwargs, values=False)
        inputs = _inputs(traced, rules)
        found: dict[int, list[Any]] = {}

        def visit(taps: Sequence[int], value: Any) -> Any:
            for n in taps:
                found.setdefault(n, []).append(value)
            return value

        _run(traced, inputs, visit)
        back, why = _backward(traced, inputs)
        return Prediction(tuple(_rows(traced, found, back, why)))


def corrections(
    model: Any, args: Any, kwargs: Any, rules: Rules, wanted: Mapping[str, float]
) -> dict[str, float]:
    """By what kernels must be multiplied for their outputs to have a wanted E y².

    In order of execution, each after those before it, as `lsuv` does by measurement.
    Where a kernel has several outputs, it is the geometric mean over them; a kernel
    whose output rests on more than laws has none.
    """
    traced = Traced(model, args, kwargs, values=False)
    found: dict[str, list[float]] = {}

    def visit(taps: Sequence[int], value: Any) -> Any:
        first, *others = (traced.taps[n].own[0].leaf for n in taps)
        path, power = traced.given.paths[first], _power(value)
        known = power and math.isfinite(power) and not _note(value)
        if others or path not in wanted or not known:
            return value
        factor = math.sqrt(wanted[path] / (power or 1.0))
        found.setdefault(path, []).append(factor)
        return _times(value, factor)

    _run(traced, _inputs(traced, rules), visit)
    return {
        path: math.exp(sum(map(math.log, each)) / len(each))
        for path, each in found.items()
    }


def _run(
    traced: Traced, inputs: list[Any], visit: Callable[[list[int], Any], Any]
) -> None:
    """Run the laws; `visit` takes the output of taps, and gives what goes on."""
    places: dict[Any, list[int]] = {}
    for n, tap in enumerate(traced.taps):
        places.setdefault(tap.place, []).append(n)

    def at(place: Any, value: Any) -> Any:
        return visit(places[place], value) if place in places else value

    run = Interpreter(_batch(traced), at)
    run.run(traced.trace.jaxpr, traced.trace.consts, inputs)


def _batch(traced: Traced) -> int:
    """How many examples the batch has."""
    given = traced.given
    data = [i for i in range(len(given.arrays)) if i not in given.constants]
    return next((given.arrays[i].shape[0] for i in data if given.arrays[i].ndim), 1)


def _backward(traced: Traced, inputs: list[Any]) -> tuple[dict[int, list[Any]], str]:
    """What comes back to each tap of a unit signal at the outputs, or why nothing."""
    try:
        trace = traced.reverse()
    except (NotImplementedError, TypeError, ValueError) as error:
        return {}, f"no reverse pass: {str(error).partition(chr(10))[0]}"
    numbers = {tap.name: n for n, tap in enumerate(traced.taps)}
    found: dict[int, list[Any]] = {}

    def at(place: Any, value: Any) -> Any:
        if place in numbers:
            found.setdefault(numbers[place], []).append(value)
        return value

    batch = _batch(traced)
    marks = [Given(tap.mark) for tap in traced.taps]
    units = [signal(x.shape, back=True) for x in traced.outputs]
    Interpreter(batch, at).run(trace.jaxpr, trace.consts, [*inputs, *marks, *units])
    # A loop runs from its end.
    return {n: each[::-1] for n, each in found.items()}, "not reached"


def _times(x: Any, factor: float) -> Any:
    if isinstance(x, Mixture):
        parts = tuple((share, _times(e, factor)) for share, e in x.parts)
        return replace(x, parts=parts)
    return replace(x, values=factor * x.values)


def _rows(
    traced: Traced, found: dict[int, list[Any]], back: dict[int, list[Any]], why: str
) -> list[Predicted]:
    calls: dict[str, int] = {}
    taken: dict[int, int] = {}
    rows = []
    for n, _tap, label, shape, steps in traced.labels():
        k = taken.get(n, 0)
        taken[n] = k + steps
        calls[label] = calls.get(label, 0) + 1
        (rms, note), (grad, grad_note) = (
            _size(each.get(n, [])[k : k + steps], silent)
            for each, silent in ((found, "not reached"), (back, why))
        )
        rows.append(Predicted(label, calls[label], shape, rms, grad, note, grad_note))
    return rows


def _size(values: list[Any], silent: str) -> tuple[float, str]:
    """The rms over the steps of a loop, and what it rests on."""
    known = [p for p in map(_power, values) if p is not None]
    if not known:
        return math.nan, silent
    note = next((each for each in map(_note, values) if each), "")
    return math.sqrt(sum(known) / len(known)), note


def _power(x: Any) -> float | None:
    if isinstance(x, Entry):
        return x.power + x.loose
    if isinstance(x, Mixture):
        return sum(share * e.power for share, e in x.parts)
    return None


def _note(x: Any) -> str:
    entries = [e for _, e in x.parts] if isinstance(x, Mixture) else [x]
    return next((e.assumed for e in entries if isinstance(e, Entry) and e.assumed), "")


def _inputs(traced: Traced, rules: Rules | None) -> list[Any]:
    """The laws of the parameters, and the numbers of the batch."""
    given = traced.given
    laws = _laws(traced, rules)
    made: list[Any] = []
    for i, leaf in enumerate(given.leaves):
        made.append(laws.get(i) or Given(_numbers(leaf, i)))
    made += [Given(_numbers(x, len(made) + i)) for i, x in enumerate(given.arrays)]
    return made


def _numbers(x: Any, seed: int) -> Any:
    """An array of the batch; where there is but a shape, normal entries of rms 1."""
    if not isinstance(x, jax.ShapeDtypeStruct):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return x if is_key else np.asarray(x)
    rng = np.random.default_rng(seed)
    if jnp.issubdtype(x.dtype, jnp.floating):
        drawn = rng.standard_normal(x.shape)
        return (drawn / math.sqrt((drawn**2).mean() if drawn.size else 1)).astype(
            x.dtype
        )
    if jnp.issubdtype(x.dtype, jnp.integer):
        return rng.integers(0, 1 << 30, x.shape).astype(x.dtype)
    return np.zeros(x.shape, x.dtype)


def _laws(traced: Traced, rules: Rules | None) -> dict[int, Any]:
    given = traced.given
    if rules is None:
        return {i: _measure(given.paths[i], given.leaves[i]) for i in traced.numbers}
    tree = {given.paths[i]: given.leaves[i] for i in traced.numbers}
    shapes = {p: jax.ShapeDtypeStruct(x.shape, x.dtype) for p, x in tree.items()}
    plan, _ = plan_of(shapes, rules, (), traced.network)
    inits = {leaf.param.path: leaf.init for leaf in plan}
    return {
        i: _law(given.paths[i], inits[given.paths[i]], given.leaves[i])
        for i in traced.numbers
    }


def _law(path: str, init: Any, leaf: Any) -> Any:
    if not isinstance(init, Initializer) or not init.states_law:
        raise ValueError(f"{path}: {init!r} states no law, and nothing follows from it")
    law = init.law(leaf.shape)
    if law.std == 0:
        return number(float(np.real(law.mean)), leaf.shape)
    if law.mean:
        raise ValueError(f"{path}: {init!r} has the mean {law.mean:g}, not 0")
    return Drawn(float(law.std), tuple(leaf.shape))


def _measure(path: str, leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(
            f"{path} is a shape, and its law is not known; give rules=, or arrays"
        )
    x = np.asarray(leaf, np.float64)
    if x.size and (x == x.ravel()[0]).all():
        return number(float(x.ravel()[0]), x.shape)
    return Drawn(math.sqrt(float((x**2).mean())), x.shape)
