"""A quantized network in float32: every tensor is moved to its grid, the arithmetic between is ordinary.

    y = fake_quantize(op(x_hat, w_hat) + b_hat),      x_hat, w_hat, b_hat: values on their grids

This is how quantization is studied before it is executed, and what training with quantization sees:
R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper",
arXiv:1806.08342, 2018. Float32 sums are rounded where integer sums are exact, so that a value
halfway between two levels may fall to either side: one level, and no more. It is *not* a proof that integers
give the same: hardware that adds in 16 bits does not (`integers(x, saturate=True)`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph.plan import KEEPS_GRID
from .steps import Grid, Step


def simulate_step(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    """The output of one step, in float32.

    Parameters
    ----------
    step : Step
    inputs : list of Tensor
        float32, on their grids.
    sources : list of Grid
        The grids of the inputs.

    Returns
    -------
    Tensor
        float32, on ``step.grid``; not rounded where there is none.

    Examples
    --------
    >>> grid = Grid(scale=0.5, zero_point=0)
    >>> step = Step("mean", "mean", ("input",), grid, attributes={"keepdim": False})
    >>> simulate_step(step, [torch.tensor([[[[0.0, 0.5]]]])], [grid])  # 0.25 lies halfway: to the even level
    tensor([[0.]])
    """
    y = _OPS[step.op](step, inputs, sources)
    if step.op in KEEPS_GRID:  # the values that were there before
        return y
    if step.relu:
        y = y.relu()
    return y if step.grid is None else step.grid.fake_quantize(y)


def _weights(step: Step, source: Grid) -> tuple[Tensor, Tensor | None]:
    scale = step.weight_scale
    weight = step.weight * scale.reshape(-1, *[1] * (step.weight.dim() - 1))
    return weight, None if step.bias is None else (step.bias * (scale.double() * source.scale)).float()


def _conv2d(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    top, bottom, left, right = step.attributes["padding"]
    settings = {name: step.attributes[name] for name in ("stride", "dilation", "groups")}
    padded = F.pad(inputs[0], (left, right, top, bottom))
    return F.conv2d(padded, *_weights(step, sources[0]), **settings)


def _linear(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return F.linear(inputs[0], *_weights(step, sources[0]))


def _add(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return inputs[0] + inputs[1]


def _cat(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return torch.cat(inputs, step.attributes["dim"])


def _max_pool2d(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return F.max_pool2d(inputs[0], **step.attributes)


def _adaptive_max_pool2d(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return F.adaptive_max_pool2d(inputs[0], step.attributes["output_size"])


def _avg_pool2d(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return F.avg_pool2d(inputs[0], **step.attributes)


def _mean(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return inputs[0].mean((2, 3), keepdim=step.attributes["keepdim"])


def _lookup(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return step.grid.dequantize(step.attributes["table"][sources[0].quantize(inputs[0]).long()])


def _flatten(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return inputs[0].flatten(1)


def _relu(step: Step, inputs: list[Tensor], sources: list[Grid]) -> Tensor:
    return inputs[0].relu()


_OPS = {
    "conv2d": _conv2d,
    "linear": _linear,
    "add": _add,
    "cat": _cat,
    "max_pool2d": _max_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "mean": _mean,
    "lookup": _lookup,
    "flatten": _flatten,
    "relu": _relu,
}
