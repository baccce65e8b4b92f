r"""Bias correction: take the mean error of each layer's output out of its bias.

Rounding errors of weights are fixed, and inputs are rarely zero on average, so a quantized layer is wrong on
average too, channel by channel, by an amount that calibration data show:

.. math:: b'_c = b_c - \mathrm{E}\bigl[\tilde y_c - y_c\bigr]

where :math:`y` is the output of the float layer (before its activation function) and :math:`\tilde y` that of
the quantized layer on its *quantized* inputs; the mean is over examples and positions. Layers are corrected in
order, each seeing the corrected ones before it. The mean is what least squares would subtract if only the bias
may move, so on the calibration data the squared error of no layer grows.

M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight Equalization and
Bias Correction", ICCV, 2019 (section 4.2; the empirical form is in its appendix). It is *not* the analytic form,
which computes the means from batch-norm statistics without data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from ._lockstep import lockstep
from ._rows import output_rows
from .calibration import calibration_batches
from .graph import prepare
from .layer_codes import bias_codes
from .simulate import simulate_step
from .static import quantize_static
from .steps import Step


def bias_correction(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    **options: Any,
) -> fx.GraphModule:
    """A copy of the network whose biases make up for the mean error of its quantization.

    Parameters
    ----------
    model : nn.Module
        Plain, or a graph from `prepare` (or `equalize`); not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches; as for `quantize_static`.
    **options
        Of `quantize_static`: the same as in the call that follows, since the error is that of these settings.

    Returns
    -------
    fx.GraphModule
        To be given to ``quantize_static(..., **options)``. As a float network it is slightly *worse* than the
        original: its biases are right for the quantized one.

    Raises
    ------
    QuantizationError, ValueError
        As `quantize_static`.

    References
    ----------
    Nagel et al., ICCV 2019, section 4.2.

    Examples
    --------
    >>> x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> corrected = bias_correction(model, x, weight_bits=4)
    >>> corrected.get_submodule("0").bias.shape
    torch.Size([4])
    >>> quantize_static(corrected, x, weight_bits=4)(x).shape
    torch.Size([16, 3])
    """
    batches = calibration_batches(calibration)
    graph = prepare(model, batches[0])
    static = quantize_static(graph, batches, **options)
    corrected = {}

    def revise(step: Step, x: Tensor, target: Tensor) -> Step:
        source = static.grids[step.inputs[0]]
        y = simulate_step(replace(step, grid=None, relu=False), [x], [source])
        error = output_rows(step, y.double() - target).mean(1).flatten()  # (O,): groups lie one after another
        unit = step.weight_scale.double() * source.scale
        bias = (0.0 if step.bias is None else step.bias * unit) - error
        corrected[step.name] = bias.float()
        codes = bias_codes(step.name, bias, step.weight, step.weight_scale, input_scale=source.scale)
        return replace(step, bias=codes)

    lockstep(graph, static, torch.cat(batches), revise, title="bias correction")
    for node in graph.graph.nodes:
        if node.name in corrected:
            graph.get_submodule(node.target).bias = nn.Parameter(corrected[node.name])
    return graph
