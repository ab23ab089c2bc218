# SPDX-License-Identifier: Apache-2.0
"""Mean-field theory: what an initialisation does to the signal of a wide deep network.

`MeanField` is a network by its activation, σ_w and σ_b; `critical` finds the point on
the edge of chaos, where deep networks can be trained. The kernels of ReLU and erf in
closed form are what the quadrature is held to.

Example:
    >>> from jaxinit import theory
    >>> tanh = theory.critical("tanh", q=1.0)
    >>> abs(tanh.sigma_w - 1.46741359) < 1e-8, abs(tanh.sigma_b - 0.38854167) < 1e-8
    (True, True)
"""

from jaxinit.theory.critical import critical, erf_kernel, relu_kernel
from jaxinit.theory.kernels import activation_of as activation_of
from jaxinit.theory.kernels import critical_variances as critical_variances
from jaxinit.theory.kernels import growth as growth
from jaxinit.theory.kernels import kernel as kernel
from jaxinit.theory.kernels import moment as moment
from jaxinit.theory.mean_field import MeanField
from jaxinit.theory.numbers import host_number as host_number

__all__ = ["MeanField", "critical", "erf_kernel", "relu_kernel"]
