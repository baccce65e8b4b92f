"""Train a network of the results table in Keras: the recipe of `results_train`, step by step in one `tf.function`.

The loss, the schedule, the shifts and the distillation are those of the torch half. The loop is written out, as the
digits change with each epoch and the learning rate with each step. What this is *not*: a copy of torch's random
numbers: weights start and digits are ordered by Keras and numpy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from dca_lab.progress import hidden

from .results_recipe import Recipe, digits, learning_rate, shifted


def arrays(recipe: Recipe) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The digits as Keras takes them: x (N, 28, 28, 1) float32 in [0, 1], y (N,) int64."""
    x, y, x_test, y_test = digits(recipe)
    return x[..., None], y, x_test[..., None], y_test


def accuracy(run: Callable, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the digits that a model or a LiteRT file gets right."""
    parts = np.split(x, range(500, len(x), 500))
    options = {"training": False} if isinstance(run, keras.Model) else {}
    answers = [np.asarray(run(part, **options)).astype(np.float32).argmax(1) for part in parts]
    return float(np.mean(np.concatenate(answers) == y))


def train(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    *,
    recipe: Recipe,
    seed: int,
    epochs: int,
    lr: float,
    teacher: Callable[[np.ndarray], np.ndarray] | None = None,
    after: Callable[[int, keras.Model], object] | None = None,
) -> float:
    """Train in place by the recipe; arguments as in `results_train.train`.

    Returns
    -------
    float
        CPU seconds, the shifts and the teacher's answers included, `after` not.
    """
    order, moves = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    optimizer = keras.optimizers.Adam(lr)
    step = _compiled(model, optimizer, recipe.temperature)
    size = recipe.batch_size
    done, total = 0, epochs * -(-len(x) // size)
    seconds, bar = 0.0, tqdm(total=total, unit="step", leave=False, disable=hidden())
    for epoch in range(1, epochs + 1):
        started = time.process_time()
        moved = shifted(x[..., 0], recipe.shift, moves)[..., None]
        soft = np.zeros((len(x), 10), np.float32)
        if teacher is not None:
            soft = np.concatenate([teacher(part) for part in np.split(moved, range(256, len(x), 256))])
        for batch in np.split(order.permutation(len(x)), range(size, len(x), size)):
            optimizer.learning_rate = learning_rate(done, total, lr)
            step(moved[batch], y[batch], soft[batch], tf.constant(teacher is not None))
            done += 1
            bar.update()
        seconds += time.process_time() - started
        if after is not None:
            after(epoch, model)
    bar.close()
    return seconds


def train_step(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """One training step on a batch, compiled, to be timed."""
    step = _compiled(model, keras.optimizers.Adam(), 1.0)
    given = [tf.constant(x), tf.constant(y), tf.zeros((len(x), 10)), tf.constant(False)]
    step(*given)
    return lambda: step(*given)


def _compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer, T: float) -> Callable:
    """A step of the optimizer as a graph that is traced once for each size of batch."""
    variables = model.trainable_variables
    optimizer.build(variables)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def distance(logits: tf.Tensor, soft: tf.Tensor) -> tf.Tensor:
        """Kullback-Leibler divergence of the softened answers, summed over classes, mean over the batch."""
        wanted, given = tf.nn.log_softmax(soft / T), tf.nn.log_softmax(logits / T)
        return tf.reduce_mean(tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=1))

    @tf.function(reduce_retracing=True)
    def step(x: tf.Tensor, y: tf.Tensor, soft: tf.Tensor, taught: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = tf.cast(model(x, training=True), tf.float32)
            loss = hard(y, logits)
            loss = tf.cond(taught, lambda: (loss + T * T * distance(logits, soft)) / 2, lambda: loss)
        optimizer.apply(tape.gradient(loss, variables), variables)

    return step
