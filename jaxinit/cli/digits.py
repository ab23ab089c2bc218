# SPDX-License-Identifier: Apache-2.0
"""The demo's experiment: thirty ReLU layers learn to read digits, or do not.

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
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxinit.core import Initializer
from jaxinit.families import kaiming_normal, xavier_uniform

SCHEMES: Mapping[str, Initializer] = MappingProxyType(
    {
        "xavier_uniform": xavier_uniform(),
        "kaiming_normal": kaiming_normal(nonlinearity="relu"),
    }
)

CLASSES = 10
GUESS = math.log(CLASSES)  # the loss of equal probabilities


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
