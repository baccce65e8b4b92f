r"""Half precision in Keras: a dtype policy, and a loss that is scaled so that its gradients do not vanish.

Under ``mixed_float16`` a layer computes in float16 and keeps its weights in float32. Float16 ends at 65504 and below
:math:`2^{-24}`, and gradients are small: those under :math:`2^{-25}` become 0 and train nothing. The gradient of
:math:`S L` is :math:`S` times larger, so with a power of two for S

.. math:: g = \tfrac1S\, \nabla (S L), \qquad
          S \leftarrow S/2 \text{ if some } \nabla (S L) \text{ is not finite (and the step is skipped)}, \qquad
          S \leftarrow 2S \text{ after } n \text{ finite steps}

is exact where nothing under- or overflows, and S finds its own size. P. Micikevicius et al., "Mixed Precision
Training", ICLR 2018 (arXiv:1710.03740). bfloat16 has float32's range: it needs no scale, and rounds more coarsely.

What this file is *not*: what `fit` uses. Under ``mixed_float16`` Keras wraps the optimizer in its own
`keras.optimizers.LossScaleOptimizer`, which follows the same rule; tests hold the two side by side. Nor is it faster
on a CPU without half-precision instructions: memory see :mod:`dca_lab.keras.memory`, speed the chapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@contextmanager
def use_policy(name: str) -> Iterator[keras.DTypePolicy]:
    """Layers made inside compute as `name` says, and keep doing so; afterwards the policy is what it was.

    Parameters
    ----------
    name : str
        "float32", "mixed_float16" or "mixed_bfloat16". A mixed policy keeps weights in float32.

    Raises
    ------
    ValueError
        For another name.

    Examples
    --------
    >>> with use_policy("mixed_bfloat16"):
    ...     layer = keras.layers.Dense(3)
    >>> layer(np.zeros((2, 4), np.float32)).dtype, layer.kernel.dtype, keras.config.dtype_policy().name
    (tf.bfloat16, 'float32', 'float32')
    """
    if name not in POLICIES:
        raise ValueError(f"policy {name!r}: choose one of {', '.join(POLICIES)}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield keras.config.dtype_policy()
    finally:
        keras.config.set_dtype_policy(before)


class DynamicLossScale:
    """The scale S, which halves when a gradient overflows and doubles after `growth_steps` finite steps.

    Parameters
    ----------
    initial : float
        A power of two, so that multiplying and dividing by it are exact. Better too large than too small: a scale
        that is too large is halved at every step.
    growth_steps : int
        Finite steps before the scale doubles, at least 1.

    Attributes
    ----------
    scale : float
        S.
    finite_steps : int
        Finite steps since S changed.

    Raises
    ------
    ValueError
        If `initial` is not a positive power of two or `growth_steps` is less than 1.

    Examples
    --------
    >>> loss_scale = DynamicLossScale(1024.0, growth_steps=2)
    >>> for gradient in (1.0, float("inf"), 1.0, 1.0):
    ...     taken = loss_scale.unscale([tf.constant(gradient)]) is not None
    ...     print(taken, loss_scale.scale)
    True 1024.0
    False 512.0
    True 512.0
    True 1024.0
    """

    def __init__(self, initial: float = 2.0**15, *, growth_steps: int = 2000):
        if not (initial > 0 and np.isfinite(initial) and np.frexp(initial)[0] == 0.5):
            raise ValueError(f"initial={initial!r}: give a power of two, such as 2.0**15")
        if growth_steps < 1:
            raise ValueError(f"growth_steps={growth_steps!r}: give 1 or more")
        self.scale = float(initial)
        self.growth_steps = growth_steps
        self.finite_steps = 0

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """S times the loss: what is differentiated."""
        return loss * tf.constant(self.scale, loss.dtype)

    def unscale(self, gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None] | None:
        """The gradients divided by S, or None if the step must be skipped; S is set for the next step.

        Parameters
        ----------
        gradients : sequence of Tensor
            Of the scaled loss, float32 (the weights' dtype). None, for a weight that the loss does not see, stays.
        """
        scale = self.scale
        if not all(bool(tf.reduce_all(tf.math.is_finite(g))) for g in gradients if g is not None):
            self.scale, self.finite_steps = scale / 2, 0
            return None
        self.finite_steps += 1
        if self.finite_steps == self.growth_steps:
            self.scale, self.finite_steps = scale * 2, 0
        return [None if g is None else g / scale for g in gradients]


def gradients(
    model: keras.Model, loss: Callable, x: np.ndarray, y: np.ndarray, *, scale: float = 1.0
) -> list[np.ndarray]:
    """The gradients of the loss, computed at `scale` times their size and divided by it.

    Parameters
    ----------
    model : keras.Model
        Its layers' policies say in which format it computes.
    loss : callable
        ``loss(y, y_predicted)`` -> the mean loss of the batch, such as ``keras.losses.MeanSquaredError()``.
    x, y : ndarray
        A batch, (B, ...).
    scale : float
        A constant loss scale. 1: none.

    Returns
    -------
    list of ndarray, float32
        One for each trainable weight. An entry that left float16's range at `scale` is 0, infinite or NaN.

    Examples
    --------
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    >>> [g.shape for g in gradients(model, keras.losses.MeanSquaredError(), np.ones((2, 4)), np.ones((2, 3)))]
    [(4, 3), (3,)]
    """
    found = _scaled_gradients(model, loss, x, y, lambda value: value * tf.constant(scale, value.dtype))[1]
    return [np.asarray(g) / np.float32(scale) for g in found]


def scaled_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Callable,
    x: np.ndarray,
    y: np.ndarray,
    loss_scale: DynamicLossScale,
) -> tuple[float, bool]:
    """One training step with a scaled loss: (loss, whether the weights were changed).

    Examples
    --------
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    >>> optimizer, loss = keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError()
    >>> x, y = np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)
    >>> scaled_step(model, optimizer, loss, x, np.inf * y, DynamicLossScale())
    (inf, False)
    """
    value, scaled = _scaled_gradients(model, loss, x, y, loss_scale.scaled)
    unscaled = loss_scale.unscale(scaled)
    if unscaled is not None:
        optimizer.apply(unscaled, model.trainable_variables)
    return float(value), unscaled is not None


def _scaled_gradients(model, loss, x, y, scaled):
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
        larger = scaled(value)
    return value, tape.gradient(larger, [variable.value for variable in model.trainable_variables])
