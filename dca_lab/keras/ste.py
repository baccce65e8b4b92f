r"""The straight-through estimator in TensorFlow: round on the way forward, pretend on the way back that nothing happened.

.. math:: \hat x = s \left(\mathrm{clamp}(\mathrm{round}(x / s) + z,\ q_{min},\ q_{max}) - z\right), \qquad
   \frac{\partial \hat x}{\partial x} :=
   \begin{cases} 1 & q_{min} \le \mathrm{round}(x / s) + z \le q_{max} \\ 0 & \text{outside} \end{cases}

Rounding is flat between its steps, so its true gradient is zero and nothing would be learnt. ``tf.custom_gradient``
puts the estimate in its place: Y. Bengio, N. Leonard, A. Courville, "Estimating or Propagating Gradients Through
Stochastic Neurons for Conditional Computation", arXiv:1308.3432, 2013. The same in torch, value for value:
`dca_lab.quantization.fake_quantize_ste`.

What this file is *not*: integer arithmetic. Values are rounded, and computed with in floats.
"""

from __future__ import annotations

import tensorflow as tf

from dca_lab.keras.affine import levels, scale_bits


def fake_quantize_ste(
    x: tf.Tensor,
    scale: tf.Tensor | float,
    zero_point: tf.Tensor | int = 0,
    *,
    bits: int = 8,
    signed: bool = False,
    symmetric: bool = False,
) -> tf.Tensor:
    """Quantize and dequantize, with the straight-through gradient in x and in the scale.

    Parameters
    ----------
    x : Tensor
        Any shape, float32.
    scale : Tensor or float
        Positive; broadcasts against x: one scale, or one a channel as (1, 1, 1, O) for a kernel. Its gradient is
        round(x / s) - x / s inside the range and the end of the range outside.
    zero_point : Tensor or int
        The level of the value 0.
    bits, signed, symmetric
        The levels, as in `dca_lab.keras.affine.levels`.

    Returns
    -------
    Tensor
        The shape of x. Works inside ``tf.function``, hence inside ``model.fit``.

    Raises
    ------
    ValueError
        A scale that is not positive and finite, where its value is known (eagerly).

    Examples
    --------
    >>> x = tf.constant([-1.0, 0.3, 5.0])
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = fake_quantize_ste(x, 0.5, bits=2)  # levels 0, 1, 2, 3: values 0, 0.5, 1, 1.5
    >>> y.numpy().tolist(), tape.gradient(y, x).numpy().tolist()
    ([0.0, 0.5, 1.5], [0.0, 1.0, 0.0])
    """
    q_min, q_max = levels(bits, signed=signed, symmetric=symmetric)
    x = tf.convert_to_tensor(x)
    scale, zero = tf.cast(scale, x.dtype), tf.cast(zero_point, x.dtype)
    if tf.executing_eagerly() and not bool(tf.reduce_all((scale > 0) & tf.math.is_finite(scale))):
        raise ValueError(
            f"every scale must be positive and finite, got a smallest of {tf.reduce_min(scale):g}"
        )

    @tf.custom_gradient
    def rounded(x: tf.Tensor, scale: tf.Tensor):
        exact = x / scale
        level = tf.round(exact) + zero
        steps = tf.clip_by_value(level, float(q_min), float(q_max)) - zero

        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            inside = (level >= q_min) & (level <= q_max)
            in_x = tf.where(inside, upstream, tf.zeros_like(upstream))
            in_scale = upstream * tf.where(inside, steps - exact, steps)
            return in_x, _summed(in_scale, tf.shape(scale))

        return steps * scale, backward

    return rounded(x, scale)


def symmetric_scale(kernel: tf.Tensor, *, bits: int) -> tf.Tensor:
    """The scale of each output channel of a kernel, in the graph; to the last bit that of `affine.affine_params`.

    Parameters
    ----------
    kernel : Tensor
        (..., O), float32.
    bits : int
        Of the symmetric grid.

    Returns
    -------
    Tensor
        (1, ..., O), float32, without a gradient.

    Examples
    --------
    >>> symmetric_scale(tf.constant([[1.0, 0.0], [-127.0, 0.0]]), bits=8).numpy().tolist()
    [[1.0, 1.0]]
    """
    q_max = levels(bits, signed=True, symmetric=True)[1]
    largest = tf.reduce_max(tf.abs(kernel), axis=list(range(len(kernel.shape) - 1)), keepdims=True)
    exact = tf.cast(tf.stop_gradient(largest), tf.float64) / q_max
    dropped = 2 ** (53 - scale_bits(q_max)) - 1  # bits of a float64's mantissa below those that stay
    pattern = tf.bitcast(exact, tf.int64) + dropped
    scale = tf.bitcast(tf.bitwise.bitwise_and(pattern, tf.constant(~dropped, tf.int64)), tf.float64)
    scale = tf.maximum(scale, tf.constant(2.0**-126, tf.float64))
    return tf.cast(tf.where(exact > 0, scale, tf.ones_like(scale)), tf.float32)


def _summed(gradient: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """The gradient summed over the axes along which the scale was stretched."""
    axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(gradient), s1=shape)[1]
    return tf.reshape(tf.reduce_sum(gradient, axes), shape)
