# SPDX-License-Identifier: Apache-2.0
"""Plots: what is drawn is what was computed, and can be read."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from scipy import stats

import jaxinit
import jaxinit.plot
from jaxinit.plot.density import density
from jaxinit.plot.look import PALETTE
from jaxinit.plot.phases import chaotic_phase, critical_line, ordered_phase
from jaxinit.theory import MeanField, critical

QUICK = True  # see conftest.py

TANH = MeanField("tanh", 1.5, 0.2)
KEY = jax.random.key(0)

PLOTS: dict[str, Callable[..., Any]] = {
    "law": lambda **k: jaxinit.plot.law(jaxinit.he_normal(), (64, 32), **k),
    "gains": lambda **k: jaxinit.plot.gains(["relu", "tanh"], **k),
    "phase_diagram": lambda **k: jaxinit.plot.phase_diagram("erf", **k),
    "signal": lambda **k: jaxinit.plot.signal([1.0, 1.1, 0.9], TANH, **k),
    "singular_values": lambda **k: jaxinit.plot.singular_values(jnp.eye(8), **k),
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def luminance(colour: Any) -> float:
    """The relative luminance of WCAG 2."""
    parts = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(colour)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a: Any, b: Any) -> float:
    light, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast():
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)


def texts(ax: Any) -> list[Any]:
    ax.figure.canvas.draw()
    labels = [ax.xaxis.label, ax.yaxis.label, ax.title, *ax.texts]
    ticks = [*ax.get_xticklabels(), *ax.get_yticklabels()]
    legend = ax.get_legend()
    return [*labels, *ticks, *(legend.get_texts() if legend else [])]


@pytest.mark.sweep
@pytest.mark.parametrize("name", PLOTS)
def test_a_new_figure_can_be_read(name):
    ax = PLOTS[name]()
    assert ax.get_xlabel() and ax.get_ylabel()
    assert to_rgb(ax.figure.get_facecolor()) == (1, 1, 1)
    assert ax.figure.get_facecolor()[3] == 1  # opaque
    words = [text for text in texts(ax) if text.get_text()]
    assert all(contrast(text.get_color(), "white") > 4.5 for text in words)
    for line in ax.lines:
        assert to_hex(line.get_color()).upper() in PALETTE.values()


@pytest.mark.sweep
@pytest.mark.parametrize("name", PLOTS)
def test_the_callers_axes_keep_their_style(name):
    with plt.style.context("dark_background"):
        _, mine = plt.subplots()
        ax = PLOTS[name](ax=mine)
    assert ax is mine
    words = [
        text for text in texts(ax) if text.get_text() and not text.get_bbox_patch()
    ]
    if ax.get_legend() is not None and name == "phase_diagram":
        words = [t for t in words if t not in ax.get_legend().get_texts()]  # on white
    assert all(contrast(text.get_color(), "black") > 4.5 for text in words)


@pytest.mark.parametrize("name", PLOTS)
def test_no_setting_is_left_changed(name):
    before = mpl.rcParams.copy()
    PLOTS[name]()
    assert mpl.rcParams == before
    with jaxinit.plot.style():
        assert mpl.rcParams != before
    assert mpl.rcParams == before


def test_a_failure_leaves_no_figure():
    with pytest.raises(ValueError, match=r"plot\.law: shape must have entries"):
        jaxinit.plot.law(jaxinit.he_normal(), (0, 3))
    assert plt.get_fignums() == []


def test_the_palette_is_told_apart():
    """Okabe and Ito's hues differ in lightness too: no two within 5 % of each other."""
    lights = sorted(map(luminance, PALETTE.values()))
    assert min(b - a for a, b in itertools.pairwise(lights)) > 0.005
    assert all(contrast(colour, "white") > 2 for colour in PALETTE.values())


# Laws.


def test_densities():
    """Of greatest entropy: normal, truncated normal (aside too) and uniform."""
    cases = [
        (jaxinit.normal(0.3, mean=1.0), stats.norm(1, 0.3)),
        (jaxinit.uniform_between(-1, 3), stats.uniform(-1, 4)),
        (jaxinit.truncated_normal(2.0), stats.truncnorm(-2, 2, 0, 2)),
        (jaxinit.truncated_normal(1.0, None, 1.0, 4.0), stats.truncnorm(1, 4)),
        (jaxinit.truncated_normal(1.0, None, 5.0, 9.0), stats.truncnorm(5, 9)),
        (jaxinit.trunc_normal(std=0.02), stats.norm(0, 0.02)),
    ]
    for init, exact in cases:
        x, p = density(init.law((4, 4)))
        assert np.trapezoid(p, x) == pytest.approx(1, abs=1e-5)
        # steps of 1/30 of the decay of the most aside: 1/30² / 12
        assert p == pytest.approx(exact.pdf(x), rel=0, abs=1e-4 * p.max())


