# SPDX-License-Identifier: Apache-2.0
"""The infinitely wide network: lengths, correlations and gradients, layer by layer."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxinit.core import Real
from jaxinit.core import checks as check
from jaxinit.gains import Activation, function_of
from jaxinit.theory.kernels import activation_of, growth, kernel, moment
from jaxinit.theory.numbers import (
    Numbers,
    covariance_of,
    host_number,
    lengths_of,
    numbers_of,
    vectorize,
)
from jaxinit.theory.roots import root

EDGE = 1e-9  # how far from 1 a slope is 1; the integrals are good to 1e-12
TINY, HUGE = 1e-20, 1e20  # the lengths at which the limits q → 0 and q → ∞ are taken
_FIXED = 1e-10  # the change of length, relative, of a length that stays
_GONE, _BLOWN = 1e-10, 1e12  # lengths beyond which no fixed point is looked for


@dataclass(frozen=True, repr=False)
class MeanField:
    """The mean-field theory of a wide network z′ = W f(z) + b at its initialisation.

    Weights and biases are independent, Var W = σ_w² / fan_in and Var b = σ_b². As the
    layers grow wide the pre-activations z become Gaussian, and two numbers say all: the
    length q = E z² of one input, and the correlation c of two. A layer takes

    - q to V(q) = σ_w² E f(√q z)² + σ_b², the length map, z ~ N(0, 1);
    - c to C(c) = (σ_w² E f(u) f(v) + σ_b²) / V(q), the correlation map, u and v of
      variance q and correlation c;
    - the variance of the gradient, going backward, to σ_w² E f′(√q z)² times it.

    Lengths that start at q settle at q* = V(q*). There the slope of the correlation
    map at c = 1, χ_1 = σ_w² E f′(√q* z)², is also the growth of the gradient per layer:
    below 1 inputs become alike and gradients vanish (the ordered phase), above 1 inputs
    part and gradients explode (chaotic), at 1 both last (critical, the edge of chaos).

    All numbers are computed on the host in float64, to about ten digits, and layers
    are as wide as those before. Everything is exact for f without jumps; f′ is that of
    `jax.grad`, which does not see a jump.

    Args:
        activation: f, by a name of `jaxinit.gain` or as an elementwise callable.
        sigma_w: σ_w, positive: `variance_scaling(sigma_w**2, "fan_in", "normal")`.
        sigma_b: σ_b, the standard deviation of the biases.
        q: the length from which the signal starts, 0 or positive. It tells which fixed
            point is meant where there are several (GELU), or where all q are (ReLU).

    Raises:
        ValueError: for an unknown activation, one that is not elementwise, or numbers
            out of range; later, for moments of f that are infinite.
        TypeError: for what is no number or no function, or is traced.

    Example:
        >>> from jaxinit.theory import MeanField
        >>> tanh = MeanField("tanh", sigma_w=1.0, sigma_b=0.05**0.5)
        >>> tanh.phase, round(tanh.q_star, 6), round(tanh.xi_c, 4)
        ('ordered', 0.193593, 3.627)
        >>> relu = MeanField("relu", sigma_w=2**0.5)  # He et al. 2015
        >>> bool(abs(relu.lengths(50)[-1] - 1) < 1e-9), relu.phase
        (True, 'critical')

    References:
        Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli, "Exponential expressivity in deep
            neural networks through transient chaos", 2016, arXiv:1606.05340, eqs. 3
            (length map), 5 (correlation map), 6 (χ_1); Schoenholz, Gilmer, Ganguli,
            Sohl-Dickstein, "Deep Information Propagation", 2017, arXiv:1611.01232
            (depth scales, gradients).
    """

    activation: str | Activation
    sigma_w: float
    sigma_b: float = 0.0
    q: float = 1.0

    def __post_init__(self) -> None:
        with check.speaker("MeanField"):
            plain = {
                "activation": activation_of(self.activation),
                "sigma_w": host_number("sigma_w", self.sigma_w, above=0.0),
                "sigma_b": host_number("sigma_b", self.sigma_b, low=0.0),
                "q": host_number("q", self.q, low=0.0),
            }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        words = [repr(self.activation), f"sigma_w={self.sigma_w!r}"]
        words += [f"sigma_b={self.sigma_b!r}"] if self.sigma_b else []
        words += [f"q={self.q!r}"] if self.q != 1 else []
        return f"MeanField({', '.join(words)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return MeanField, (self.activation, self.sigma_w, self.sigma_b, self.q)

    @property
    def _f(self) -> Activation:
        return function_of(self.activation)

    def length(self, q: Numbers) -> Any:
        """The length map V(q) = σ_w² E f(√q z)² + σ_b²."""

        def one(q: float) -> float:
            return self.sigma_w**2 * moment(self._f, q) + self.sigma_b**2

        return vectorize(one, lengths_of("q", q))

    def covariance(self, k: Numbers, q1: Numbers, q2: Numbers) -> Any:
        """The covariance σ_w² E f(u) f(v) + σ_b², after u, v of covariance k."""

        def one(k: float, q1: float, q2: float) -> float:
            c = min(max(k / math.sqrt(q1 * q2), -1.0), 1.0) if q1 * q2 else 1.0
            return self.sigma_w**2 * kernel(self._f, c, q1, q2) + self.sigma_b**2

        return vectorize(one, *covariance_of(k, q1, q2))

    def correlation(self, c: Numbers, q: Numbers = None) -> Any:
        """The correlation map C(c), of two inputs of length q, by default q*."""
        q = self._finite_length if q is None else lengths_of("q", q)
        c = numbers_of("c", c)
        if not (abs(c) <= 1).all():
            raise ValueError(f"correlation: c must be from -1 to 1, got {c}")
        return vectorize(
            lambda c, q: self.covariance(c * q, q, q) / self.length(q), c, q
        )

    @functools.cached_property
    def q_star(self) -> float:
        """The fixed point of the length map to which lengths go from q.

        0 where they vanish, inf where they blow up, and q itself where q is a fixed
        point, stable or not. (They never oscillate: at a fixed point the slope of the
        length map is -1/2 at least, for V(q) √q grows with q.)
        """
        q = self.q or self.length(0.0)
        if q == 0 or abs(self._drift(q)) < _FIXED:
            return q
        sign = math.copysign(1.0, self._drift(q))
        least = min(_GONE, self.length(0.0) / 2 or _GONE)
        step = 0.05  # of log q, growing: nearby fixed points are not stepped over
        while True:
            beyond = q * math.exp(sign * step)
            if not least < beyond < max(_BLOWN, 2 * self.q):
                return 0.0 if sign < 0 else math.inf
            if self._drift(beyond) * sign <= 0:
                break
            q, step = beyond, min(1.3 * step, 1.5)
        log_q = root(lambda t: self._drift(math.exp(t)), math.log(q), math.log(beyond))
        return math.exp(log_q)

    def _drift(self, q: float) -> float:
        return float(self.length(q)) / q - 1

    @property
    def _finite_length(self) -> float:
        """q*, or a length near enough to 0 or ∞."""
        return min(max(self.q_star, TINY), HUGE)

    @functools.cached_property
    def chi_1(self) -> float:
        """The slope of the correlation map at 1, χ_1 = σ_w² E f′(√q* z)².

        It is also the growth of the gradient's variance, per layer backward.
        """
        return self.sigma_w**2 * moment(self._f, self._finite_length, derivative=True)

    @functools.cached_property
    def chi_q(self) -> float:
        """The slope of the length map at q*, σ_w² E z f(√q* z) f′(√q* z) / √q*."""
        return self.sigma_w**2 * growth(self._f, self._finite_length)

    @functools.cached_property
    def c_star(self) -> float:
        """The correlation to which any two inputs go: 1 unless the phase is chaotic.

        Where lengths vanish or blow up (q* is 0 or inf) it is taken to be 1.
        """
        q = self._finite_length
        if q != self.q_star or self.chi_1 <= 1 + EDGE:
            return 1.0

        def chord(c: float) -> float:  # of C from c to 1, less 1: increasing in c
            if c == 1:
                return self.chi_1 - 1
            fall = moment(self._f, q) - kernel(self._f, c, q, q)
            return self.sigma_w**2 * fall / (q * (1 - c)) - 1

        return 0.0 if chord(0.0) > -EDGE else root(chord, 0.0, 1.0)

    @functools.cached_property
    def chi_c(self) -> float:
        """The slope of the correlation map at c*, χ_c = σ_w² E f′(u) f′(v)."""
        q = self._finite_length
        return self.sigma_w**2 * kernel(self._f, self.c_star, q, q, derivative=True)

    @property
    def xi_q(self) -> float:
        """The layers in which a length nears q* by a factor e, ξ_q = -1 / ln χ_q."""
        return _depth_scale(self.chi_q)

    @property
    def xi_c(self) -> float:
        """The layers in which a correlation nears c* by a factor e, ξ_c = -1 / ln χ_c.

        Infinite at the edge of chaos, where it nears it by a power of the depth only.
        Where q* is 0 or inf it tells of covariances, and is negative if these grow.
        """
        return _depth_scale(self.chi_c)

    @property
    def xi_grad(self) -> float:
        """The layers in which gradients shrink by a factor e, ξ_∇ = -1 / ln χ_1.

        Infinite at the edge of chaos; negative in the chaotic phase, where they grow.
        """
        return _depth_scale(self.chi_1)

    @property
    def trainable_depth(self) -> float:
        """About how deep such a network can be and still train, 6 |ξ_c|.

        An observation on fully connected tanh networks (Schoenholz et al. 2017), not a
        law.
        """
        return 6 * abs(self.xi_c)

    @property
    def phase(self) -> str:
        """One of "ordered", "critical" and "chaotic": χ_1 below, at or above 1."""
        if abs(self.chi_1 - 1) <= EDGE:
            return "critical"
        return "ordered" if self.chi_1 < 1 else "chaotic"

    def lengths(self, depth: int, q: Real = None) -> np.ndarray:
        """The lengths q_0 = q to q_depth, layer by layer: shape (depth + 1,)."""
        depth = check.integer("depth", depth, low=0)
        found = [self.q if q is None else host_number("q", q, low=0.0)]
        for _ in range(depth):
            found.append(self.length(found[-1]))
        return np.array(found)

    def correlations(self, depth: int, c: Real, q: Real = None) -> np.ndarray:
        """The correlations c_0 = c to c_depth, two inputs of length q: (depth + 1,)."""
        found = [host_number("c", c, low=-1.0, high=1.0)]
        for length in self.lengths(depth, q)[:-1]:
            found.append(min(self.correlation(found[-1], length), 1.0))
        return np.array(found)

    def gradients(self, depth: int, q: Real = None) -> np.ndarray:
        """The variance of ∂loss/∂z_l over that of the last layer: shape (depth + 1,).

        Lengths start at q, so that the transient counts; the last entry is 1.
        """
        factors = [
            self.sigma_w**2 * moment(self._f, float(max(q, TINY)), derivative=True)
            for q in self.lengths(depth, q)[:-1]
        ]
        return np.cumprod([1.0, *factors[::-1]])[::-1]

    def jacobian_spread(self, depth: int, *, orthogonal: bool = False) -> float:
        """The variance of the squared singular values of the Jacobian ∂z_depth/∂z_0.

        χ_1^(2 depth) · depth · (μ_2 / μ_1² - 1 - s) at q*, with μ_k = E f′(√q* z)^(2k),
        s = -1 for Gaussian weights and 0 for orthogonal ones; their mean is χ_1^depth
        (Pennington, Schoenholz, Ganguli 2017, arXiv:1711.04735, eq. 18).
        """
        depth = check.integer("depth", depth, low=0)
        gaussian = not check.flag("orthogonal", orthogonal)
        mu_1, mu_2 = (moment(self._f, self._finite_length, n, True) for n in (2, 4))
        return self.chi_1 ** (2 * depth) * depth * (mu_2 / mu_1**2 - 1 + gaussian)


def _depth_scale(chi: float) -> float:
    if abs(chi - 1) <= EDGE:
        return math.inf
    return -1 / math.log(abs(chi)) if chi else 0.0
