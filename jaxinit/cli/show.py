# SPDX-License-Identifier: Apache-2.0
"""`python -m jaxinit show CALL`: what an initializer promises, and what it gives."""

import argparse
import ast
import contextlib
import difflib
import inspect
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from jaxinit.core import (
    FACTORIES,
    SINGLE,
    Fans,
    Initializer,
    Law,
    Shape,
    available,
    find,
)
from jaxinit.core import checks as check
from jaxinit.trees import moments, z_scores

LARGEST = 2**25  # entries that `show` draws at most
ROWS, BAR = 21, 36  # of a histogram
EIGHTHS = " ▏▎▍▌▋▊▉"


class Refusal(Exception):
    """What the user wrote cannot be done; the message says why."""


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """The library's refusals, which are sentences already."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal(str(error)) from error


def show(args: argparse.Namespace) -> None:
    """What an initializer promises for a shape, and what a draw of it holds."""
    init = read_call(args.call)
    shape = _shape(args.shape)
    with in_words():
        dtype = np.dtype(jax.numpy.dtype(check.dtype_name("dtype", args.dtype)))
        wide = dtype.kind in "iufc" and dtype.itemsize // (1 + (dtype.kind == "c")) > 4
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            array = np.asarray(init(jax.random.key(args.seed), shape, dtype))
        law = init.law(shape) if init.states_law and dtype.kind != "c" else None

    call = args.call.strip()
    print(repr(init) if call == repr(init) else f"{call} = {init!r}")
    sizes = " × ".join(map(str, shape)) or "scalar"
    print(f"{sizes}, {array.dtype}, entries: {array.size}, seed: {args.seed}")
    for line in _fan_lines(init, shape):
        print(line)
    if array.size:
        entries = (np.abs(array) if dtype.kind == "c" else array).astype(np.float64)
        for line in _moment_lines(entries.ravel(), law, init.random, shape):
            print(line)
        if dtype.kind == "c":
            print("of the modulus |w|: the law is one of real entries")
        print()
        for line in histogram(entries.ravel(), law):
            print(line)


def _shape(text: str) -> Shape:
    words = [word for word in text.strip("()[] ").split(",") if word.strip()]
    try:
        shape = tuple(int(word) for word in words)
    except ValueError:
        raise Refusal(
            f"--shape must be sizes with commas between, like 3,3,64,128; got {text!r}"
        ) from None
    with in_words():
        check.shape(shape)
    if math.prod(shape) > LARGEST:
        raise Refusal(
            f"--shape {text} has {math.prod(shape)} entries; show draws up to {LARGEST}"
        )
    return shape


def _fan_lines(init: Initializer, shape: Shape) -> Iterator[str]:
    """The fans that a scaled family counts in the shape, as far as they are known."""
    given = init.arguments
    if "in_axis" not in given:
        return
    axes = (given["in_axis"], given["out_axis"], given["batch_axis"])
    fans = given["fans"] or Fans.axes(*axes)
    for name, count in (("fan_in", fans.fan_in), ("fan_out", fans.fan_out)):
        with contextlib.suppress(ValueError):
            yield f"{name}: {count(shape):g}"


def _moment_lines(
    entries: np.ndarray, law: Law | None, random: bool, shape: Shape
) -> Iterator[str]:
    """Mean, standard deviation and bounds: measured, wanted, and in standard errors."""
    found = moments(entries)
    measured = (found.mean, found.std, found.low, found.high)
    names = ("mean", "standard deviation", "min", "max")
    if law is None:
        yield f"\n{'':<18}  {'measured':>12}"
        for name, value in zip(names, measured, strict=True):
            yield f"{name:<18}  {value:>12.6g}"
        return
    wanted = (law.mean, law.std, law.low, law.high)
    count = law.count(shape)
    known = random and law.std and count
    z = dict(zip(names, z_scores(found, law, count), strict=False)) if known else {}
    yield f"\n{'':<18}  {'wanted':>12}  {'measured':>12}" + ("       z" if z else "")
    for name, want, value in zip(names, wanted, measured, strict=True):
        score = f"{z[name]:+.2f}" if name in z else ""
        yield f"{name:<18}  {want:>12.6g}  {value:>12.6g}  {score:>6}".rstrip()
    if random and count < entries.size:
        yield f"independent entries: {count}"


def histogram(entries: np.ndarray, law: Law | None = None) -> Iterator[str]:
    """Lines of a histogram: where a bin starts, bar, count, mean and mean ± std.

    Entries of few values have a line for each value instead.
    """
    finite = entries[np.isfinite(entries)]
    if finite.size:
        counts, edges = np.histogram(finite, ROWS)
        marks: dict[int, list[str]] = {}
        if np.unique(finite[:1000]).size <= ROWS >= np.unique(finite).size:
            edges, counts = np.unique(finite, return_counts=True)
        elif law is not None:
            for word, steps in (("mean - std", -1), ("mean", 0), ("mean + std", 1)):
                place = float(np.real(law.mean)) + steps * law.std
                if edges[0] <= place < edges[-1]:
                    row = int(np.searchsorted(edges, place, "right")) - 1
                    marks.setdefault(row, []).append(word)
        digits = len(str(counts.max()))
        for row, count in enumerate(counts):
            mark = f"  ← {', '.join(marks[row])}" if row in marks else ""
            bar = _bar(count / counts.max())
            yield f"{edges[row]:>11.4g}  {bar:<{BAR}}  {count:>{digits}}{mark}"
    if finite.size < entries.size:
        yield f"{'not finite':>11}  {'':<{BAR}}  {entries.size - finite.size}"


def _bar(share: float) -> str:
    """A bar of BAR characters at most, to an eighth of a character."""
    whole, rest = divmod(math.ceil(share * BAR * 8), 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def read_call(text: str) -> Initializer:
    """The initializer of a call in text, such as `he_normal()`, or of a bare name.

    The text is read, not run: it may hold calls of the names of `available()` and of
    `Fans`, numbers, words, tuples and lists of them, and inf; nothing else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refusal(
            f"cannot read {text[:60]!r}; write a call such as he_normal() or "
            "kaiming_normal('fan_out', 'gelu')"
        ) from None
    with in_words():
        value = _value_of(tree.body)
    if not isinstance(value, Initializer):
        raise Refusal(
            f"{text[:60]!r} is no initializer; write a call such as he_normal()"
        )
    return value


