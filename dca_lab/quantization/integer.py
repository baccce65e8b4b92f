"""A quantized network in integers, step by step: the reference that everything faster is compared with.

    sum = bias + sum_k q_k w_k - zero_point * sum_k w_k                  int32, exact
    level = clamp(round(sum * M) + zero_point_out),   M = scale_x scale_w / scale_out = mantissa / 2^shift

B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR, 2018 (sections 2.2 and 2.3). No float takes part: `multipliers` turns the real factors M into
integers before the first example arrives. It is *not* fast: each product is made in 32 bits, far from what the
processor can do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .fixed_point import fixed_multiplier, multiply_by_fixed, rounding_shift
from .products import convolution, exact_product, windows
from .saturation import saturating_product
from .steps import Grid, Step


def multipliers(step: Step, sources: list[Grid]) -> list[tuple[Tensor, Tensor]]:
    """The factors between the grids of a step as integers (mantissa, shift), one for each of its inputs.

    Parameters
    ----------
    step : Step
    sources : list of Grid
        The grids of its inputs.

    Returns
    -------
    list of tuple of Tensor
        int32; one factor an output channel for a convolution or a linear layer. Empty where nothing is rescaled.

    Examples
    --------
    >>> step = Step("relu", "relu", ("input",), Grid(1.0, 0))
    >>> [(mantissa, shift)] = multipliers(step, [Grid(0.75, 3)])
    >>> mantissa.item() / 2 ** shift.item()
    0.75
    """
    if step.grid is None or step.op not in _RESCALED:
        return []
    real = [torch.tensor(grid.scale, dtype=torch.float64) / step.grid.scale for grid in sources]
    if step.weight_scale is not None:
        shape = (-1, 1, 1) if step.op == "conv2d" else (-1,)
        real = [real[0] * step.weight_scale.double().reshape(shape)]
    if step.op == "avg_pool2d":
        real = [real[0] / (step.attributes["kernel_size"][0] * step.attributes["kernel_size"][1])]
    if step.op == "mean":
        real = [real[0] / step.attributes["count"]]
    if step.op == "add":  # one common shift, so that the products can be added before the only rounding
        shift = fixed_multiplier(max(real))[1]
        return [((part * 2.0 ** shift.item()).round().to(torch.int32), shift) for part in real]
    return [fixed_multiplier(part) for part in real]


def integer_step(
    step: Step,
    inputs: list[Tensor],
    sources: list[Grid],
    *,
    factors: list[tuple[Tensor, Tensor]] | None = None,
    saturate: bool = False,
) -> Tensor:
    """The output of one step, in integers.

    Parameters
    ----------
    step : Step
    inputs : list of Tensor
        uint8 levels.
    sources : list of Grid
        The grids of the inputs.
    factors : list, optional
        ``multipliers(step, sources)``, when they were made before.
    saturate : bool
        Convolutions and linear layers add pairs of products in 16 bits.

    Returns
    -------
    Tensor
        uint8 levels of ``step.grid``; int32 sums where there is none.

    Examples
    --------
    >>> grid = Grid(scale=0.5, zero_point=0)
    >>> step = Step("mean", "mean", ("input",), grid, attributes={"keepdim": False, "count": 2})
    >>> integer_step(step, [torch.tensor([[[[3, 8]]]], dtype=torch.uint8)], [grid])  # 5.5 to the even level
    tensor([[6]], dtype=torch.uint8)
    """
    factors = multipliers(step, sources) if factors is None else factors
    if step.op in ("conv2d", "linear"):
        product = saturating_product if saturate else exact_product
        return integer_layer(step, inputs[0], sources[0], factors, product)
    return _OPS[step.op](step, inputs, sources, factors)


def integer_layer(step: Step, x: Tensor, source: Grid, factors: list, product: Callable) -> Tensor:
    """A convolution or a linear layer: uint8 levels in, uint8 levels (or the int32 sums of the last layer) out."""
    if step.op == "conv2d":
        sums = convolution(x, step.weight, **step.attributes, fill=source.zero_point, product=product)
        shape = (-1, 1, 1)
    else:
        sums = product(x.flatten(0, -2), step.weight).unflatten(0, x.shape[:-1])
        shape = (-1,)
    rows = step.weight.flatten(1).sum(1, dtype=torch.int32)  # (O,)
    sums = sums - (source.zero_point * rows).reshape(shape)
    if step.bias is not None:
        sums = sums + step.bias.reshape(shape)
    if step.grid is None:
        return sums.clamp(min=0) if step.relu else sums
    return _level(multiply_by_fixed(sums, *factors[0]), step)


def _level(rounded: Tensor, step: Step) -> Tensor:
    """Multiples of the output's scale -> levels; ReLU is a higher lower end."""
    lowest = step.grid.zero_point if step.relu else 0
    return (rounded + step.grid.zero_point).clamp_(lowest, step.grid.highest).to(torch.uint8)


