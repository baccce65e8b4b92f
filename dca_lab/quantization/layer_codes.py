"""The integers of one layer: int8 weights with a scale a channel, and an int32 bias in the units of the sum.

    w = code * scale_w[c],     |code| <= 2^(bits - 1) - 1,        b = code * (scale_x scale_w[c])

The bias has the scale of the products, so that it is added to the sum as it stands (B. Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR, 2018,
equation 11). A channel whose weights are nearly all zero would have a scale so small that its bias does not
fit 32 bits: its scale is raised until it does. This is *not* where rounding is clever: `weight_codes` of
`quantize_static` takes integers that were chosen otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .affine import levels, quantize
from .granularity import weight_params
from .graph import QuantizationError

_ROOM = 2.0**30  # a bias may take half of the range of int32, the products the other half


def layer_codes(
    weight: Tensor,
    bias: Tensor | None,
    *,
    input_scale: float,
    bits: int = 8,
    per_channel: bool = True,
) -> tuple[Tensor, Tensor]:
    """Round a weight to symmetric integers.

    Parameters
    ----------
    weight : Tensor
        (O, ...), float32.
    bias : Tensor, optional
        (O,): it decides the smallest scale that a channel may have.
    input_scale : float
        Of the layer's input.
    bits : int
        2 to 8.
    per_channel : bool
        One scale an output channel, or one for all.

    Returns
    -------
    codes : Tensor
        int8, the shape of `weight`.
    scale : Tensor
        float32, (O,).

    Examples
    --------
    >>> codes, scale = layer_codes(torch.tensor([[1.0, -0.6], [4.0, 2.5]]), None, input_scale=1.0, bits=3)
    >>> codes.tolist()
    [[3, -2], [3, 2]]
    """
    granularity = "channel" if per_channel else "tensor"
    scale = weight_params(weight, bits=bits, granularity=granularity)[0].flatten().expand(len(weight)).clone()
    flat = weight.detach().flatten(1)
    if per_channel:
        scale = torch.where(flat.abs().amax(1) > 0, scale, 0.0)  # a row of zeros: the bias alone decides
    if bias is not None:
        scale = torch.maximum(scale, bias.detach().abs() / (input_scale * _ROOM))
    scale = torch.where(scale > 0, scale, 1.0)
    codes = quantize(flat, scale[:, None], torch.tensor(0), bits=bits, symmetric=True)
    return codes.to(torch.int8).reshape(weight.shape), scale


def bias_codes(
    name: str,
    bias: Tensor | None,
    codes: Tensor,
    scale: Tensor,
    *,
    input_scale: float,
) -> Tensor | None:
    """Round a bias to int32, and prove that no sum of the layer can leave 32 bits.

    Parameters
    ----------
    name : str
        Of the layer, for the error.
    bias : Tensor, optional
        (O,), float32.
    codes : Tensor
        int8 weights (O, ...).
    scale : Tensor
        (O,), of the weights.
    input_scale : float

    Returns
    -------
    Tensor or None
        int32, (O,).

    Raises
    ------
    QuantizationError
        When 255 * sum |w| + |b| reaches 2^31 in some channel.

    Examples
    --------
    >>> bias_codes("fc", torch.tensor([0.25]), torch.ones(1, 3, dtype=torch.int8), torch.ones(1), input_scale=0.5)
    tensor([0], dtype=torch.int32)
    """
    largest = 255.0 * codes.double().abs().flatten(1).sum(1)
    rounded = None
    if bias is not None:
        rounded = (bias.detach().double() / (scale.double() * input_scale)).round()
        largest = largest + rounded.abs()
    if largest.max() >= 2**31:
        raise QuantizationError(
            f"layer {name!r}: a sum may reach {largest.max().item():.3g}, more than 32 bits hold: split the layer, "
            "or give it weights of fewer bits or a larger scale"
        )
    return None if rounded is None else rounded.to(torch.int32)


def checked_codes(
    name: str, given: tuple[Tensor, Tensor], weight: Tensor, bits: int
) -> tuple[Tensor, Tensor]:
    """Integers and scales that a caller chose for a layer: int8 of the weight's shape, scales (O,) or one.

    Examples
    --------
    >>> given = torch.ones(4, 3, dtype=torch.int8), torch.tensor(0.5)
    >>> checked_codes("fc", given, torch.zeros(4, 3), 8)[1].shape
    torch.Size([4])
    """
    codes, scale = given
    scale = torch.as_tensor(scale, dtype=torch.float32).detach().flatten().expand(len(weight)).clone()
    lowest, highest = levels(bits, signed=True, symmetric=True)
    if codes.shape != weight.shape or codes.is_floating_point():
        raise ValueError(
            f"weight_codes[{name!r}] must be integers of shape {tuple(weight.shape)}, "
            f"not {codes.dtype} of shape {tuple(codes.shape)}"
        )
    if codes.min() < lowest or codes.max() > highest:
        raise ValueError(f"weight_codes[{name!r}] must lie in {lowest} .. {highest}: it has {bits} bits")
    if not (torch.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"weight_codes[{name!r}]: scales must be finite and above zero")
    return codes.detach().to(torch.int8), scale