def test_a_law():
    init = jaxinit.lecun_normal()
    ax = jaxinit.plot.law(init, (256, 128))
    (line,) = ax.lines
    x, p = density(init.law((256, 128)))
    assert line.get_ydata() == pytest.approx(np.interp(line.get_xdata(), x, p))
    area = sum(bar.get_width() * bar.get_height() for bar in ax.patches)
    assert area == pytest.approx(1)
    middle = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    heights = np.array([bar.get_height() for bar in ax.patches])
    count = 256 * 128 * ax.patches[0].get_width()
    z = (heights - np.interp(middle, x, p)) / np.sqrt(np.interp(middle, x, p) / count)
    assert np.abs(z).max() < 5
    assert "variance_scaling" in ax.get_title() and "256 × 128" in ax.get_title()


def test_a_law_without_a_density():
    ax = jaxinit.plot.law(jaxinit.orthogonal(), (16, 64))
    places = [line.get_xdata()[0] for line in ax.lines]
    assert places == pytest.approx([0, -1 / 8, 1 / 8])
    scaled = jaxinit.plot.law(jaxinit.scaled(jaxinit.normal(1.0), 3.0), (16, 64))
    assert len(scaled.lines) == 1


def test_complex_entries():
    init = jaxinit.variance_scaling(1.0, "fan_in", "normal", dtype="complex64")
    ax = jaxinit.plot.law(init, (32, 32))
    assert ax.get_xlabel() == "|entry|" and not ax.lines


# Theory.


def stretched(root: float) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jax.nn.silu(root * x)


def test_gains():
    ax = jaxinit.plot.gains(["silu", "tanh"])
    curve, mark = ax.lines[:2]
    roots, found = curve.get_data()
    for i in (0, 20, 40):
        exact = roots[i] * jaxinit.gain(stretched(roots[i]))
        assert found[i] == pytest.approx(exact, rel=1e-11)
    assert (mark.get_xdata(), mark.get_ydata()) == ([1], [jaxinit.gain("silu")])
    assert found[20] == pytest.approx(jaxinit.gain("silu"), rel=1e-11)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["silu", "tanh"]
    assert len(jaxinit.plot.gains("relu").lines) == 2
    named = jaxinit.plot.gains({"mine": lambda x: 2 * jax.nn.relu(x)})
    assert named.get_legend().get_texts()[0].get_text() == "mine"


@pytest.mark.parametrize("f", ["tanh", "silu"])
def test_the_meshes_of_the_phases(f):
    """Every point of a mesh, put into the theory, gives what the mesh says of it."""
    function = {"tanh": jnp.tanh, "silu": jax.nn.silu}[f]
    q = np.array([0.05, 0.5, 3.0])
    for mesh, columns in (
        (ordered_phase(function, q), (3, 30)),
        (chaotic_phase(function, q), (3, 7)),
    ):
        for row, column in itertools.product(range(3), columns):
            sigma_w, sigma_b, xi = (each[row, column] for each in mesh)
            if sigma_b < 0 or math.isnan(xi):
                continue
            theory = MeanField(f, sigma_w, sigma_b, q[row])
            assert theory.q_star == q[row] and theory.chi_q < 1
            assert theory.xi_c == pytest.approx(xi, rel=1e-6)
    widths, biases = critical_line(function, q)
    for row in range(3):
        exact = critical(f, q=q[row])
        assert (widths[row], biases[row]) == pytest.approx(
            (exact.sigma_w, exact.sigma_b)
        )


def test_a_phase_diagram():
    ax = jaxinit.plot.phase_diagram("erf", sigma_w=(0.5, 2.5), sigma_b=(0.0, 0.5))
    assert (ax.get_xlim(), ax.get_ylim()) == ((0.5, 2.5), (0, 0.5))
    (line,) = ax.lines
    at = critical("erf", sigma_b=0.2)
    order = np.argsort(line.get_ydata())
    w = np.interp(0.2, line.get_ydata()[order], line.get_xdata()[order])
    assert w == pytest.approx(at.sigma_w, rel=1e-2)
    places = {text.get_text(): text.get_position() for text in ax.texts}
    for word, (sigma_w, sigma_b) in places.items():
        assert MeanField("erf", sigma_w, sigma_b).phase == word
    assert any("ξ_c" in other.get_ylabel() for other in ax.figure.axes)


