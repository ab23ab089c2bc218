# SPDX-License-Identifier: Apache-2.0
"""The one table of cases: every public initializer, and what is peculiar to it.

The laws are tests over this table. A factory that is public and not here fails
`test_house.py`. Exceptions are data of the row, never a name in a test.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.integrate
import scipy.stats

import jaxinit
from jaxinit import Fans

jnn = jax.nn.initializers

FAN_IN, FAN_OUT = 2048, 512  # 2²⁰ entries find an error of scale of 1 %
FAN_AVG = (FAN_IN + FAN_OUT) / 2
UNIFORM, TRUNCATED = 1.8, 2.3656169  # E z⁴ of U(-1, 1) and of N(0, 1) cut at 2


@dataclasses.dataclass(frozen=True)
class Case:
    """One initializer and what the laws need to know of it."""

    init: jaxinit.Initializer
    names: tuple[str, ...]  # the public names that this row covers
    shape: tuple[int, ...] = (FAN_IN, FAN_OUT)
    small: tuple[int, ...] = (6, 4)
    jax: Callable[..., Any] | None = None  # JAX's own, bit for bit (law 3)
    jax_complex: bool = False  # and for complex64 and complex128 too
    law: Any = None  # the scipy distribution of the entries of `shape` (law 6)
    kurtosis: float = 3.0  # E z⁴ of that distribution
    random: bool = True  # entries depend on the key
    complex: bool = True  # complex dtypes are defined
    complex_factor: float = 1.0  # E |w|² of complex entries over E w² of real ones
    products: bool = False  # multiplies matrices: equal to rounding elsewhere

    @property
    def id(self) -> str:
        return f"{self.names[0]}-{self.init!r}"


def _norm(std: float) -> Any:
    return scipy.stats.norm(0, std)


def _sym(end: float) -> Any:
    return scipy.stats.uniform(-end, 2 * end)


def _cut(std: float) -> Any:
    """A normal cut at two standard deviations, of that standard deviation after."""
    return scipy.stats.truncnorm(-2, 2, 0, std / 0.87962566103423978)


class _Mapped:
    """An increasing function of u ~ U(0, 1) and its inverse, as scipy would have it."""

    def __init__(self, f: Callable[[Any], Any], back: Callable[[Any], Any]) -> None:
        self.f, self.back = f, back

    def moment(self, power: int, about: float = 0.0) -> float:
        def integrand(u: float) -> float:
            return (self.f(u) - about) ** power

        return scipy.integrate.quad(integrand, 0, 1, epsabs=1e-13, limit=200)[0]

    def mean(self) -> float:
        return self.moment(1)

    def var(self) -> float:
        return self.moment(2, self.mean())

    def std(self) -> float:
        return math.sqrt(self.var())

    def kurtosis(self) -> float:
        return self.moment(4, self.mean()) / self.var() ** 2

    def cdf(self, x: Any) -> Any:
        return np.clip(self.back(x), 0, 1)

    def support(self) -> tuple[float, float]:
        with np.errstate(divide="ignore"):
            return float(self.f(0.0)), float(self.f(1.0))


RING = _Mapped(  # of |λ|² in U(0.9², 0.99²)
    lambda u: np.log(np.log(0.9801 - 0.1701 * u) / -2),
    lambda x: (0.9801 - np.exp(-2 * np.exp(x))) / 0.1701,
)
PHASE = _Mapped(lambda u: np.log(2 * np.pi * u), lambda x: np.exp(x) / (2 * np.pi))
STEPS = _Mapped(
    lambda u: np.log(np.expm1(1e-3 * 100**u)),
    lambda x: np.log(np.log1p(np.exp(x)) / 1e-3) / np.log(100),
)
GELU = 1.0 / math.sqrt(1 / 3 + 1 / (2 * math.pi * math.sqrt(3)))  # the forward gain


CASES = [
    # the law
    Case(
        jaxinit.variance_scaling(3.0, "fan_out", "normal"),
        ("variance_scaling",),
        jax=jnn.variance_scaling(3.0, "fan_out", "normal"),
        jax_complex=True,
        law=_norm(math.sqrt(3 / FAN_OUT)),
    ),
    Case(
        jaxinit.variance_scaling(0.5, "fan_avg", "uniform"),
        ("variance_scaling",),
        jax=jnn.variance_scaling(0.5, "fan_avg", "uniform"),
        jax_complex=True,
        law=_sym(math.sqrt(3 * 0.5 / FAN_AVG)),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.variance_scaling(1.5, "fan_geo_avg", "truncated_normal"),
        ("variance_scaling",),
        jax=jnn.variance_scaling(1.5, "fan_geo_avg", "truncated_normal"),
        law=_cut(math.sqrt(1.5 / math.sqrt(FAN_IN * FAN_OUT))),
        kurtosis=TRUNCATED,
    ),
    Case(
        jaxinit.variance_scaling(1.0, "fan_in", "normal", 1, (0,), 2),
        ("variance_scaling",),
        shape=(32, 64, 512),
        small=(3, 4, 5),
        jax=jnn.variance_scaling(1.0, "fan_in", "normal", 1, (0,), 2),
        jax_complex=True,
        law=_norm(1 / 8),
    ),
    Case(
        jaxinit.variance_scaling(1.0, "fan_in", "uniform", fans=Fans.explicit(48, 1)),
        ("variance_scaling",),
        law=_sym(0.25),
        kurtosis=UNIFORM,
    ),
    # JAX and Keras
    Case(
        jaxinit.lecun_normal(),
        ("lecun_normal",),
        jax=jnn.lecun_normal(),
        law=_cut(FAN_IN**-0.5),
        kurtosis=TRUNCATED,
    ),
    Case(
        jaxinit.lecun_uniform(),
        ("lecun_uniform",),
        jax=jnn.lecun_uniform(),
        jax_complex=True,
        law=_sym(math.sqrt(3 / FAN_IN)),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.glorot_normal(),
        ("glorot_normal",),
        jax=jnn.glorot_normal(),
        law=_cut(FAN_AVG**-0.5),
        kurtosis=TRUNCATED,
    ),
    Case(
        jaxinit.glorot_uniform(),
        ("glorot_uniform",),
        jax=jnn.glorot_uniform(),
        jax_complex=True,
        law=_sym(math.sqrt(3 / FAN_AVG)),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.he_normal(),
        ("he_normal",),
        jax=jnn.he_normal(),
        law=_cut(math.sqrt(2 / FAN_IN)),
        kurtosis=TRUNCATED,
    ),
    Case(
        jaxinit.he_uniform(in_axis=0, out_axis=1),
        ("he_uniform",),
        jax=jnn.he_uniform(in_axis=0, out_axis=1),
        jax_complex=True,
        law=_sym(math.sqrt(6 / FAN_IN)),
        kurtosis=UNIFORM,
    ),
    # PyTorch
    Case(
        jaxinit.kaiming_normal("fan_out", "relu"),
        ("kaiming_normal",),
        law=_norm(math.sqrt(2 / FAN_OUT)),
    ),
    Case(
        jaxinit.kaiming_normal(nonlinearity="gelu"),
        ("kaiming_normal",),
        law=_norm(GELU / math.sqrt(FAN_IN)),
    ),
    Case(
        jaxinit.kaiming_uniform(a=math.sqrt(5)),
        ("kaiming_uniform",),
        law=_sym(FAN_IN**-0.5),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.xavier_normal(5 / 3),
        ("xavier_normal",),
        law=_norm(5 / 3 / math.sqrt(FAN_AVG)),
    ),
    Case(
        jaxinit.xavier_uniform(0.5),
        ("xavier_uniform",),
        law=_sym(0.5 * math.sqrt(3 / FAN_AVG)),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.torch_linear(),
        ("torch_linear",),
        law=_sym(FAN_IN**-0.5),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.torch_bias(64),
        ("torch_bias",),
        shape=(2**20,),
        small=(5,),
        law=_sym(1 / 8),
        kurtosis=UNIFORM,
        complex_factor=2.0,  # both parts are drawn so
    ),
    # elementary
    Case(jaxinit.zeros, ("zeros",), jax=jnn.zeros, jax_complex=True, random=False),
    Case(jaxinit.ones, ("ones",), jax=jnn.ones, jax_complex=True, random=False),
    Case(jaxinit.zeros_init(), ("zeros_init",), jax=jnn.zeros, random=False),
    Case(jaxinit.ones_init(), ("ones_init",), jax=jnn.ones, random=False),
    Case(
        jaxinit.constant(-0.3),
        ("constant",),
        jax=jnn.constant(-0.3),
        jax_complex=True,
        random=False,
    ),
    Case(
        jaxinit.constant([1.0, 2.0, 3.0, 4.0]),
        ("constant",),
        shape=(3, 4),
        jax=jnn.constant(np.array([1.0, 2.0, 3.0, 4.0])),
        random=False,
    ),
    Case(
        jaxinit.normal(0.1),
        ("normal",),
        jax=jnn.normal(0.1),
        jax_complex=True,
        law=_norm(0.1),
    ),
    Case(jaxinit.normal(2.0, mean=-1.0), ("normal",), law=scipy.stats.norm(-1, 2)),
    Case(
        jaxinit.uniform(0.3),
        ("uniform",),
        jax=jnn.uniform(0.3),
        law=scipy.stats.uniform(0, 0.3),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.uniform_between(-1.0, 3.0),
        ("uniform_between",),
        law=scipy.stats.uniform(-1, 4),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.truncated_normal(0.1),
        ("truncated_normal",),
        jax=jnn.truncated_normal(0.1),
        law=scipy.stats.truncnorm(-2, 2, 0, 0.1),
        kurtosis=TRUNCATED,
        complex_factor=(0.96196182800821354 / 0.87962566103423978) ** 2,
    ),
    Case(
        jaxinit.truncated_normal(1.0, lower=-0.5, upper=1.5),
        ("truncated_normal",),
        jax=jnn.truncated_normal(1.0, lower=-0.5, upper=1.5),
        law=scipy.stats.truncnorm(-0.5, 1.5),
        complex=False,
    ),
    Case(
        jaxinit.truncated_normal(2.0, correct_std=True),
        ("truncated_normal",),
        law=_cut(2.0),
        kurtosis=TRUNCATED,
    ),
    Case(
        jaxinit.truncated_normal(1.0, lower=8.0, upper=9.0),
        ("truncated_normal",),
        law=scipy.stats.truncnorm(8, 9),
        kurtosis=9.0,
        complex=False,
    ),
    Case(
        jaxinit.trunc_normal(0.5, 1.0, -1.0, 1.0),
        ("trunc_normal",),
        law=scipy.stats.truncnorm(-1.5, 0.5, 0.5),
        complex=False,
    ),
    # linear algebra
    Case(jaxinit.orthogonal(), ("orthogonal",), products=True),
    Case(
        jaxinit.orthogonal(2.0, 0, batch_axis=1),
        ("orthogonal",),
        shape=(32, 3, 48),
        small=(4, 2, 3),
        products=True,
    ),
    Case(
        jaxinit.orthogonal(0.5, method="qr"),
        ("orthogonal",),
        shape=(64, 32),
        jax=jnn.orthogonal(0.5),
        jax_complex=True,
        products=True,
    ),
    Case(
        jaxinit.delta_orthogonal(),
        ("delta_orthogonal",),
        shape=(3, 3, 16, 32),
        small=(3, 2, 4),
        products=True,
    ),
    Case(
        jaxinit.delta_orthogonal(2.0, method="qr"),
        ("delta_orthogonal",),
        shape=(3, 3, 16, 32),
        small=(3, 2, 4),
        jax=jnn.delta_orthogonal(2.0),
        jax_complex=True,
        products=True,
    ),
    Case(jaxinit.identity(0.5), ("identity",), random=False),
    Case(
        jaxinit.dirac(2),
        ("dirac",),
        shape=(3, 3, 4, 8),
        small=(2, 3, 4),
        random=False,
    ),
    Case(jaxinit.sparse(0.25, 0.1), ("sparse",)),
    Case(
        jaxinit.conv_orthogonal(0.5),
        ("conv_orthogonal",),
        shape=(3, 2, 16, 32),
        small=(3, 2, 4),
        products=True,
    ),
    Case(
        jaxinit.spectral_normal(0.5),
        ("spectral_normal",),
        law=_norm(0.5 * math.sqrt(FAN_OUT) / FAN_IN),
    ),
    Case(
        jaxinit.spectral_normal(fans=Fans.explicit(16, 64)),
        ("spectral_normal",),
        law=_norm(1 / 4),
    ),
    Case(
        jaxinit.spectral_orthogonal(0.5),
        ("spectral_orthogonal",),
        shape=(64, 32),
        products=True,
    ),
    Case(jaxinit.noisy_identity(0.0, 0.25), ("noisy_identity",), law=_norm(0.25)),
    Case(jaxinit.hadamard(), ("hadamard",), random=False),
    Case(
        jaxinit.hadamard(-0.5),
        ("hadamard",),
        shape=(3, 3, 20, 48),
        small=(3, 2, 3),
        random=False,
    ),
    # complex
    Case(
        jaxinit.rayleigh(),
        ("rayleigh",),
        law=_norm(FAN_AVG**-0.5),
    ),
    Case(
        jaxinit.rayleigh("he"),
        ("rayleigh",),
        law=_norm(math.sqrt(2 / FAN_IN)),
    ),
    # biases
    Case(
        jaxinit.forget_gate(2.0),
        ("forget_gate",),
        shape=(64,),
        small=(2, 4),
        random=False,
    ),
    Case(
        jaxinit.chrono(100),
        ("chrono",),
        shape=(2**20,),
        small=(2, 4),
        complex=False,
    ),
    Case(
        jaxinit.prior_probability(),
        ("prior_probability",),
        shape=(64,),
        small=(5,),
        random=False,
    ),
    # state spaces
    Case(jaxinit.s4d_decay(), ("s4d_decay",), random=False),
    Case(jaxinit.s4d_decay("real"), ("s4d_decay",), random=False),
    Case(jaxinit.s4d_frequency(), ("s4d_frequency",), random=False),
    Case(jaxinit.s4d_frequency("inv"), ("s4d_frequency",), random=False),
    Case(
        jaxinit.lru_nu(0.9, 0.99),
        ("lru_nu",),
        law=RING,
        kurtosis=RING.kurtosis(),
        complex=False,
    ),
    Case(
        jaxinit.lru_theta(),
        ("lru_theta",),
        law=PHASE,
        kurtosis=PHASE.kurtosis(),
        complex=False,
    ),
    Case(
        jaxinit.lru_gamma([-1.0, -2.0, -3.0, 0.5]),
        ("lru_gamma",),
        shape=(3, 4),
        random=False,
    ),
    Case(
        jaxinit.mamba_dt(),
        ("mamba_dt",),
        law=STEPS,
        kurtosis=STEPS.kurtosis(),
        complex=False,
    ),
    # upsampling
    Case(
        jaxinit.icnr(jaxinit.kaiming_normal(), 2),
        ("icnr",),
        shape=(3, 3, 64, 512),
        small=(3, 2, 4),
    ),
    Case(
        jaxinit.bilinear((2, 3)),
        ("bilinear",),
        shape=(4, 5, 8, 8),
        small=(4, 5, 2, 2),
        random=False,
    ),
    # coordinates
    Case(
        jaxinit.siren(15.0),
        ("siren",),
        law=_sym(math.sqrt(6 / FAN_IN) / 15),
        kurtosis=UNIFORM,
    ),
    Case(jaxinit.fourier_features(2.5), ("fourier_features",), law=_norm(2.5)),
    Case(
        jaxinit.siren(first=True, fans=Fans.explicit(20, 1)),
        ("siren",),
        law=_sym(1 / 20),
        kurtosis=UNIFORM,
    ),
    # combinators
    Case(
        jaxinit.scaled(jaxinit.he_normal(), -0.5),
        ("scaled",),
        law=_cut(math.sqrt(2 / FAN_IN) / 2),
        kurtosis=TRUNCATED,
    ),
    Case(
        jaxinit.scaled(jaxinit.uniform(0.3), 2.0),
        ("scaled",),
        law=scipy.stats.uniform(0, 0.6),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.stacked(jaxinit.lecun_uniform()),
        ("stacked",),
        shape=(16, 48, 128),
        small=(2, 3, 4),
        law=_sym(0.25),
        kurtosis=UNIFORM,
    ),
    Case(
        jaxinit.blocks(jaxinit.orthogonal(), 4),
        ("blocks",),
        shape=(32, 128),
        small=(3, 8),
        products=True,
    ),
    Case(
        jaxinit.blocks(jaxinit.kaiming_normal("fan_out", "relu"), 2, axis=0),
        ("blocks",),
        law=_norm(math.sqrt(2 / FAN_OUT)),
    ),
]

RANDOM = [case for case in CASES if case.random]


def program(case: Case) -> str:
    """What is compiled for a row, numbers aside.

    The rows of the scaled families differ in a number that is known before anything
    is traced; their programs differ in the distribution alone.
    """
    init = case.init
    return init.arguments.get("distribution") or repr(init)


WITH_JAX = [case for case in CASES if case.jax is not None]
WITH_LAW = [case for case in CASES if case.law is not None]


def one_a_program(cases: list[Case]) -> list[Case]:
    """The first row of each kind: for laws about programs rather than values."""
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(program(case), case)
    return list(found.values())


def ids(case: Case) -> str:
    return case.id
