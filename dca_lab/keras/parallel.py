r"""Data parallel training on two devices: each computes the gradient of its part of the batch, and the parts are added.

With a batch of B examples split over p replicas of B_1 + ... + B_p = B,

.. math:: \nabla L = \frac1B \sum_{i=1}^{B} \nabla \ell_i = \sum_{r=1}^{p} \Bigl(\frac1B \sum_{i \in r} \nabla \ell_i\Bigr)

so a replica divides its sum by the *global* B, and the all-reduce adds. If each divides by its own B_r and the results
are still added, which is the usual mistake, the gradient is p times too large: a learning rate p times too high that
no error message tells of. Synchronous SGD: J. Chen et al., "Revisiting Distributed Synchronous SGD", arXiv:1604.00981.

The devices here are *logical*: one CPU shown to TensorFlow as several. What this file is *not*: a way to be faster.
It shows that the arithmetic is right, with the class (`tf.distribute.MirroredStrategy`) that also drives real GPUs;
for processes that exchange real messages see the torch room `dca_lab.parallel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

AVERAGES = ("global", "replica")


def logical_cpus(number: int = 2) -> list[str]:
    """Split the CPU into `number` logical devices; to be called before TensorFlow computes anything.

    Parameters
    ----------
    number : int
        At least 1.

    Returns
    -------
    list of str
        Their names, ``["CPU:0", "CPU:1", ...]``.

    Raises
    ------
    ValueError
        If `number` is not a positive integer.
    RuntimeError
        If TensorFlow has computed already: from then on its devices are fixed. Asking for the number that is
        there already is no error, so a cell can be run twice.

    Examples
    --------
    In the first cell of a notebook: ``devices = logical_cpus(2)``.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"number={number!r}: give the number of logical devices, 1 or more")
    cpu = tf.config.list_physical_devices("CPU")[0]
    there = len(tf.config.get_logical_device_configuration(cpu) or [None])
    if there != number:
        try:
            parts = [tf.config.LogicalDeviceConfiguration() for _ in range(number)]
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise RuntimeError(
                f"TensorFlow has computed already and sees {there} CPU device(s) until it ends: restart the kernel "
                f"and call logical_cpus({number}) in the first cell, before any tensor, model or data set"
            ) from error
    return [f"CPU:{index}" for index in range(number)]


def mirrored(devices: Sequence[str]) -> tf.distribute.MirroredStrategy:
    """A strategy that keeps one copy of each weight on each of `devices`, made inside ``with strategy.scope():``.

    ``model.fit`` runs under it as it is, and is exact as long as every batch divides by the number of devices. Keras
    averages the replicas with equal weight, so a last batch of 3 = 2 + 1 examples counts the third as much as the first
    two; and where a replica gets no example at all, TensorFlow's pooling can end the process. `train_step` has neither
    limit.

    Raises
    ------
    ValueError
        If a device does not exist.

    Examples
    --------
    >>> mirrored(["CPU:0"]).num_replicas_in_sync
    1
    """
    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    missing = [device for device in devices if device not in known]
    if missing or not devices:
        raise ValueError(
            f"no device {', '.join(missing) or 'was named'}: there are {', '.join(known)}. "
            "logical_cpus(2) in the first cell makes CPU:0 and CPU:1"
        )
    return tf.distribute.MirroredStrategy(list(devices))


def split(strategy: tf.distribute.Strategy, array: np.ndarray) -> tf.distribute.DistributedValues:
    """The rows of `array` (B, ...), as evenly as possible over the replicas: one part for each, none empty."""
    replicas = strategy.num_replicas_in_sync
    if len(array) < replicas:
        raise ValueError(
            f"a batch of {len(array)} cannot be split over {replicas} devices: give at least one each"
        )
    parts = np.array_split(array, replicas)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


def train_step(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Callable,
    *,
    average: str = "global",
) -> Callable[[np.ndarray, np.ndarray], float]:
    """One step of data parallel training, as a function ``step(x, y) -> loss`` of a whole batch.

    Parameters
    ----------
    strategy : tf.distribute.Strategy
        As from :func:`mirrored`.
    model, optimizer
        Made inside ``with strategy.scope():``, so that each device has its copy.
    loss : callable
        ``loss(y, y_predicted)`` -> the loss of each example, shape (B,), such as
        ``keras.losses.sparse_categorical_crossentropy``; not its mean: what to divide by is the point.
    average : str
        "global": right, divide by the size of the whole batch. "replica": the usual mistake, kept as a control;
        the loss that it reports, the mean over the replicas, looks as it should.

    Returns
    -------
    callable
        ``step(x, y)``: x (B, ...), y (B, ...), any B from the number of devices up; the loss before the step.

    Raises
    ------
    ValueError
        If `average` is neither, the model has no weights yet, the loss gives one number for the batch, or B is
        smaller than the number of devices.
    """
    if average not in AVERAGES:
        raise ValueError(f"average={average!r}: choose one of {', '.join(AVERAGES)}")
    if not model.built:
        raise ValueError("the model has no weights yet: begin it with keras.layers.Input(shape)")

    def on_one_device(x: tf.Tensor, y: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            each = loss(y, model(x, training=True))  # (B_r,)
            if each.shape.rank != 1:
                raise ValueError(
                    f"the loss has shape {each.shape}, not (B,): give one without a mean, such as "
                    "keras.losses.sparse_categorical_crossentropy or keras.losses.X(reduction=None)"
                )
            count = batch if average == "global" else tf.shape(each)[0]
            mine = tf.reduce_sum(each) / tf.cast(count, each.dtype)
        gradients = tape.gradient(mine, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)  # here the replicas meet: all-reduce, sum
        return mine

    @tf.function(reduce_retracing=True)
    def on_all(x, y, batch):
        parts = strategy.run(on_one_device, args=(x, y, batch))
        return strategy.reduce("SUM" if average == "global" else "MEAN", parts, axis=None)

    def step(x: np.ndarray, y: np.ndarray) -> float:
        return float(on_all(split(strategy, x), split(strategy, y), tf.constant(len(x))))

    with strategy.scope():
        optimizer.build(model.trainable_variables)  # a graph may not make variables on its second trace
    return step