@pytest.mark.thorough
@pytest.mark.parametrize("f", ["relu", "sigmoid"])
def test_a_phase_diagram_without_a_line(f):
    ax = jaxinit.plot.phase_diagram(f, sigma_w=(0.5, 4.5))
    (line,) = ax.lines
    on = np.isfinite(line.get_ydata()) & (line.get_xdata() < 4.5)
    assert on.any() == (f == "relu")
    if f == "relu":
        assert line.get_xdata() == pytest.approx(2**0.5)
        assert (line.get_ydata() == 0).all() and line.get_marker() == "o"


def test_a_signal():
    measured = [1.0, 0.8, 0.9, 0.7]
    points, line = jaxinit.plot.signal(measured, TANH).lines
    assert (points.get_ydata() == measured).all()
    assert (points.get_xdata() == [1, 2, 3, 4]).all()
    assert (line.get_ydata() == TANH.lengths(3)).all()
    assert len(jaxinit.plot.signal(jnp.ones(3)).lines) == 1


def test_a_report():
    measured = [("a", 1.0, None), ("b", 1.2, 0.2), ("c", 0.9, 0.3)]
    rows = [SimpleNamespace(path=p, rms=r, grad_rms=g) for p, r, g in measured]
    ax = jaxinit.plot.signal(SimpleNamespace(rows=rows), TANH)
    forward, theory, backward, back_theory = ax.lines
    assert (forward.get_ydata() == [1.0, 1.2, 0.9]).all()
    assert theory.get_ydata() == pytest.approx(np.sqrt(TANH.lengths(2)))
    assert np.isnan(backward.get_ydata()[0]) and backward.get_ydata()[2] == 0.3
    exact = 0.3 * np.sqrt(TANH.gradients(2))
    assert back_theory.get_ydata() == pytest.approx(exact)
    forward_only = [SimpleNamespace(path="a", rms=1.0, grad_rms=None)]
    assert len(jaxinit.plot.signal(SimpleNamespace(rows=forward_only)).lines) == 1


def test_singular_values():
    matrix = jaxinit.normal(1.0)(KEY, (3, 3, 5, 20))
    ax = jaxinit.plot.singular_values(
        {"one": matrix, "two": jnp.eye(30, dtype="bfloat16")}
    )
    counts = [bar.get_height() for bar in ax.patches]
    assert sum(counts) == 20 + 30 and max(counts) == 30
    exact = np.linalg.svd(np.asarray(matrix).reshape(45, 20), compute_uv=False)
    edges = [bar.get_x() for bar in ax.patches[:43]]
    wanted, _ = np.histogram(exact, [*edges[:42], edges[41] + (edges[1] - edges[0])])
    assert counts[:42] == wanted.tolist()
    assert len(jaxinit.plot.singular_values(jnp.eye(3), 2 * jnp.eye(3)).patches) == 84


loose: Any = jaxinit.plot  # for what a type checker refuses
OTHER = jax.nn.initializers.he_normal()
BAD = {"a": jnp.full((2, 2), jnp.inf)}

REFUSED: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    r"plot\.law: init must be an": (lambda: loose.law(3, (2, 2)), TypeError),
    "the factory zeros_init; call": (
        lambda: loose.law(jaxinit.zeros_init, 2),
        TypeError,
    ),
    "an initializer of jaxinit": (lambda: loose.law(OTHER, (2, 2)), TypeError),
    "ax must be the Axes": (lambda: loose.gains("relu", ax=3), TypeError),
    r"plot\.gains: activation 'rleu'": (lambda: loose.gains(["rleu"]), ValueError),
    "must be a name, several": (lambda: loose.gains(3), TypeError),
    r"labels to callables, got \[\]": (lambda: loose.gains([]), TypeError),
    "must be two numbers": (lambda: loose.phase_diagram("relu", sigma_w=3), TypeError),
    "must be below": (lambda: loose.phase_diagram("relu", sigma_b=(1, 0)), ValueError),
    "flat sequence of numbers": (lambda: loose.signal("abc"), TypeError),
    "flat sequence .* got 3": (lambda: loose.signal(3), TypeError),
    "must have layers": (lambda: loose.signal([]), ValueError),
    r"a theory\.MeanField": (lambda: loose.signal([1.0], "relu"), TypeError),
    "give matrices": (loose.singular_values, ValueError),
    "1 must have two axes": (lambda: loose.singular_values(jnp.ones(3)), ValueError),
    "a must be finite": (lambda: loose.singular_values(BAD), ValueError),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refuses(words):
    call, error = REFUSED[words]
    with pytest.raises(error, match=words):
        call()


def test_matplotlib_is_asked_for_by_the_plots_alone():
    script = """
import sys
sys.modules["matplotlib"] = None
import jaxinit
try:
    import jaxinit.plot
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "jaxinit.plot needs matplotlib: pip install 'jaxinit[plot]'\n"