def _rescale(x: Tensor, source: Grid, factor: tuple[Tensor, Tensor], step: Step) -> Tensor:
    """Levels of one grid -> levels of the step's grid."""
    return _level(multiply_by_fixed(x.to(torch.int32) - source.zero_point, *factor), step)


def _add(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    total = torch.zeros(inputs[0].shape, dtype=torch.int64)
    for x, source, (mantissa, _) in zip(inputs, sources, factors, strict=True):
        total += (x.to(torch.int64) - source.zero_point) * mantissa  # 9 bits times 31 bits
    return _level(rounding_shift(total, factors[0][1]), step)


def _cat(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    parts = [
        x if source == step.grid else _rescale(x, source, factor, step)
        for x, source, factor in zip(inputs, sources, factors, strict=True)
    ]
    return torch.cat(parts, step.attributes["dim"])


def _max_pool2d(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    (rows, columns), settings = step.attributes["padding"], step.attributes
    seen = windows(
        inputs[0],
        settings["kernel_size"],
        stride=settings["stride"],
        dilation=settings["dilation"],
        padding=(rows, rows, columns, columns),
        fill=0,  # the lowest level: never above a value that is there
    )
    return seen.amax((3, 4)).permute(0, 3, 1, 2)


def _adaptive_max_pool2d(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    """Window i of n covers the positions from floor(i H / n) up to ceil((i + 1) H / n)."""
    x = inputs[0]
    for dim, n in zip((2, 3), step.attributes["output_size"], strict=True):
        H = x.shape[dim]
        parts = [x.narrow(dim, i * H // n, -(-(i + 1) * H // n) - i * H // n) for i in range(n)]
        x = torch.stack([part.amax(dim) for part in parts], dim)
    return x


def _avg_pool2d(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    (rows, columns), kernel = step.attributes["padding"], step.attributes["kernel_size"]
    seen = windows(
        inputs[0],
        kernel,
        stride=step.attributes["stride"],
        dilation=(1, 1),
        padding=(rows, rows, columns, columns),
        fill=sources[0].zero_point,  # padded zeros are counted
    )
    count = kernel[0] * kernel[1]
    total = seen.sum((3, 4), dtype=torch.int32).permute(0, 3, 1, 2) - count * sources[0].zero_point
    return _level(multiply_by_fixed(total, *factors[0]), step)


def _mean(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    total = inputs[0].sum((2, 3), keepdim=step.attributes["keepdim"], dtype=torch.int32)
    total -= step.attributes["count"] * sources[0].zero_point
    return _level(multiply_by_fixed(total, *factors[0]), step)


def _lookup(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    return step.attributes["table"][inputs[0].to(torch.int64)]


def _flatten(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    return inputs[0].flatten(1)


def _relu(step: Step, inputs: list[Tensor], sources: list[Grid], factors: list) -> Tensor:
    return _rescale(inputs[0].clamp(min=sources[0].zero_point), sources[0], factors[0], step)


_RESCALED = ("conv2d", "linear", "add", "cat", "avg_pool2d", "mean", "relu")
_OPS = {
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
