# SPDX-License-Identifier: Apache-2.0
"""The fans that are read are those that are counted and drawn, of every kernel.

`oracle` follows each entry of each parameter by brute force, and counts at the
equations in which they meet the data.
"""

import dataclasses
import math

import numpy as np
import pytest

from jaxinit.network import Parameter
from tests.network import oracle
from tests.network.models import MODELS, ROLES
from tests.network.reading import NAMES, network, uses

QUICK = True  # see conftest.py

every_model = pytest.mark.parametrize("name", NAMES)


def is_kernel(use: oracle.Use) -> bool:
    """Whether more than one entry meets in a number: else it only scales it."""
    return (use.fan_in, use.fan_out) != (1, 1) or use.eqn.primitive.name == "gather"


def largest(p: Parameter, use: oracle.Use) -> np.ndarray:
    """The entries in a use, those of the largest part where there are parts."""
    if p.parts is None:
        return use.entries
    sizes = np.array(p.parts.sizes) // p.parts.repeats
    k = int(np.argmax(sizes))
    where = np.unravel_index(np.maximum(use.entries - 1, 0), p.shape)[p.parts.axis]
    where = where % sizes.sum() - sizes[:k].sum()
    return np.where((where >= 0) & (where < sizes[k]), use.entries, 0)


def counted(name: str, p: Parameter) -> set[tuple[str, float, float]]:
    """The roles and fans of a parameter by the oracle, of its largest part."""
    found: set[tuple[str, float, float]] = set()
    for use in filter(is_kernel, uses(name)[p.path]):
        if use.eqn.primitive.name == "gather":
            found.add(("embedding", 1, use.fan_out))
            continue
        entries = largest(p, use)
        if not entries.any():
            continue
        fan_in, fan_out = oracle.counts(use.eqn, use.side, entries)
        one_hot = p.path in MODELS[name].one_hot and fan_in == p.shape[0]
        role = "embedding" if one_hot else "kernel"
        found.add((role, 1 if one_hot else fan_in, fan_out))
    return found


def disagreements(name: str, parameters: dict[str, Parameter]) -> list[str]:
    """Where the fans that are read are not those that are counted."""
    found = []
    for path, p in parameters.items():
        ways = counted(name, p)
        read = {(p.role, p.fan_in, p.fan_out)} if p.fan_in is not None else set()
        if p.tied:
            read |= {use for use in p.uses if use[0] in ("kernel", "embedding")}
        if ways != read:
            found.append(f"{path}: counted {ways}, read {read}")
    return found


@pytest.mark.sweep
@every_model
def test_the_fans_are_those_that_are_counted(name):
    assert not disagreements(name, dict(network(name)))


@pytest.mark.thorough
def test_there_are_many_models_and_kernels():
    kernels = [p for name in NAMES for p in network(name).values() if p.fan_in]
    assert len(NAMES) >= 80 and len(kernels) >= 400


@pytest.mark.sweep
@every_model
def test_the_fans_count_as_they_say(name):
    """`fans`, of the shape of one kernel, are fan_in and fan_out."""
    for p in network(name).values():
        if p.fans is not None:
            assert p.fans(p.kernel(p.shape)) == (p.fan_in, p.fan_out), p.path


@every_model
def test_kernels_and_copies_make_up_the_parameter(name):
    for p in network(name).values():
        if p.fans is None:
            continue
        copies = math.prod(p.shape[i] for i in p.stack)
        parts = sum(p.parts.sizes) / max(p.parts.sizes) if p.parts else 1
        assert math.prod(p.kernel(p.shape)) * copies * parts == math.prod(p.shape)


