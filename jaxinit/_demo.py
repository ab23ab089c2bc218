# SPDX-License-Identifier: Apache-2.0
"""The demo: thirty ReLU layers learn to read digits, or do not.

A ReLU drops half of the second moment of its input. Xavier's weights (Var W = 1 / n
for n inputs and n outputs) do not make up for it, so E x² halves with every layer, and
the gradient likewise on its way back: (1/2)³⁰ = 10⁻⁹ of both is left. Var W = 2 / n,
He's, keeps them. Everything else is equal here: the network, the data and their order,
the optimizer and its learning rate, the last linear layer.

The learning rate is not to blame: after 16 epochs at 1e-3, 3e-3, 1e-2, 3e-2 or 1e-1
Xavier's loss is still log 10 = 2.303, that of a guess (measured with seed 0). He's
network converges at 1e-3, 2e-3 and 3e-3, and no longer at 1e-2.

Reference: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852,
eq. 10 and figure 3.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxinit._initializer import Initializer
from jaxinit._torch import kaiming_normal, xavier_uniform

SCHEMES: Mapping[str, Initializer] = MappingProxyType(
    {
        "xavier_uniform": xavier_uniform(),
        "kaiming_normal": kaiming_normal(nonlinearity="relu"),
    }
)

CLASSES = 10
GUESS = math.log(CLASSES)  # the loss of a network that knows nothing

# Okabe and Ito's vermillion, with circles, and blue, with squares: clear to every eye.
LOOK = MappingProxyType(
    {"xavier_uniform": ("#D55E00", "o"), "kaiming_normal": ("#0072B2", "s")}
)


@dataclass(frozen=True)
class Settings:
    """One experiment."""

    depth: int = 30  # ReLU layers; a linear layer reads the classes from the last
    width: int = 256
    epochs: int = 20
    batch: int = 125
    learning_rate: float = 3e-3
    momentum: float = 0.9
    seed: int = 0


class Digits(NamedTuple):
    """Images of 64 pixels, standardised pixel by pixel, and their labels."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Signal:
    """The activations of each ReLU layer at initialisation, on the training images."""

    std: np.ndarray
    rms: np.ndarray
    theory: np.ndarray  # the rms that the law of the weights predicts


@dataclass(frozen=True)
class Run:
    """What became of one network."""

    signal: Signal
    losses: np.ndarray  # one row for each epoch, one number for each step
    accuracy: float  # on the test images

    @property
    def final_loss(self) -> float:
        """The mean training loss of the last epoch."""
        return float(self.losses[-1].mean())

    @property
    def outcome(self) -> str:
        """In a word, what the loss came to beside that of a guess."""
        if self.final_loss < GUESS / 2:
            return "trained"
        if self.final_loss < 0.95 * GUESS:
            return "learned a little"
        return "stalled" if self.final_loss < 1.05 * GUESS else "diverged"


class Network(nn.Module):  # type: ignore[misc]  # flax's Module, seen as Any
    """Dense ReLU layers, all with the same kernel_init, and a linear read-out."""

    settings: Settings
    kernel_init: Any = nn.initializers.lecun_normal()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.settings.depth):
            x = nn.Dense(self.settings.width, kernel_init=self.kernel_init)(x)
            x = nn.relu(x)
            self.sow("intermediates", "activations", x)
        logits: jax.Array = nn.Dense(CLASSES, name="read_out")(x)
        return logits


