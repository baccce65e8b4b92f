"""A linear layer that holds its weight as packed codes.

    y = x W~^T + b,     W~ = (code - zero_point) * scale [/ input_scale], unpacked anew in each call

The bytes that the layer keeps are those of the file: b bits a weight, and its share of a scale and a zero point.
The float weight exists only while the layer runs. This saves memory, *not* time: unpacking costs more than the
product that follows. Codes that are multiplied as they are need a kernel for them; see `int4_onnx`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .group_weights import GroupWeights
from .packing import pack, unpack


class PackedLinear(nn.Module):
    """``nn.Linear`` with packed weights: buffers `packed`, `scale`, `zero_point` (packed too), `bias`, and
    `input_scale` (or None).

    Parameters
    ----------
    weights : GroupWeights
        (O, I).
    bias : Tensor, optional
        (O,).

    Examples
    --------
    >>> import torch
    >>> from dca_lab.quantization.nearest import quantize_groupwise
    >>> layer = PackedLinear(quantize_groupwise(torch.randn(8, 128)))
    >>> layer(torch.zeros(2, 128)).shape, layer.packed.shape
    (torch.Size([2, 8]), torch.Size([512]))
    """

    def __init__(self, weights: GroupWeights, bias: Tensor | None = None):
        super().__init__()
        self.out_features, self.in_features = weights.codes.shape
        self.bits, self.group_size = weights.bits, weights.group_size
        self.register_buffer("packed", pack(weights.codes, weights.bits))
        self.register_buffer("scale", weights.scale.clone())
        self.register_buffer("zero_point", pack(weights.zero_point, weights.bits))
        each = weights.input_scale
        self.register_buffer("input_scale", None if each is None else each.clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def weights(self) -> GroupWeights:
        """The codes, unpacked."""
        shape = self.out_features, self.in_features
        return GroupWeights(
            unpack(self.packed, self.bits, shape[0] * shape[1]).view(shape),
            self.scale,
            unpack(self.zero_point, self.bits, self.scale.numel()).view_as(self.scale),
            self.bits,
            self.group_size,
            self.input_scale,
        )

    @property
    def weight(self) -> Tensor:
        """(O, I), float32, made for each call: modules that read a layer's weight themselves find it here."""
        return self.weights().dequantize()

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits={self.bits}, group_size={self.group_size}"
        )