@every_model
def test_what_counting_does_not_tell(name):
    case, found = MODELS[name], network(name)

    def where(holds):
        return {path for path, p in found.items() if holds(p)}

    parts = {
        p.path: (p.parts.sizes, p.parts.repeats) for p in found.values() if p.parts
    }
    assert parts == {path: (tuple(a), b) for path, (a, b) in case.parts.items()}
    assert where(lambda p: p.tied) == case.tied
    assert where(lambda p: p.invariant) == case.invariant
    assert where(lambda p: p.role == "unused") == case.unused
    ends = {p.path: p.primitive for p in found.values() if p.role == "unknown"}
    assert ends == case.ends
    kernels = where(lambda p: p.fan_in is not None)
    calls = {
        p.path: p.calls for p in found.values() if p.calls > 1 and p.path in kernels
    }
    assert calls == case.calls


NAMED = {
    "kernel": "kernel", "bias": "bias", "scale": "scale", "embedding": "embedding",
    "offset": "bias", "embeddings": "embedding",
}  # fmt: skip


@every_model
def test_parameters_do_what_their_names_say(name):
    case, found = MODELS[name], network(name)
    for path, p in found.items():
        if path in case.ends or path in case.unused:
            continue
        leaf = next(x for x in reversed(path.split("/")) if not x.isdigit())
        of_flax = NAMED.get(leaf)
        want = of_flax or ROLES.get(leaf[0])
        if leaf == "weight":  # Equinox: of a layer, a table or a normalisation
            continue
        if leaf in ("token", "places"):
            want = "token"
        assert p.role == want, f"{path}: {p.role}"


# --- the oracle itself ---


DRAWN = ["perceptron", "gpt2", "letters", "mapped", "lora", "llama", "qkv_interleaved"]


@pytest.mark.sweep
@pytest.mark.parametrize("name", DRAWN)
def test_draws_have_the_variance_that_is_counted(name):
    """E y² of unit kernels and inputs is fan_in, that of the way back fan_out."""
    for found in uses(name).values():
        for use in found:
            if use.eqn.primitive.name != "dot_general":
                continue
            squares = np.array([oracle.drawn(use, seed) for seed in range(16)])
            fans = np.array([use.fan_in, use.fan_out])
            error = squares.std(0, ddof=1) / 4
            assert np.all(np.abs(squares.mean(0) - fans) < 5 * error + 1e-3)


CONVOLUTIONS = ["conv_grouped", "conv_strided", "conv_dilated", "u_net", "convnext"]


@pytest.mark.sweep
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_draws_of_convolutions_have_the_variance_that_is_counted(name):
    """Forward, where no border and no dilated input is."""
    for found in uses(name).values():
        for use in found:
            params = use.eqn.params
            if set(params.get("lhs_dilation", (2,))) != {1}:
                continue
            data = use.eqn.invars[0].aval.shape
            window = [data[i] for i in params["dimension_numbers"].lhs_spec[2:]]
            kernel = [
                use.entries.shape[i] for i in params["dimension_numbers"].rhs_spec[2:]
            ]
            if any(a < b for a, b in zip(window, kernel, strict=True)):
                continue
            squares = np.array([oracle.drawn(use, seed)[0] for seed in range(16)])
            error = squares.std(ddof=1) / 4
            assert abs(squares.mean() - use.fan_in) < 5 * error + 1e-3


@pytest.mark.parametrize("name", ["perceptron", "gpt2", "u_net", "mapped"])
def test_swapped_fans_are_refuted(name):
    """The nearest wrong reading, fan_out for fan_in, does not pass."""
    found = dict(network(name))
    for path, p in found.items():
        if p.fan_in is None or p.fan_in == p.fan_out:
            continue
        wrong = dataclasses.replace(p, fan_in=p.fan_out, fan_out=p.fan_in)
        assert disagreements(name, {path: wrong})


@pytest.mark.parametrize("name", ["qkv_split", "llama", "lstm_fused"])
def test_parts_that_are_missed_are_refuted(name):
    for path in MODELS[name].parts:
        p = network(name)[path]
        wrong = dataclasses.replace(
            p,
            parts=None,
            fan_out=p.fan_out * sum(p.parts.sizes) / max(p.parts.sizes) * 2,
        )
        assert disagreements(name, {path: wrong})
