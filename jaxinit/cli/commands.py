# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m jaxinit` demo, list, recipes, gain, show, report."""

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jaxinit
from jaxinit.cli.show import Refusal, in_words, show
from jaxinit.core import SINGLE, available, find
from jaxinit.core import checks as check
from jaxinit.gains import calculate_gain, gain

if TYPE_CHECKING:
    from rich.console import Console

DIRECTIONS = ("forward", "backward", "std")
DEMO = {
    "depth": "hidden layers (30)",
    "width": "units of each (256)",
    "epochs": "times through the digits (20)",
    "seed": "of weights and batches (0)",
}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "the law": ("variance_scaling",),
    "JAX and Keras": (
        "lecun_normal",
        "lecun_uniform",
        "glorot_normal",
        "glorot_uniform",
        "he_normal",
        "he_uniform",
    ),
    "PyTorch": (
        "kaiming_normal",
        "kaiming_uniform",
        "xavier_normal",
        "xavier_uniform",
        "torch_linear",
        "torch_bias",
    ),
    "elementary": (
        "zeros",
        "ones",
        "zeros_init",
        "ones_init",
        "constant",
        "normal",
        "uniform",
        "uniform_between",
        "truncated_normal",
        "trunc_normal",
    ),
    "linear algebra": (
        "orthogonal",
        "delta_orthogonal",
        "conv_orthogonal",
        "spectral_normal",
        "spectral_orthogonal",
        "identity",
        "noisy_identity",
        "hadamard",
        "dirac",
        "sparse",
    ),
    "biases": ("forget_gate", "chrono", "prior_probability"),
    "state spaces": (
        "s4d_decay",
        "s4d_frequency",
        "lru_nu",
        "lru_theta",
        "lru_gamma",
        "mamba_dt",
    ),
    "upsampling": ("icnr", "bilinear"),
    "complex": ("rayleigh",),
    "coordinates": ("siren", "fourier_features"),
    "combinators": ("scaled", "stacked", "blocks"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exits with status 2, and in words, on what it cannot read."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal without σ or █ shows "?"
    parser = _parser()
    args = parser.parse_args(argv)
    if "command" not in args:
        parser.print_help()
        return 0
    try:
        args.command(args)
    except Refusal as refusal:
        args.parser.error(str(refusal))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxinit", description="Initializers for neural networks in JAX."
    )
    parser.add_argument(
        "--version", action="version", version=f"jaxinit {jaxinit.__version__}"
    )
    commands = parser.add_subparsers(
        metavar="demo | list | recipes | gain | show | report"
    )

    def add(name: str, command: Callable[..., None]) -> argparse.ArgumentParser:
        doc = (command.__doc__ or "").partition("\n")[0]
        sub = commands.add_parser(name, help=doc, description=doc)
        sub.set_defaults(command=command, parser=sub)
        return sub

    demo = add("demo", _demo)
    picture = Path("jaxinit-demo.png")
    demo.add_argument(
        "--output", type=Path, default=picture, help=f"the picture's file ({picture})"
    )
    for option, words in DEMO.items():
        least = 0 if option == "seed" else 1
        demo.add_argument(f"--{option}", type=_whole(least), metavar="N", help=words)

    add("list", _list)

    recipes = add("recipes", _recipes)
    recipes.add_argument("--like", choices=["gpt2"], help="with the numbers of a model")

    gains = add("gain", _gain)
    gains.add_argument("name", help="an activation: relu, gelu, leaky_relu_0.2, ...")
    gains.add_argument("--direction", help="forward, backward or std; all by default")

    shown = add("show", show)
    shown.add_argument("call", help='for example \'kaiming_normal("fan_out", "gelu")\'')
    shown.add_argument("--shape", required=True, help="for example 3,3,64,128")
    shown.add_argument("--dtype", default="float32")
    shown.add_argument("--seed", type=_whole(0), default=0, metavar="N")

    told = add("report", _report)
    told.add_argument(
        "target",
        metavar="module:function",
        help="a function without arguments, in a module or a file, that returns what "
        "signal.report takes: (model, variables, batch)",
    )
    told.add_argument("--html", type=Path, metavar="FILE", help="write a page instead")
    return parser


def _whole(low: int, high: int = 2**32 - 1) -> Callable[[str], int]:
    """A reader of whole numbers, for argparse."""

    def read(text: str) -> int:
        try:
            number = int(text)
            if low <= number <= high:
                return number
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {low} to {high}, got {text!r}"
        )

    return read


def _demo(args: argparse.Namespace) -> None:
    """Train 30 ReLU layers from Xavier's and from He's initialisation."""
    try:
        from jaxinit.cli.demo import check_output, present
        from jaxinit.cli.digits import Settings
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"the demo needs more packages (there is no {error.name}); "
            'pip install "jaxinit[demo]"'
        ) from error
    given = {
        option: getattr(args, option)
        for option in ("depth", "width", "epochs", "seed")
        if getattr(args, option) is not None
    }
    with in_words():
        check_output(args.output)
    present(Settings(**given), args.output)


def _list(args: argparse.Namespace) -> None:
    """Every initializer with its formula."""
    width = max(map(len, available()))
    console = _console()
    for title, names in _groups(available()).items():
        rows = [(name, _formula(name)) for name in names]
        if console is None:
            print(title)
            for name, formula in rows:
                print(f"  {name:<{width}}  {formula}")
            continue
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, title=title, title_justify="left")
        table.add_column(min_width=width, style="bold", no_wrap=True)
        table.add_column()
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)


def _recipes(args: argparse.Namespace) -> None:
    """Every recipe of `jaxinit.rules`, and what those of transformers give."""
    from jaxinit.cli.recipes import recipes

    recipes(args)


def _report(args: argparse.Namespace) -> None:
    """The signal of a model of yours, layer by layer, printed or as a page."""
    from jaxinit.cli.report import report

    report(args)


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
    """The names by group; those of no group are the user's own."""
    groups = {title: [n for n in ours if n in names] for title, ours in GROUPS.items()}
    known = {name for ours in groups.values() for name in ours}
    groups["more"] = [name for name in names if name not in known]
    return {title: members for title, members in groups.items() if members}


def _formula(name: str) -> str:
    """The first line of an initializer's docstring."""
    if name in SINGLE:
        return f"every entry is {SINGLE[name].arguments['value']}; no parentheses"
    line = (inspect.getdoc(find(name)) or "").partition("\n")[0]
    return line.replace("`", "").removesuffix(".")


def _console() -> "Console | None":
    """A rich console, where rich is installed and a terminal listens."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    console = Console(highlight=False)
    return console if console.is_terminal else None


def _gain(args: argparse.Namespace) -> None:
    """The gains of an activation, exact and PyTorch's."""
    try:
        conventional: float | None = calculate_gain(args.name)
    except ValueError:
        conventional = None
    with in_words():
        directions: tuple[str, ...] = DIRECTIONS
        if args.direction is not None:
            directions = (check.choice("direction", args.direction, DIRECTIONS),)
        try:
            exact = {way: gain(args.name, way) for way in directions}
        except ValueError:
            if conventional is None:
                raise
            exact = {}  # conv2d and its kin are in PyTorch's table alone
    meaning = {"forward": "1 / √E f²", "backward": "1 / √E f'²", "std": "1 / √Var f"}
    for way, value in exact.items():
        print(f"{way:<8}  {value:#.12g}  {meaning[way]}")
    if conventional is not None and (args.direction is None or not exact):
        print(f"{'PyTorch':<8}  {conventional:#.12g}  calculate_gain({args.name!r})")
