"""What a quantized network is: a list of steps, each a layer in integers, and the grid that its output lies on.

    real value = (level - zero_point) * scale,    level in 0 .. 2^bits - 1           (`Grid`)
    sum        = bias + sum_k (x_k - zero_point) * weight_k                           (`Step`, int32)
    level      = clamp(round(sum * scale_x * scale_w / scale) + zero_point)

Weights are symmetric int8 with one scale an output channel, activations asymmetric unsigned levels with one
grid a tensor, biases int32 in units of scale_x * scale_w, so that they are added to the sum as they stand:
B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR, 2018 (section 2). The steps are plain data. They are *not* an executor: `simulate` runs them
in float32, `integer` in integers, and an exporter can read them as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import affine
from ._checks import is_whole


@dataclass(frozen=True)
class Grid:
    """The levels that an activation may take: (level - zero_point) * scale for level in 0 .. 2^bits - 1.

    Parameters
    ----------
    scale : float
        Distance between two levels, above zero; a value that float32 holds exactly.
    zero_point : int
        The level that stands for zero, in 0 .. 2^bits - 1.
    bits : int
        2 to 8.

    Raises
    ------
    ValueError
        When one of the three is out of range.

    Examples
    --------
    >>> Grid(scale=0.5, zero_point=128).highest
    255
    >>> Grid(scale=0.5, zero_point=128).range
    (-64.0, 63.5)
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        if not is_whole(self.bits) or not 2 <= self.bits <= 8:
            raise ValueError(f"bits={self.bits}: a grid has 2 to 8 bits")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale={self.scale}: the distance between two levels is finite and above zero")
        if not is_whole(self.zero_point) or not 0 <= self.zero_point <= self.highest:
            raise ValueError(f"zero_point={self.zero_point}: zero must be a level, 0 to {self.highest}")

    @property
    def highest(self) -> int:
        """The last level, 2^bits - 1."""
        return 2**self.bits - 1

    @property
    def range(self) -> tuple[float, float]:
        """The values of the first and of the last level."""
        return -self.zero_point * self.scale, (self.highest - self.zero_point) * self.scale

    def quantize(self, x: Tensor) -> Tensor:
        """The nearest levels of x, uint8."""
        return affine.quantize(x, self.scale, self.zero_point, bits=self.bits).to(torch.uint8)

    def dequantize(self, levels: Tensor) -> Tensor:
        """What levels stand for, float32."""
        return affine.dequantize(levels, self.scale, self.zero_point)

    def fake_quantize(self, x: Tensor) -> Tensor:
        """x moved to the nearest values of the grid, float32."""
        return affine.fake_quantize(x, self.scale, self.zero_point, bits=self.bits)


@dataclass(frozen=True)
class Step:
    """One layer of a quantized network.

    Parameters
    ----------
    name : str
        The layer's name in the traced network, unique, such as "layer1_0_conv1".
    op : str
        "conv2d", "linear", "add", "cat", "max_pool2d", "adaptive_max_pool2d" (windows of unequal size only),
        "avg_pool2d", "mean" (over height and width), "lookup" (an elementwise function as a table), "flatten"
        or "relu" (one that no layer before it could take in).
    inputs : tuple of str
        Names of the steps that it reads, or "input".
    grid : Grid, optional
        Of the output. None for the network's last layer: its int32 sum times a scale is the result.
    weight : Tensor, optional
        int8, (O, I) or (O, I / groups, kh, kw).
    weight_scale : Tensor, optional
        float32, (O,).
    bias : Tensor, optional
        int32, (O,), in units of input scale * weight_scale.
    relu : bool
        The output is clamped at zero. Nearly always its grid has zero_point 0, which clamps for nothing; not so
        where a concatenation shares one grid with a branch that has no ReLU.
    attributes : dict
        conv2d: stride, padding (top, bottom, left, right), dilation, groups. max_pool2d: kernel_size, stride,
        padding, dilation. avg_pool2d: kernel_size, stride, padding. adaptive_max_pool2d: output_size. mean:
        keepdim, count (values a mean is taken of). cat: dim. lookup: function, arguments, table (uint8, one
        entry a level of the input).
    weight_bits : int
        Bits that the weights need: they lie in +-(2^(bits-1) - 1).

    Examples
    --------
    >>> Step("flatten", "flatten", ("pool",), Grid(0.1, 0)).relu
    False
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    grid: Grid | None
    weight: Tensor | None = None
    weight_scale: Tensor | None = None
    bias: Tensor | None = None
    relu: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    weight_bits: int = 8
