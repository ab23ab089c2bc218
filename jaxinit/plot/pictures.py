# SPDX-License-Identifier: Apache-2.0
"""The pictures, each a function that draws into axes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxinit.core import Initializer, callee
from jaxinit.core import checks as check
from jaxinit.gains import Activation, function_of, gain
from jaxinit.plot.density import density
from jaxinit.plot.look import COLOURS, Axes, canvas, style
from jaxinit.plot.phases import phase_diagram
from jaxinit.theory import MeanField, activation_of, moment

__all__ = ["gains", "law", "phase_diagram", "signal", "singular_values", "style"]

Activations: TypeAlias = str | Activation | Sequence[str] | Mapping[str, Activation]


def law(init: Initializer, shape: Any, key: Any = None, ax: Axes | None = None) -> Axes:
    """A histogram of a draw against the density that the initializer promises.

    Where the entries of a family are not normal, truncated normal or uniform, its mean
    and standard deviation take the place of the density.

    Args:
        init: an initializer of this library.
        shape: the shape to draw.
        key: the PRNG key, `jax.random.key(0)` if none is given.

    Raises:
        TypeError: for an initializer of another library, which states no law.
        ValueError: for an empty shape.

    Example:
        >>> import jaxinit, jaxinit.plot
        >>> ax = jaxinit.plot.law(jaxinit.uniform_between(0, 1), (64, 64))
        >>> (line,) = ax.lines
        >>> bool(abs(line.get_ydata() - 1).max() < 1e-5)
        True
    """
    with canvas("law", ax) as ax:
        init = callee("init", init)  # type: ignore[assignment]
        if not isinstance(init, Initializer):
            raise TypeError(f"init must be an initializer of jaxinit, got {init!r}")
        shape = check.shape(shape)
        if 0 in shape:
            raise ValueError(f"shape must have entries, got {shape}")
        drawn = np.asarray(init(jax.random.key(0) if key is None else key, shape))
        entries = (
            (abs(drawn) if np.iscomplexobj(drawn) else drawn).ravel().astype(float)
        )
        bins = int(np.clip(math.sqrt(entries.size) / 2, 10, 80))
        _, bins, _ = ax.hist(
            entries, bins, density=True, color=COLOURS[0], alpha=0.5, label="draw"
        )
        if init.states_law and not np.iscomplexobj(drawn):
            promise, accent = init.law(shape), COLOURS[1]
            if promise.density and promise.std > 0:
                x, p = density(promise)
                here = (bins[0] <= x) & (x <= bins[-1])
                ax.plot(x[here], p[here], color=accent, label="law")
            else:
                mean = float(np.real(promise.mean))
                ax.axvline(mean, color=accent, label="mean")
                for side in (-promise.std, promise.std):
                    label = "mean ± std" if side > 0 else None
                    ax.axvline(mean + side, color=accent, linestyle="--", label=label)
        ax.set_xlabel("|entry|" if np.iscomplexobj(drawn) else "entry")
        ax.set_ylabel("probability density")
        ax.set_title(f"{init!r}, {' × '.join(map(str, shape))}")
        ax.legend()
        return ax


def gains(activations: Activations, ax: Axes | None = None) -> Axes:
    """The gain that keeps a signal's length, by that length, for several activations.

    A curve is g(q) = √(q / E f(√q z)²), which brings the length q of pre-activations
    back after f; the mark on it is the forward gain of `jaxinit.gain`, at q = 1. It is
    flat for ReLU, which has no scale, and rises where f saturates.

    Args:
        activations: names as in `jaxinit.gain`, one or several, or a mapping from
            labels to callables.

    Example:
        >>> import jaxinit, jaxinit.plot
        >>> ax = jaxinit.plot.gains(["relu", "tanh"])
        >>> relu = ax.lines[0].get_ydata()
        >>> bool(abs(relu - jaxinit.gain("relu")).max() < 1e-9)
        True
    """
    with canvas("gains", ax) as ax:
        roots = np.geomspace(0.1, 10, 41)
        for i, (label, activation) in enumerate(_labels(activations).items()):
            f, colour = function_of(activation), COLOURS[i % len(COLOURS)]
            found = [root / math.sqrt(moment(f, root**2)) for root in roots]
            ax.plot(roots, found, color=colour, label=label)
            ax.plot([1], [gain(f)], "o", color=colour)
        ax.set_xscale("log")
        ax.set_xlabel("length √q of the pre-activations (rms)")
        ax.set_ylabel("gain √(q / E f(√q z)²)")
        ax.legend()
        return ax


def _labels(activations: Activations) -> Mapping[str, str | Activation]:
    if isinstance(activations, Mapping) and activations:
        return activations
    if isinstance(activations, str) or callable(activations):
        activations = [activations]  # type: ignore[list-item]
    if not isinstance(activations, Sequence) or not activations:
        raise TypeError(
            "activations must be a name, several, or a mapping from labels to "
            f"callables, got {activations!r}"
        )
    names = [activation_of(each) for each in activations]
    return {
        n if isinstance(n, str) else getattr(n, "__name__", repr(n)): n for n in names
    }


def signal(
    measured: Any, theory: MeanField | None = None, ax: Axes | None = None
) -> Axes:
    """The signal by depth: measured points on the theory's line.

    Args:
        measured: the variances of the pre-activations, layer by layer from the first;
            or a `signal.Report`, whose rms is drawn, forward and, where it has them,
            that of the gradients.
        theory: the network's `theory.MeanField`, which starts at its q in the first
            layer. Its gradients end in the last that was measured.

    Raises:
        TypeError: for what is neither a report nor a flat sequence of numbers.
        ValueError: for an empty one.

    Example:
        >>> import jaxinit.plot
        >>> from jaxinit.theory import MeanField
        >>> relu = MeanField("relu", sigma_w=1.0)
        >>> ax = jaxinit.plot.signal([1.0, 0.51, 0.24], relu)
        >>> [round(float(y), 6) for y in ax.lines[1].get_ydata()]
        [1.0, 0.5, 0.25]
    """
    with canvas("signal", ax) as ax:
        rows = getattr(measured, "rows", None)
        if rows is None:
            what, series = "variance", {"signal": _flat("measured", measured)}
        else:
            what = "root mean square"
            series = {"signal": np.array([row.rms for row in rows], float)}
            gradients = np.array([row.grad_rms for row in rows], float)  # None is NaN
            if not np.isnan(gradients).all():
                series["gradient"] = gradients
        depth = len(series["signal"]) - 1
        if depth < 0:
            raise ValueError("measured must have layers, got none")
        layers = np.arange(1, depth + 2)
        for (name, found), colour, marker in zip(
            series.items(), COLOURS, "os", strict=False
        ):
            ax.plot(layers, found, marker, color=colour, label=name)
            if theory is not None:
                wanted = _theory(theory, name, depth)
                wanted = wanted if rows is None else np.sqrt(wanted)
                wanted = wanted * (found[-1] if name == "gradient" else 1)
                ax.plot(layers, wanted, color=colour, label=f"{name}, theory")
        ax.set_yscale("log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("layer")
        ax.set_ylabel(what)
        ax.legend()
        return ax


def _theory(theory: Any, name: str, depth: int) -> np.ndarray:
    if not isinstance(theory, MeanField):
        raise TypeError(f"theory must be a theory.MeanField, got {theory!r}")
    return theory.gradients(depth) if name == "gradient" else theory.lengths(depth)


def _flat(name: str, values: Any) -> np.ndarray:
    """A flat array of real numbers."""
    try:
        found = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        found = np.array(None)
    if found.ndim != 1 or isinstance(values, str):
        raise TypeError(
            f"{name} must be a flat sequence of numbers or a signal.Report, got "
            f"{values!r}"
        )
    return found


def singular_values(*matrices: Any, ax: Axes | None = None) -> Axes:
    """Histograms of the singular values of matrices, in common bins.

    A kernel of more axes counts as the matrix of all but its last axis by that one.

    Args:
        *matrices: arrays of two axes or more, or one mapping from labels to arrays.

    Example:
        >>> import jax, jaxinit, jaxinit.plot
        >>> matrix = jaxinit.orthogonal()(jax.random.key(0), (64, 64))
        >>> ax = jaxinit.plot.singular_values({"orthogonal": matrix})
        >>> ax.get_xlabel()
        'singular value'
    """
    with canvas("singular_values", ax) as ax:
        if len(matrices) == 1 and isinstance(matrices[0], Mapping):
            named = dict(matrices[0])
        else:
            named = {f"matrix {i + 1}": each for i, each in enumerate(matrices)}
        if not named:
            raise ValueError("give matrices, or a mapping from labels to matrices")
        found = {label: _singular(label, each) for label, each in named.items()}
        top = max(values.max() for values in found.values())
        bins = np.linspace(0, 1.05 * top or 1, 43)
        for (label, values), colour in zip(
            found.items(), COLOURS * len(found), strict=False
        ):
            ax.hist(values, bins, color=colour, alpha=0.5, label=label)
        ax.set_xlabel("singular value")
        ax.set_ylabel("count")
        ax.legend()
        return ax


def _singular(label: str, matrix: Any) -> np.ndarray:
    array = np.asarray(matrix)
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"{label} must have two axes or more, got shape {array.shape}")
    wide = array.astype(complex if np.iscomplexobj(array) else float)
    if not np.isfinite(wide).all():
        raise ValueError(f"{label} must be finite, and has NaN or infinite entries")
    return np.linalg.svd(wide.reshape(-1, wide.shape[-1]), compute_uv=False)
