# SPDX-License-Identifier: Apache-2.0
"""The demo: the experiment of `digits.py` as a table, a progress bar and a picture."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxinit.cli.digits import GUESS, SCHEMES, Run, Settings, Signal, run_demo
from jaxinit.plot import PALETTE

# Told apart by every kind of colour vision, and by circles and squares.
LOOK = MappingProxyType(
    {
        "xavier_uniform": (PALETTE["vermillion"], "o"),
        "kaiming_normal": (PALETTE["blue"], "s"),
    }
)


def present(settings: Settings, output: Path) -> dict[str, Run]:
    """Run the demo before an audience: tables, progress, a verdict and a figure."""
    print(
        f"A network of depth {settings.depth} (ReLU, {settings.width} units a layer) "
        f"reads handwritten digits of 8×8 pixels.\nSGD with learning rate "
        f"{settings.learning_rate:g} and momentum {settings.momentum:g}, "
        f"{settings.epochs} epochs in batches of {settings.batch}, "
        f"seed {settings.seed}.\n"
    )
    console = Console()
    with Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn(
            "{task.completed:>2}/{task.total} epochs   loss {task.fields[loss]}"
        ),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        bars = {
            name: progress.add_task(
                name, start=False, total=settings.epochs, loss=" " * 5
            )
            for name in SCHEMES
        }
        waiting = iter(bars.values())

        def on_start(signals: dict[str, Signal]) -> None:
            print(table(signals), flush=True)
            progress.start_task(next(waiting))

        def on_epoch(name: str, epoch: int, loss: float) -> None:
            progress.update(bars[name], completed=epoch, loss=f"{loss:.3f}")
            following = next(waiting, None) if epoch == settings.epochs else None
            if following is not None:
                progress.start_task(following)
            every = math.ceil(settings.epochs / 5)
            if progress.disable and (
                epoch in (1, settings.epochs) or not epoch % every
            ):
                print(f"{name:<14}  epoch {epoch:>3}   loss {loss:.3f}", flush=True)

        runs = run_demo(settings, on_start=on_start, on_epoch=on_epoch)
    print(f"\n{verdict(runs)}\n")
    draw(runs, output)
    print(f"Figure: {output}")
    return runs


def table(signals: Mapping[str, Signal]) -> str:
    """The activations layer by layer, side by side."""
    columns = [field.name for field in fields(Signal)]
    lines = [
        "The activations at initialisation: standard deviation, root mean square, and",
        "the root mean square that theory predicts from the law of the weights.",
        "",
        "       " + "".join(f"{name:>33}" for name in signals),
        "layer  " + "".join(f"{name:>11}" for _ in signals for name in columns),
    ]
    for layer in range(len(next(iter(signals.values())).rms)):
        row = [getattr(signal, name) for signal in signals.values() for name in columns]
        lines.append(f"{layer + 1:>5}  " + "".join(f"{c[layer]:>#11.3g}" for c in row))
    return "\n".join([*lines, ""])


def verdict(runs: Mapping[str, Run]) -> str:
    """What the losses say, who trained, and whether He et al. found the same."""
    lines = [
        f"{name}: loss {run.losses[0, 0]:.3f} to {run.final_loss:.3f} (a guess has "
        f"log 10 = {GUESS:.3f}), {run.accuracy:.0%} of the test digits read."
        for name, run in runs.items()
    ]
    outcomes = {name: run.outcome for name, run in runs.items()}
    found = {"xavier_uniform": "stalled", "kaiming_normal": "trained"}
    lines.append(
        ", ".join(f"{name} {outcome}" for name, outcome in outcomes.items())
        + f": {'as' if outcomes == found else 'unlike'} in figure 3 of He et al. 2015 "
        "(arXiv:1502.01852), where Xavier's 30 layers stall and He's converge."
    )
    return "\n".join(lines)


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before the work is done."""
    known = sorted(FigureCanvasAgg(Figure()).get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in known:
        raise ValueError(
            f"--output must end in one of {', '.join(known)}; got {str(path)!r}"
        )
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(
            f"--output {str(path)!r} must be a file in a folder that exists"
        )


def draw(runs: Mapping[str, Run], output: Path) -> None:
    """The figure: the signal by layer, and the loss by step."""
    figure = Figure(figsize=(10.5, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, run in runs.items():
        colour, marker = LOOK[name]
        layers = np.arange(1, len(run.signal.rms) + 1)
        left.plot(
            layers, run.signal.rms, marker, color=colour, markersize=5, label=name
        )
        left.plot(layers, run.signal.theory, "--", color=colour, linewidth=1)
        losses = run.losses.ravel()
        right.plot(np.arange(1, losses.size + 1), losses, color=colour, label=name)
    left.plot([], [], "--", color="0.4", linewidth=1, label="theory")
    left.set_yscale("log")
    left.set_xlabel("layer $l$")
    left.set_ylabel("root mean square of the activations")
    left.set_title("Signal at initialisation")
    depth = len(next(iter(runs.values())).signal.rms)
    left.annotate(
        r"theory: $\propto (1/2)^{l/2}$",
        (0.62 * depth, _at(runs["xavier_uniform"].signal.theory, 0.62)),
        xytext=(8, 8),
        textcoords="offset points",
        color=LOOK["xavier_uniform"][0],
    )
    right.axhline(GUESS, color="0.4", linestyle=":", linewidth=1)
    right.annotate(
        f"a guess: log 10 = {GUESS:.3f}",
        (0.98, GUESS),
        xycoords=right.get_yaxis_transform(),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        color="0.3",
    )
    right.set_xlabel("training step")
    right.set_ylabel("training loss (cross entropy)")
    right.set_title(f"Training {depth} ReLU layers")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc="lower left")
    right.legend(frameon=False, loc="center right")
    figure.savefig(output)


def _at(values: np.ndarray, share: float) -> float:
    return float(values[int(share * (len(values) - 1))])
