# SPDX-License-Identifier: Apache-2.0
"""The phase diagram: the plane of σ_w and σ_b, shaded by what is known of each point.

Nothing is solved for. With q* and χ_1 given (the ordered phase), σ_w² = χ_1 / E f′²;
with q* and c* given (the chaotic phase), c* is a fixed point of the correlation map if
σ_w² = q* (1 - c*) / (E f(u)² - E f(u) f(v)); and σ_b² = q* - σ_w² E f² either way.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxinit.core import checks as check
from jaxinit.gains import Activation, function_of
from jaxinit.plot.look import COLOURS, Axes, canvas
from jaxinit.theory import (
    activation_of,
    critical_variances,
    growth,
    host_number,
    kernel,
    moment,
)


def phase_diagram(
    activation: str | Activation,
    ax: Axes | None = None,
    *,
    sigma_w: tuple[float, float] = (0.5, 3.0),
    sigma_b: tuple[float, float] = (0.0, 1.0),
) -> Axes:
    """The plane of σ_w and σ_b: ordered, chaotic, and the edge of chaos between.

    The shade is the depth scale ξ_c of `theory.MeanField`, over which two inputs become
    as alike as they will be; about 6 ξ_c layers can be trained. Where no stable finite
    length exists there is no shade. The points are images of q* and χ_1, or q* and c*,
    so that nothing is solved for: a diagram takes seconds.

    Args:
        activation: f, by name or as a callable.
        sigma_w: the range of σ_w to draw.
        sigma_b: the range of σ_b to draw.

    Raises:
        ValueError: for a range that does not rise from 0 or above.

    Example:
        >>> import jaxinit, jaxinit.plot
        >>> ax = jaxinit.plot.phase_diagram("erf")
        >>> sorted(text.get_text() for text in ax.texts)
        ['chaotic', 'ordered']

    References:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein, "Deep Information Propagation",
            2017, arXiv:1611.01232, fig. 1.
    """
    with canvas("phase_diagram", ax) as ax:
        ends = [_range("sigma_w", sigma_w), _range("sigma_b", sigma_b)]
        f = function_of(activation)
        q = np.geomspace(1e3, 1e-6, 64)  # of two stable lengths the lesser is on top
        line = critical_line(f, q)
        inside = (q > 1e-3) & (line[0] < ends[0][1]) & (line[1] >= 0)
        meshes = [ordered_phase(f, q)]
        if inside.sum() > 2:
            meshes.append(chaotic_phase(f, q[inside][::2]))
        for mesh in meshes:
            shade = ax.pcolormesh(
                mesh.sigma_w,
                mesh.sigma_b,
                np.ma.masked_invalid(mesh.xi_c),
                norm="log",
                vmin=1,
                vmax=100,
                cmap="cividis",
                shading="gouraud",
                rasterized=True,
            )
        bar = ax.figure.colorbar(shade, ax=ax, extend="both")
        bar.set_label("depth scale ξ_c (layers)")
        mark = "o" if (line[1] == 0).all() else ""  # all q at one point
        ax.plot(*line, mark, color=COLOURS[1], linewidth=2, label="edge of chaos")
        height, edge = sum(ends[1]) / 2, ends[0][1]
        if inside.any():
            edge = line[0][np.nanargmin(abs(line[1] - height))]
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none"}
        for word, sides in (
            ("ordered", (ends[0][0], edge)),
            ("chaotic", (edge, ends[0][1])),
        ):
            if sides[0] < sides[1]:
                place = sum(sides) / 2, height
                ax.text(
                    *place, word, ha="center", va="center", color="#222222", bbox=box
                )
        ax.set_xlim(ends[0])
        ax.set_ylim(ends[1])
        ax.grid(False)
        ax.set_xlabel("standard deviation σ_w of the weights (times √fan_in)")
        ax.set_ylabel("standard deviation σ_b of the biases")
        ax.set_title(f"{activation_of(activation)}")
        ax.legend(
            loc="upper left",
            facecolor="white",
            framealpha=0.8,
            frameon=True,
            labelcolor="#222222",
        )
        return ax


def _range(name: str, ends: Any) -> tuple[float, float]:
    if not isinstance(ends, tuple | list) or len(ends) != 2:
        raise TypeError(f"{name} must be two numbers, from and to, got {ends!r}")
    low, high = (host_number(name, end, low=0.0) for end in ends)
    check.order(f"{name}[0]", low, f"{name}[1]", high)
    return low, high


class Mesh(NamedTuple):
    """A curved grid in the plane, a row for each q*: all of shape (lengths, n)."""

    sigma_w: np.ndarray
    sigma_b: np.ndarray  # negative where σ_b² would be
    xi_c: np.ndarray  # NaN where the length is not stable


def critical_line(f: Activation, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """σ_w and σ_b (NaN where there is none) on the edge of chaos, by the length q*."""
    w2, b2 = np.array([critical_variances(f, float(x)) for x in q]).T
    return np.sqrt(w2), np.sqrt(np.where(b2 >= 0, b2, np.nan))


def ordered_phase(f: Activation, q: np.ndarray) -> Mesh:
    """The ordered phase, χ_1 from 0 to 1 in each row."""
    _, slope = _moments(f, q)
    chi = np.linspace(0.02, 0.999, 40)[None]
    return _mesh(f, q, chi / slope[:, None], chi + 0 * q[:, None])


def chaotic_phase(f: Activation, q: np.ndarray) -> Mesh:
    """The chaotic phase, c* from 0 to 1 in each row."""
    power, _ = _moments(f, q)
    c = 1 - np.geomspace(1, 1e-3, 10)
    both = [
        np.array([[kernel(f, float(y), float(x), float(x), d) for y in c] for x in q])
        for d in (False, True)
    ]
    square = q[:, None] * (1 - c) / (power[:, None] - both[0])
    return _mesh(f, q, square, square * both[1])


def _moments(f: Activation, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E f² and E f′²."""
    power, slope = (
        np.array([moment(f, float(x), derivative=d) for x in q]) for d in (False, True)
    )
    return power, slope


def _mesh(f: Activation, q: np.ndarray, square: np.ndarray, chi: np.ndarray) -> Mesh:
    power, _ = _moments(f, q)
    rise = np.array([growth(f, float(x)) for x in q])
    bias = q[:, None] - square * power[:, None]
    stable = square * rise[:, None] < 1
    xi = -1 / np.log(np.where(stable & (chi < 1), chi, np.nan))
    return Mesh(np.sqrt(square), np.sign(bias) * np.sqrt(abs(bias)), xi)
