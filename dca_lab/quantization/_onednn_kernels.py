"""One step of a quantized network as a call of oneDNN: weights packed once, then levels in, levels out.

    round((sum_k (x_k - zero_point) w_k + bias) * scale_x * scale_w / scale) + zero_point, clamped to a byte

The kernels are those that PyTorch's compiler calls (``torch.ops.onednn``); their argument lists belong to the version
that `constraints.txt` names, and a test compares each with `integer`. What this is *not*: a choice of what is computed
together; see `onednn`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ._qdq_layers import lowest_level
from .integer import integer_step
from .steps import Grid, Step

Kernel = Callable[..., Tensor]


def kernel_of(step: Step, sources: list[Grid]) -> Kernel:
    """What computes the levels of a step (logits, if it has no grid) from those of its inputs."""
    if step.op == "conv2d":
        return _convolution(step, sources[0])
    if step.op == "linear":
        return _linear(step, sources[0])
    if step.op == "add":
        return _addition(step, sources)
    if step.op == "max_pool2d":
        a = step.attributes  # in float32, which holds every level: bytes have no kernel
        return lambda x: F.max_pool2d(
            x.float(), a["kernel_size"], a["stride"], a["padding"], a["dilation"]
        ).byte()
    if step.op == "mean":
        return _mean(step, sources[0])
    return lambda *inputs: integer_step(step, list(inputs), sources)


def _convolution(step: Step, source: Grid) -> Kernel:
    padded, operands, after = _operands(step, source)
    after = (*after, *_ending(step))

    def run(x: Tensor) -> Tensor:
        x = padded(x)
        result = torch.ops.onednn.qconv_pointwise.default(x, *operands(x), *after)
        return _ceiling(result, step.grid)

    return run


def convolution_and_sum(step: Step, source: Grid, add: Step, other: Grid, *, keep: bool) -> Kernel:
    """A convolution and the addition that reads it, in one kernel, which writes over the tensor that it adds."""
    padded, operands, (bias, *shape) = _operands(step, source)
    output = (add.grid.scale, add.grid.zero_point, torch.uint8, other.scale, other.zero_point)
    relu = "relu" if add.relu else None

    def run(x: Tensor, y: Tensor) -> Tensor:
        x, y = padded(x), y.clone() if keep else y
        result = torch.ops.onednn.qconv2d_pointwise.binary(
            x, *operands(x), y, bias, *shape, *output, "sum", 1.0, relu, [], None
        )
        return _ceiling(result, add.grid)

    return run


def _operands(step: Step, source: Grid) -> tuple[Callable, Callable, tuple]:
    """What pads the input; the arguments that follow it, up to the weights; and bias, stride, padding and so on.

    Weights lie in memory as the kernel for *one* shape of input wants them, and another shape takes much longer with them:
    they are packed at the first call with a shape, and kept for the last two.
    """
    settings, (top, bottom, left, right) = step.attributes, step.attributes["padding"]
    even = top == bottom and left == right
    padding = [top, left] if even else [0, 0]
    shape = (list(settings["stride"]), padding, list(settings["dilation"]), settings["groups"])
    grid = (source.scale, source.zero_point)
    arguments: dict[torch.Size, tuple] = {}

    def operands(x: Tensor) -> tuple:
        if x.shape not in arguments:
            while len(arguments) > 1:
                arguments.pop(next(iter(arguments)))
            packed = torch.ops.onednn.qconv_prepack(
                step.weight, step.weight_scale, *grid, *shape, list(x.shape)
            )
            arguments[x.shape] = (*grid, packed, step.weight_scale, _zeros(step))
        return arguments[x.shape]

    def padded(x: Tensor) -> Tensor:  # with the level of zero
        return x if even else F.pad(x, (left, right, top, bottom), value=source.zero_point)

    return padded, operands, (_real_bias(step, source), *shape)


def _linear(step: Step, source: Grid) -> Kernel:
    packed = torch.ops.onednn.qlinear_prepack(step.weight, None)
    before = (source.scale, source.zero_point, packed, step.weight_scale, _zeros(step))
    after = (_real_bias(step, source), *_ending(step))

    def run(x: Tensor) -> Tensor:
        result = torch.ops.onednn.qlinear_pointwise.default(x.flatten(0, -2), *before, *after)
        return _ceiling(result.unflatten(0, x.shape[:-1]), step.grid)

    return run


def _addition(step: Step, sources: list[Grid]) -> Kernel:
    """Two tensors of levels that no convolution takes in, added in float32."""
    first, second = (grid.scale / step.grid.scale for grid in sources)
    offset = step.grid.zero_point - sources[0].zero_point * first - sources[1].zero_point * second

    def run(x: Tensor, y: Tensor) -> Tensor:
        return _rounded(x.float().mul_(first).add_(y, alpha=second).add_(offset), step)

    return run


def _mean(step: Step, source: Grid) -> Kernel:
    """Over height and width, in float32."""
    ratio = source.scale / step.grid.scale
    offset = step.grid.zero_point - source.zero_point * ratio

    def run(x: Tensor) -> Tensor:
        means = x.float().mean((-2, -1), keepdim=step.attributes["keepdim"])
        return _rounded(means.mul_(ratio).add_(offset), step)

    return run


def _rounded(levels: Tensor, step: Step) -> Tensor:
    """Float levels, which are written over -> those of the step's grid."""
    return levels.round_().clamp_(lowest_level(step), step.grid.highest).to(torch.uint8)


def _zeros(step: Step) -> Tensor:
    """Zero points of the weights, which are symmetric."""
    return torch.zeros(len(step.weight_scale), dtype=torch.int32)


def _real_bias(step: Step, source: Grid) -> Tensor | None:
    return None if step.bias is None else (step.bias.double() * step.weight_scale * source.scale).float()


def _ending(step: Step) -> tuple:
    """What a kernel does with its sums: the output's scale, zero point and type, and ReLU."""
    to = (
        (1.0, 0, torch.float32) if step.grid is None else (step.grid.scale, step.grid.zero_point, torch.uint8)
    )
    return *to, "relu" if step.relu else "none", [], ""


def _ceiling(levels: Tensor, grid: Grid | None) -> Tensor:
    """Grids of fewer than 8 bits end below the byte at which the kernel clamps."""
    return levels if grid is None or grid.highest == 255 else levels.clamp_(max=grid.highest)
