r"""The straight-through estimator: round on the way forward, pretend on the way back that nothing happened.

Rounding is flat between its steps, so its derivative is zero and a network with rounded weights does not
learn. The estimator replaces the derivative of round by one and keeps that of the clamp:

.. math:: \hat x = s \left(\mathrm{clamp}(\mathrm{round}(x / s) + z,\ q_{min},\ q_{max}) - z\right), \qquad
   \frac{\partial \hat x}{\partial x} :=
   \begin{cases} 1 & q_{min} \le \mathrm{round}(x / s) + z \le q_{max} \\ 0 & \text{outside} \end{cases}

Outside the range the clamp is really flat: moving x changes nothing, so no gradient passes (the "clipped"
estimator). Written with ``clamp`` and a rounding whose derivative is one, torch differentiates the whole line
by itself, in x and in the scale s: see :mod:`dca_lab.quantization.lsq`.

Y. Bengio, N. Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation", arXiv:1308.3432, 2013 (they credit G. Hinton's lectures of 2012); clipping at the
ends of the range: M. Courbariaux, I. Hubara, D. Soudry, R. El-Yaniv, Y. Bengio, "Binarized Neural Networks",
arXiv:1602.02830, 2016.

What this file is *not*: the estimate is no derivative of anything that the network computes. It is the
derivative of a surrogate, biased, and good enough to descend by. The arithmetic here stays in floats: integers
begin in :mod:`dca_lab.quantization.qat`'s ``convert``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dca_lab.quantization.affine import levels


def round_ste(x: Tensor) -> Tensor:
    """Round half to even, with derivative one.

    Parameters
    ----------
    x : Tensor
        Any shape, float.

    Returns
    -------
    Tensor
        ``torch.round(x)`` bit for bit; the gradient of the result is handed to x unchanged.

    Examples
    --------
    >>> x = torch.tensor([0.4, 1.7], requires_grad=True)
    >>> y = round_ste(x)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.0, 2.0], [1.0, 1.0])
    """
    # round(x) - x is exact in floating point (the two are close, or one is zero), so x comes back whole
    return x + (torch.round(x) - x).detach()


def fake_quantize_ste(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int = 0,
    *,
    bits: int = 8,
    signed: bool = False,
    symmetric: bool = False,
) -> Tensor:
    """Quantize and dequantize, with the straight-through gradient in x and in the scale.

    Parameters
    ----------
    x : Tensor
        Any shape, float.
    scale : Tensor or float
        Positive; broadcasts against x: 0-d for one scale, (O, 1, ...) for one a channel. If it requires a
        gradient it gets one: round(x / s) - x / s inside the range, the end of the range outside.
    zero_point : Tensor or int
        The level of the value 0, integers of the scale's shape.
    bits, signed, symmetric
        The levels, as in :func:`dca_lab.quantization.affine.levels`.

    Returns
    -------
    Tensor
        The shape of x. The values are those of ``affine.fake_quantize``, but for an x within float32 rounding of
        the middle between two levels: training divides in float32.

    Raises
    ------
    ValueError
        A scale that is not positive and finite, or bits outside the levels' range.

    Examples
    --------
    >>> x = torch.tensor([-1.0, 0.3, 5.0], requires_grad=True)
    >>> y = fake_quantize_ste(x, 0.5, bits=2)  # levels 0, 1, 2, 3: values 0, 0.5, 1, 1.5
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.0, 0.5, 1.5], [0.0, 1.0, 0.0])
    """
    q_min, q_max = levels(bits, signed=signed, symmetric=symmetric)
    scale = torch.as_tensor(scale, dtype=x.dtype)
    # one pass over the scales: a NaN is not above zero either
    if not bool(((scale > 0) & torch.isfinite(scale)).all()):
        raise ValueError(
            f"every scale must be positive and finite, got a smallest of {float(scale.detach().min()):g}: "
            "look for a NaN in the loss, or lower the learning rate of the steps",
        )
    q = torch.clamp(round_ste(x / scale) + zero_point, q_min, q_max)
    return (q - zero_point) * scale
