"""A weight matrix as small integer codes, with a scale and a zero point for each group of neighbours in a row.

    w ~ (code - zero_point) * scale [/ input_scale],     code and zero_point in 0 .. 2^b - 1

With b = 4 and groups of g = 64, a weight costs 4 + 16/64 + 4/64 = 4.3125 bits: its code, and its share of a float16
scale and of a zero point. Smaller groups follow the weights more closely and cost more. Optional is a positive number
for each input, which the rounded weights (or the activations, W (x / s) = (W / s) x) are divided by; AWQ puts one
where it cannot hide it in the layer before. This is the format that
every weight-only method here fills: round-to-nearest (`nearest`), GPTQ, AWQ. It is *not* a method: it does
not say how codes and scales were chosen. Nor are the codes packed; `packing` does that.

T. Dettmers, L. Zettlemoyer, "The case for 4-bit precision: k-bit Inference Scaling Laws", ICML, 2023, measures
what bits and group sizes buy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import check_bits, is_whole
from .packing import packed_size


@dataclass(frozen=True, eq=False)
class GroupWeights:
    """A weight matrix as codes, with a scale and a zero point for each group of `group_size` inputs.

    Attributes
    ----------
    codes : Tensor
        uint8 (O, I), in 0 .. 2^bits - 1.
    scale : Tensor
        float16 or float32 (O, G), above 0; G = ceil(I / group_size), the last group may be shorter.
    zero_point : Tensor
        uint8 (O, G), in 0 .. 2^bits - 1: the code of weight 0.
    bits, group_size : int
    input_scale : Tensor, optional
        float16 or float32 (I,), above 0.

    Raises
    ------
    ValueError
        When shapes, dtypes or ranges do not belong together.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    bits: int
    group_size: int
    input_scale: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", check_bits("bits", self.bits))  # a plain int, that a file can hold
        if self.codes.ndim != 2 or self.codes.numel() == 0:
            raise ValueError(
                f"codes must be a non-empty (O, I) matrix, not of shape {tuple(self.codes.shape)}"
            )
        if not is_whole(self.group_size) or self.group_size < 1:
            raise ValueError(f"group_size={self.group_size}: a group has at least one weight")
        object.__setattr__(self, "group_size", int(self.group_size))
        rows, inputs = self.codes.shape
        needed = (rows, -(-inputs // self.group_size))
        for name in ("scale", "zero_point"):
            if tuple(getattr(self, name).shape) != needed:
                raise ValueError(
                    f"{name} must have shape {needed}, one for each {self.group_size} of {inputs} inputs, "
                    f"not {tuple(getattr(self, name).shape)}"
                )
        for name in ("codes", "zero_point"):
            values = getattr(self, name)
            if values.dtype != torch.uint8 or int(values.max()) >= 1 << self.bits:
                raise ValueError(
                    f"{name} must be uint8 and below 2^{self.bits}; got {values.dtype}, largest {values.max()}"
                )
        if self.scale.dtype not in (torch.float16, torch.float32):
            raise ValueError(f"scale must be float16 or float32, not {self.scale.dtype}")
        if self.input_scale is not None:
            self._check_input_scale(self.input_scale)

    def dequantize(self) -> Tensor:
        """The weights (O, I) as float32: (code - zero_point) * scale, over input_scale if there is one."""
        weights = (self.codes.float() - self._spread(self.zero_point)) * self._spread(self.scale)
        return weights if self.input_scale is None else weights / self.input_scale.float()

    def nbytes(self) -> int:
        """Bytes of the packed codes, of all scales, and of the packed zero points.

        Examples
        --------
        >>> codes = torch.zeros(128, 256, dtype=torch.uint8)
        >>> scale, zero_point = torch.ones(128, 4).half(), torch.zeros(128, 4, dtype=torch.uint8)
        >>> GroupWeights(codes, scale, zero_point, 4, 64).nbytes() * 8 / codes.numel()  # bits a weight
        4.3125
        """
        codes, zeros = (packed_size(t.numel(), self.bits) for t in (self.codes, self.zero_point))
        scales = [self.scale] if self.input_scale is None else [self.scale, self.input_scale]
        return codes + sum(t.numel() * t.element_size() for t in scales) + zeros

    def _check_input_scale(self, values: Tensor) -> None:
        inputs = self.codes.shape[1]
        if tuple(values.shape) != (inputs,) or values.dtype not in (torch.float16, torch.float32):
            raise ValueError(
                f"input_scale must be float16 or float32 of shape {(inputs,)}, not {values.dtype} of {tuple(values.shape)}"
            )
        if not (torch.isfinite(values) & (values > 0)).all():
            raise ValueError("input_scale must be positive and finite: weights are divided by it")

    def _spread(self, values: Tensor) -> Tensor:
        """One value a group (O, G) -> one a weight (O, I), float32."""
        return values.float().repeat_interleave(self.group_size, dim=1)[:, : self.codes.shape[1]]