def run_demo(
    settings: Settings = Settings(),
    *,
    on_start: Callable[[dict[str, Signal]], None] = lambda signals: None,
    on_epoch: Callable[[str, int, float], None] = lambda name, epoch, loss: None,
) -> dict[str, Run]:
    """Initialise and train the network once with each scheme.

    Args:
        settings: the experiment.
        on_start: called with what `Signal` measures, before training.
        on_epoch: called after each epoch with the scheme, the epoch's number (from 1)
            and its mean training loss.

    Returns:
        A `Run` for each name of `SCHEMES`. The same settings give the same runs.
    """
    data = load(settings.seed)
    params = {
        name: Network(settings, init).lazy_init(
            jax.random.key(settings.seed), data.images[:1]
        )
        for name, init in SCHEMES.items()
    }
    signals = {
        name: measure(settings, init, params[name], data.images)
        for name, init in SCHEMES.items()
    }
    on_start(signals)
    train = _trainer(settings, data)
    runs = {}
    for name in SCHEMES:
        losses, accuracy = train(params[name], functools.partial(on_epoch, name))
        runs[name] = Run(signals[name], losses, accuracy)
    return runs


def load(seed: int) -> Digits:
    """The 1797 handwritten digits of scikit-learn, 1500 to learn and 297 to test."""
    images, labels = load_digits(return_X_y=True)
    learn, test, learn_labels, test_labels = train_test_split(
        images.astype(np.float32),
        labels.astype(np.int32),
        train_size=1500,
        stratify=labels,
        random_state=seed,
    )
    mean, std = learn.mean(axis=0), learn.std(axis=0)
    std[std == 0] = 1  # pixels at the rim that no digit touches
    return Digits((learn - mean) / std, learn_labels, (test - mean) / std, test_labels)


def measure(
    settings: Settings, init: Initializer, params: Any, images: np.ndarray
) -> Signal:
    """The activations' moments in each layer, and the theory of the rms.

    A layer of n inputs and weights of variance v turns E x² into n v E x² / 2.
    """

    std, square = _moments(settings, params, jnp.asarray(images))
    fans = [images.shape[1]] + [settings.width] * (settings.depth - 1)
    factors = [n * init.law((n, settings.width)).std ** 2 / 2 for n in fans]
    theory = np.mean(images**2) * np.cumprod(factors)
    return Signal(np.asarray(std), np.sqrt(np.asarray(square)), np.sqrt(theory))


@functools.partial(jax.jit, static_argnums=0)
def _moments(
    settings: Settings, params: Any, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The standard deviation and the mean square of each layer's activations."""
    _, state = Network(settings).apply(params, x, mutable="intermediates")
    layers = state["intermediates"]["activations"]
    squares = [jnp.mean(jnp.square(layer)) for layer in layers]
    return jnp.stack([layer.std() for layer in layers]), jnp.stack(squares)


def _trainer(
    settings: Settings, data: Digits
) -> Callable[[Any, Callable[[int, float], None]], tuple[np.ndarray, float]]:
    """train(params, on_epoch) -> (losses, test accuracy); one program for all."""
    network = Network(settings)
    optimizer = optax.sgd(settings.learning_rate, settings.momentum)
    steps = len(data.images) // settings.batch
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)

    def loss_of(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = network.apply(params, x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.mean(losses)

    def step(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, images[rows], labels[rows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    @jax.jit
    def learn(carry: Any, key: Any) -> tuple[Any, jax.Array]:
        order = jax.random.permutation(key, len(images))
        rows = order[: steps * settings.batch].reshape(steps, settings.batch)
        return jax.lax.scan(step, carry, rows)

    @jax.jit
    def right(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(jnp.argmax(network.apply(params, x), axis=1) == y)

    def train(
        params: Any, on_epoch: Callable[[int, float], None]
    ) -> tuple[np.ndarray, float]:
        carry = (params, optimizer.init(params))
        losses = []
        order = jax.random.fold_in(jax.random.key(settings.seed), 1)
        for epoch, key in enumerate(jax.random.split(order, settings.epochs), 1):
            carry, loss = learn(carry, key)
            losses.append(np.asarray(loss))
            on_epoch(epoch, float(losses[-1].mean()))
        accuracy = right(
            carry[0], jnp.asarray(data.test_images), jnp.asarray(data.test_labels)
        )
        return np.stack(losses), float(accuracy)

    return train


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
