# SPDX-License-Identifier: Apache-2.0
"""Convolutions: upsampling without a pattern, and kernels that keep the energy."""

import itertools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from tests.helpers import fresh

QUICK = True  # see conftest.py


def conv(x: jax.Array, w: jax.Array) -> np.ndarray:
    """A convolution with circular padding, so that borders are like the rest."""
    image, kernel = np.asarray(x, np.float64), np.asarray(w, np.float64)
    y = np.zeros((*x.shape[:-1], w.shape[-1]))
    for tap in np.ndindex(w.shape[:-2]):
        shift = [(k - 1) // 2 - t for t, k in zip(tap, w.shape, strict=False)]
        y += np.roll(image, shift, range(1, 1 + len(tap))) @ kernel[tap]
    return y


def layer(w: jax.Array, groups: int = 1) -> nn.Conv:
    """Flax's, with that kernel and circular padding."""
    return nn.Conv(
        w.shape[-1],
        w.shape[:-2],
        padding="CIRCULAR",
        feature_group_count=groups,
        use_bias=False,
        kernel_init=lambda key, shape, dtype: w,
        precision="highest",
    )


def test_the_convolution_is_flaxs(key):
    x, w = whole(fresh(key), (2, 5, 4, 3)), whole(fresh(key), (2, 3, 3, 4))
    y, _ = layer(w).init_with_output(fresh(key), x)
    np.testing.assert_array_equal(conv(x, w), y)


# upsampling


def depth_to_space(y: np.ndarray, factor: tuple[int, ...], order: str) -> np.ndarray:
    """The channels of a sub-pixel convolution as pixels."""
    d, channels = len(factor), y.shape[-1] // math.prod(factor)
    tiled = order == "depth_to_space"
    split = (*factor, channels) if tiled else (channels, *factor)
    grid, inner = range(1, 1 + d), range(1 + d + (not tiled), 1 + 2 * d + (not tiled))
    axes = (0, *itertools.chain(*zip(grid, inner, strict=True)), -1 if tiled else 1 + d)
    sizes = [n * f for n, f in zip(y.shape[1:], factor, strict=False)]
    y = y.reshape(*y.shape[:-1], *split).transpose(axes)
    return y.reshape(len(y), *sizes, channels)


def whole(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Whole numbers without a pattern, so that a convolution of them is exact."""
    return (jnp.arange(math.prod(shape)) ** 2 % 11 - 5).reshape(shape).astype(dtype)


def nearest(y: np.ndarray, factor: tuple[int, ...]) -> np.ndarray:
    for axis, f in enumerate(factor, start=1):
        y = np.repeat(y, f, axis=axis)
    return y


@pytest.mark.sweep
@pytest.mark.parametrize("order", ["depth_to_space", "pixel_shuffle"])
@pytest.mark.parametrize("factor", [(3,), (2, 2), (3, 2), (2, 1, 2)], ids=str)
def test_icnr_starts_as_nearest_pixels(factor, order, key):
    window, copies = (3,) * len(factor), math.prod(factor)
    x = whole(fresh(key), (2, *(5,) * len(factor), 3))
    w = jaxinit.icnr(whole, factor, order)(fresh(key), (*window, 3, 4 * copies))
    y = conv(x, w)
    wanted = nearest(conv(x, whole(fresh(key), (*window, 3, 4))), factor)
    np.testing.assert_array_equal(depth_to_space(y, factor, order), wanted)
    (other,) = {"depth_to_space", "pixel_shuffle"} - {order}
    assert abs(depth_to_space(y, factor, other) - wanted).max() > 1


def test_one_factor_for_all_axes(key):
    for init in (lambda f: jaxinit.icnr(jaxinit.he_normal(), f), jaxinit.bilinear):
        one, two = (init(f)(fresh(key), (4, 4, 4, 4)) for f in (2, (2, 2)))
        chex.assert_trees_all_equal(one, two)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("factor", "sizes"),
    [((2,), (9,)), ((3,), (9,)), ((4, 3), (6, 5)), ((2, 3, 2), None)],
    ids=str,
)
def test_bilinear_is_resize(factor, sizes, key):
    """`nn.ConvTranspose` begins as `jax.image.resize`, away from the border."""
    sizes = sizes or (5, 5, 5)
    layer = nn.ConvTranspose(
        3,
        kernel_size=tuple(2 * f - f % 2 for f in factor),
        strides=factor,
        kernel_init=jaxinit.bilinear(factor),
        use_bias=False,
        precision="highest",
    )
    x = jax.random.normal(fresh(key), (2, *sizes, 3))
    y, _ = layer.init_with_output(fresh(key), x)
    wanted = jax.image.resize(x, y.shape, "bilinear")
    inside = (slice(None), *(slice(f, -f) for f in factor))
    chex.assert_trees_all_close(y[inside], wanted[inside], atol=1e-5)


def phases(w: jax.Array, factor: tuple[int, ...]) -> np.ndarray:
    """What each phase of the finer grid makes of a constant image."""
    kernel, every = np.asarray(w), np.ndindex(factor)
    cut = [
        tuple(slice(p, None, f) for p, f in zip(ps, factor, strict=True))
        for ps in every
    ]
    return np.array([kernel[one].sum(axis=tuple(range(len(factor)))) for one in cut])


@pytest.mark.parametrize(
    ("window", "factor"),
    [
        ((3,), (2,)),
        ((5,), (2,)),
        ((7, 6), (3, 2)),
        ((4, 9), (1, 4)),
        ((6, 3, 4), (3, 2, 2)),
    ],
    ids=str,
)
def test_bilinear_has_no_checkerboard(window, factor, key):
    w = jaxinit.bilinear(factor)(key, (*window, 2, 2))
    sums = phases(w, factor)
    np.testing.assert_allclose(sums, np.broadcast_to(np.eye(2), sums.shape), atol=1e-6)


def test_glorot_and_the_tent_of_the_window_have_one(key):
    spread = np.ptp(phases(jaxinit.glorot_normal()(key, (4, 4, 1, 1)), (2, 2)))
    assert spread > 0.1
    tent = 1 - abs(np.arange(5) - 2) / 3  # of window 5 alone, used with strides of 2
    assert np.ptp(phases(jnp.asarray(tent)[:, None, None], (2,))) > 0.3


def test_depthwise_bilinear(key):
    one = jaxinit.bilinear(2)(fresh(key), (4, 4, 1, 1))
    many = jaxinit.bilinear(2)(fresh(key), (4, 4, 1, 5))
    chex.assert_trees_all_equal(many, jnp.tile(one, (1, 1, 1, 5)))


@pytest.mark.parametrize("shape", [(4, 5, 2, 2), (6, 5, 1, 3)], ids=str)
def test_the_moments_of_bilinear(shape, key):
    init = jaxinit.bilinear((2, 3))
    w, law = np.asarray(init(key, shape), np.float64), init.law(shape)
    stated = (law.mean, law.std, law.low, law.high)
    np.testing.assert_allclose(stated, (w.mean(), w.std(), w.min(), w.max()), rtol=1e-6)


# orthogonal convolutions


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((5, 6, 4), "complex64"),
        ((3, 3, 4, 6), "float32"),
        ((3, 2, 4, 3, 5), "float32"),
    ],
    ids=str,
)
def test_conv_orthogonal_keeps_the_energy_of_every_image(shape, dtype, key):
    """At every frequency of a circular grid the layer is a matrix with W Wᴴ = 1."""
    *window, n, m = shape
    w = np.asarray(jaxinit.conv_orthogonal(1.5)(key, shape, dtype))
    at = np.fft.fftn(w, [8] * len(window), axes=range(len(window)))
    singular = np.linalg.svd(at, compute_uv=False)
    assert singular.shape[-1] == min(n, m)
    np.testing.assert_allclose(singular, 1.5, atol=1e-5)
    taps = np.sqrt((abs(w) ** 2).sum((-1, -2)))
    assert taps.min() > 0.01  # every tap is at work
    energy = (taps**2).sum() / w.size
    stated = jaxinit.conv_orthogonal(1.5).law(shape).std
    np.testing.assert_allclose(math.sqrt(energy), stated, rtol=1e-5)


def test_conv_orthogonal_on_an_image(key):
    w = jaxinit.conv_orthogonal(1.5)(fresh(key), (3, 3, 4, 6))
    x = jax.random.normal(fresh(key), (2, 8, 8, 4))
    before, after = (np.linalg.norm(v) for v in (x, conv(x, w)))
    np.testing.assert_allclose(after, 1.5 * before, rtol=1e-5)


def test_blocks_of_kernels_keep_the_energy_of_each_group(key):
    """A kernel drawn for all groups at once sends each a part of its energy."""
    x = whole(fresh(key), (2, 4, 4, 4))
    init, kept = jaxinit.hadamard(), []
    for kernel in (jaxinit.blocks(init, 2), init):
        w = kernel(fresh(key), (3, 3, 2, 4))
        y, _ = layer(w, groups=2).init_with_output(fresh(key), x)
        before, after = ((np.asarray(v) ** 2).sum((0, 1, 2)) for v in (x, y))
        kept.append(after.reshape(2, 2).sum(1) / before.reshape(2, 2).sum(1))
    np.testing.assert_allclose(kept[0], 1, rtol=1e-5)
    assert (kept[1] < 0.9).all()


def test_a_flattened_orthogonal_kernel_does_not(key):
    w = np.asarray(jaxinit.orthogonal()(key, (3, 3, 4, 6)))
    singular = np.linalg.svd(np.fft.fftn(w, [8, 8], axes=(0, 1)), compute_uv=False)
    assert np.ptp(singular) > 0.1


def test_conv_orthogonal_of_one_channel_is_a_shift(key):
    w = np.asarray(jaxinit.conv_orthogonal()(key, (3, 3, 1, 1)))
    assert sorted(abs(w).ravel().tolist()) == [0.0] * 8 + [1.0]
