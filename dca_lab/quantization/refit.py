r"""Refit: the weights that are best for the inputs which the quantized network really delivers.

A quantized layer reads :math:`\tilde x = x + e`, with an error e that has a pattern: all background pixels are
rounded in the same way, so their errors do not average out. The layer can be fitted to that by least squares,

.. math:: \min_{W', b'} \; \sum \lVert W' \tilde x + b' - (W x + b) \rVert^2 + \lambda \lVert W' - W \rVert^2

which has the closed form :math:`W' = W + D \tilde X^T (\tilde X \tilde X^T + \lambda I)^{-1}` on centred data, with
:math:`D = W x + b - W \tilde x - b` the error to be explained. W' is rounded to the grid, b' takes what is left
of the mean, and the next layer is fitted behind it. Bias correction is the case in which only b' may move.

The idea of reconstructing layer by layer from the quantized inputs: I. Hubara, Y. Nahshan, Y. Hanani,
R. Banner, D. Soudry, "Accurate Post Training Quantization With Small Calibration Sets", ICML, 2021, who learn
W' together with the grids by gradient steps. This file is *not* that method: it keeps the grids, and solves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from ._lockstep import lockstep
from ._rows import input_rows, output_rows, weight_rows
from .calibration import calibration_batches
from .graph import prepare
from .layer_codes import bias_codes, layer_codes
from .static import quantize_static
from .steps import Step

_CHUNK = 32  # examples at a time


def refit(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    damping: float = 1.0,
    **options: Any,
) -> fx.GraphModule:
    """A copy of the network whose weights and biases are fitted to its quantized activations.

    Parameters
    ----------
    model : nn.Module
        Plain, or a graph from `prepare` (or `equalize`); not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches; as for `quantize_static`.
    damping : float
        lambda, as a share of the mean square of the layer's centred inputs; above zero. A few hundred examples
        do not determine a layer with a thousand inputs: with little damping the error falls on the examples that
        were fitted, and less on others. Where the rounding errors have no pattern, it rises on others.
    **options
        Of `quantize_static`, as in the call that follows; give it ``grids=`` of a first quantization, so that
        the grids that the weights were fitted to stay.

    Returns
    -------
    fx.GraphModule
        To be given to ``quantize_static(..., **options)``.

    Raises
    ------
    QuantizationError, ValueError
        As `quantize_static`; and for a damping that is not above zero.

    References
    ----------
    Hubara et al., ICML 2021, for the layer-wise problem.

    Examples
    --------
    >>> x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> quantize_static(refit(model, x, activation_bits=4), x, activation_bits=4)(x).shape
    torch.Size([16, 3])
    """
    if not damping > 0:
        raise ValueError(f"damping={damping!r}: it must be above zero")
    batches = calibration_batches(calibration)
    graph = prepare(model, batches[0])
    static = quantize_static(graph, batches, **options)
    nodes = {node.name: node for node in graph.graph.nodes}
    fitted = {}

    def revise(step: Step, x: Tensor, target: Tensor) -> Step:
        layer, source = graph.get_submodule(nodes[step.name].target), static.grids[step.inputs[0]]
        weight, x_mean, y_mean = _least_squares(step, layer, x, target, damping)
        per_channel = options.get("per_channel", True)
        codes, scale = layer_codes(
            weight, layer.bias, input_scale=source.scale, bits=step.weight_bits, per_channel=per_channel
        )
        rounded = weight_rows(step, codes.double()) * scale.double().reshape(len(x_mean), -1, 1)
        bias = (y_mean - x_mean @ rounded.transpose(1, 2)).flatten().float()
        fitted[step.name] = weight, bias
        integers = bias_codes(step.name, bias, codes, scale, input_scale=source.scale)
        return replace(step, weight=codes, weight_scale=scale, bias=integers)

    lockstep(graph, static, torch.cat(batches), revise, title="refit")
    for name, (weight, bias) in fitted.items():
        layer = graph.get_submodule(nodes[name].target)
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return graph


def _least_squares(
    step: Step,
    layer: nn.Module,
    x: Tensor,
    target: Tensor,
    damping: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The fitted weight, and the means of what the layer reads (groups, 1, K) and should give (groups, 1, O)."""
    weight = weight_rows(step, layer.weight.detach().double())  # (groups, O / groups, K)
    x_shift = input_rows(step, x[:_CHUNK]).double().mean(1, keepdim=True)
    y_shift = output_rows(step, target[:_CHUNK]).double().mean(1, keepdim=True)
    count, x_sum, e_sum, gram, cross = 0, 0.0, 0.0, 0.0, 0.0
    for a, b in zip(x.split(_CHUNK), target.split(_CHUNK), strict=True):
        a = input_rows(step, a).double() - x_shift  # sums around a typical value: no cancellation
        e = output_rows(step, b).double() - y_shift - a @ weight.transpose(1, 2)
        count, x_sum, e_sum = (
            count + a.shape[1],
            x_sum + a.sum(1, keepdim=True),
            e_sum + e.sum(1, keepdim=True),
        )
        gram, cross = gram + a.transpose(1, 2) @ a, cross + a.transpose(1, 2) @ e
    gram = (gram - x_sum.transpose(1, 2) @ x_sum / count) / count
    cross = (cross - x_sum.transpose(1, 2) @ e_sum / count) / count
    size = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(torch.float32).tiny)
    gram = gram + damping * size[:, None, None] * torch.eye(gram.shape[1], dtype=torch.float64)
    change = torch.linalg.solve(gram, cross)  # (groups, K, O / groups)
    new = (weight + change.transpose(1, 2)).reshape(layer.weight.shape).float()
    x_mean = x_sum / count
    y_mean = e_sum / count + x_mean @ weight.transpose(1, 2) + y_shift
    return new, x_mean + x_shift, y_mean
