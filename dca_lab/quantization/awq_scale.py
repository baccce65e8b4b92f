r"""The scale of AWQ: the factor of each input channel of the layers that read one input, by one searched exponent.

.. math:: s_j = \bar x_j^{\,\alpha} \Big/ \sqrt{\max_k \bar x_k^{\,\alpha} \min_k \bar x_k^{\,\alpha}}, \qquad
   \alpha = \arg\min_{\alpha \in [0, 1)} \bigl\lVert X W^T - (X / s)\, Q(W\,\mathrm{diag}(s))^T \bigr\rVert^2 .

:math:`\alpha = 0` is round-to-nearest, so a layer's error on the calibration data never grows; the network's may.

J. Lin, J. Tang, H. Tang, S. Yang, W.-M. Chen, W.-C. Wang, G. Xiao, X. Dang, C. Gan, S. Han, "AWQ: Activation-aware Weight
Quantization for On-Device LLM Compression and Acceleration", MLSys 2024, section 3.2, equations 4 and 5.

What this file is *not*: the search of the authors' code, which for q, k and v looks at the output of the whole attention,
softmax included. Here it is the sum of the errors of the three layers, for which X^T X is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dca_lab.quantization._calibration import checked_hessian
from dca_lab.quantization.nearest import quantize_groupwise


def awq_scales(
    weights: Sequence[Tensor],
    hessian: Tensor,
    salience: Tensor,
    *,
    bits: int = 4,
    group_size: int | None = 64,
    symmetric: bool = False,
    steps: int = 20,
) -> tuple[Tensor, float]:
    """The factor of each input channel for the linear layers that read one input.

    Parameters
    ----------
    weights : sequence of Tensor
        (O, I) each; q, k and v are three.
    hessian : Tensor
        (I, I): X^T X of their input. The squared error of their outputs is tr(D H D^T), D the change of a weight.
    salience : Tensor
        (I,): mean magnitude of each channel, not negative. A channel that is always 0 is treated as the smallest.
    bits, group_size, symmetric
        The grid, as for `quantize_groupwise`.
    steps : int
        Exponents tried: 0, 1/steps, .. (steps - 1)/steps.

    Returns
    -------
    scale : Tensor
        float64 (I,), positive, with the product of its extremes 1.
    alpha : float
        The exponent; at a tie the smaller one.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, a negative salience, or no step.

    Examples
    --------
    >>> x = torch.randn(200, 8) * torch.tensor([30.0, 1, 1, 1, 1, 1, 1, 1])
    >>> scale, alpha = awq_scales([torch.randn(4, 8)], x.T @ x, x.abs().mean(0), bits=3, group_size=8)
    >>> scale.shape, int(scale.argmax()), alpha > 0
    (torch.Size([8]), 0, True)
    """
    inputs = len(salience)
    if not weights or any(w.ndim != 2 or w.shape[1] != inputs for w in weights):
        raise ValueError(f"weights must be matrices (O, {inputs}), got {[tuple(w.shape) for w in weights]}")
    hessian = checked_hessian(hessian, inputs)
    if not bool((torch.isfinite(salience) & (salience >= 0)).all()):
        raise ValueError("salience must be finite and not negative: look at the calibration data")
    if steps < 1:
        raise ValueError(f"steps={steps}: try at least one exponent")
    salience = salience.double()
    alive = salience > 0
    salience = salience.clamp(min=float(salience[alive].min()) if alive.any() else 1.0)
    best = (torch.inf, torch.ones(inputs).double(), 0.0)
    for alpha in (step / steps for step in range(steps)):
        scale = salience**alpha
        scale = scale / (scale.max() * scale.min()).sqrt()
        error = 0.0
        for weight in weights:
            larger = weight.detach().double() * scale
            found = quantize_groupwise(larger, bits=bits, group_size=group_size, symmetric=symmetric)
            change = (larger - found.dequantize().double()) / scale
            error += float(((change @ hessian) * change).sum())
        if error < best[0]:
            best = (error, scale, alpha)
    return best[1], best[2]
