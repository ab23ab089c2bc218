# SPDX-License-Identifier: Apache-2.0
"""The letters of an einsum between a layer's inputs and its kernel."""


def operands(equation: object) -> tuple[str, str, str]:
    """The letters of the inputs, the kernel and the output, or a refusal in words."""
    form = "'inputs,kernel->output', as in 'bth,hdf->btdf'"
    if not isinstance(equation, str) or equation.count("->") != 1:
        raise ValueError(f"equation must read {form}, got {equation!r}")
    left, output = equation.replace(" ", "").replace("...", "").split("->")
    if left.count(",") != 1 or not (left.replace(",", "") + output).isalpha():
        raise ValueError(f"equation must read {form}, got {equation!r}")
    inputs, kernel = left.split(",")
    if len(set(kernel)) < len(kernel):
        raise ValueError(f"the kernel of {equation!r} must not repeat a letter")
    if len(set(output)) < len(output) or not set(output) <= set(left):
        raise ValueError(
            f"the output of {equation!r} must have letters of the operands, each once"
        )
    if alone := sorted(set(inputs) - set(kernel + output)):
        raise ValueError(
            f"{equation!r} sums its inputs over {', '.join(alone)}, whose sizes no "
            "kernel tells; use Fans.explicit(fan_in, fan_out)"
        )
    return inputs, kernel, output