def _value_of(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | complex() | str() | None):
            return node.value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_value_of(item) for item in items)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=inner):
            number = _number_of(inner)
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=right):
            combine = operator.add if isinstance(sign, ast.Add) else operator.sub
            return combine(_number_of(left), _number_of(right))  # 1 + 2j
        case ast.Name(id="inf"):
            return math.inf
        case ast.Call(
            func=ast.Name(id="float"),
            args=[ast.Constant(value="inf" | "-inf" as word)],
            keywords=[],
        ):
            return float(word)  # as a repr writes it
        case ast.Name() | ast.Attribute():
            return _call(node, (), {})
        case ast.Call(func=function, args=args, keywords=keywords):
            positional = [_value_of(item) for item in args]
            named = {}
            for keyword in keywords:
                if keyword.arg is None:
                    _refuse(keyword.value)
                named[keyword.arg] = _value_of(keyword.value)
            return _call(function, positional, named)
    _refuse(node)


def _number_of(node: ast.expr) -> Any:
    value = _value_of(node)
    if isinstance(value, (int, float, complex)):
        return value
    _refuse(node)


def _call(function: ast.expr, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    match function:
        case ast.Name(id=name):
            pass
        case ast.Attribute(value=ast.Name(id="jaxinit"), attr=name):
            pass
        case ast.Attribute(value=ast.Name(id="Fans"), attr=word):
            kinds = [n for n in FACTORIES if n.startswith("Fans.")]
            name = check.choice("the kind of layer", f"Fans.{word}", kinds)
            return find(name)(*args, **kwargs)
        case _:
            _refuse(function)
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=1)
        cure = f"did you mean {near[0]!r}?" if near else "see python -m jaxinit list"
        raise Refusal(f"there is no initializer {name!r}; {cure}")
    if name in SINGLE:
        if args or kwargs:
            raise Refusal(f"{name} is an initializer itself and takes no arguments")
        return SINGLE[name]
    factory = find(name)
    signature = inspect.signature(factory)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise Refusal(f"{name}({', '.join(signature.parameters)}): {error}") from None
    return factory(*args, **kwargs)


def _refuse(node: ast.expr) -> NoReturn:
    raise Refusal(
        f"cannot read {ast.unparse(node)[:60]!r}: only calls of initializers and of "
        "Fans, numbers, words, tuples and inf are understood"
    )
