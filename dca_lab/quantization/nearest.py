"""Round-to-nearest (RTN): the weights of each group move to the nearest level of the group's own grid.

    scale = (max - min) / (2^b - 1),   zero_point = round(-min / scale),   min <= 0 <= max   (asymmetric)
    scale = max |w| / (2^(b-1) - 1),   zero_point = 2^(b-1)                                  (symmetric)
    code  = clamp(round(w / scale) + zero_point, 0, 2^b - 1),      |w - (code - zero_point) scale| <= scale / 2

The scale is rounded to float16, upwards, *before* the weights are rounded with it: what is in memory is what the
file says, bit for bit, and the bound of scale/2 stays true (up to the rounding of w / scale in float32). The price
is a grid that is wider by less than 2^-10 of itself, and codes that differ here and there from those of a library
that rounds the weights with a float32 scale; ``scale_dtype=torch.float32`` gives those.

RTN is the baseline that GPTQ and AWQ are measured against: E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ:
Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR, 2023. It looks at no activation,
and it is *not* the best choice of codes: the rounding errors of a row add up in the output.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ._checks import check_bits, is_whole
from .group_weights import GroupWeights


def group_grid(
    groups: Tensor,
    *,
    bits: int,
    symmetric: bool = False,
    scale_dtype: torch.dtype = torch.float16,
) -> tuple[Tensor, Tensor]:
    """The scale and the zero point of each group: the grid that covers its range and contains 0.

    Parameters
    ----------
    groups : Tensor
        (..., g), finite: each row of the last dimension is a group.
    bits : int
        2 to 8.
    symmetric : bool
        Zero in the middle of the codes, levels at +-scale, +-2 scale, ...
    scale_dtype : torch.dtype
        float16, or float32 for the unrounded scale.

    Returns
    -------
    scale : Tensor
        (...), of `scale_dtype`, above 0; 1 for a group of zeros.
    zero_point : Tensor
        (...), uint8.

    Raises
    ------
    ValueError
        When a weight is not finite, or a scale is too large for `scale_dtype`.

    Examples
    --------
    >>> scale, zero_point = group_grid(torch.tensor([[-1.0, 0.0, 2.75]]), bits=4)
    >>> scale.tolist(), zero_point.tolist()
    ([0.25], [4])
    """
    check_bits("bits", bits)
    if scale_dtype not in (torch.float16, torch.float32):
        raise ValueError(f"scale_dtype={scale_dtype}: choose torch.float16 or torch.float32")
    groups = groups.detach().float()
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    if not (torch.isfinite(low) & torch.isfinite(high)).all():
        raise ValueError("the weights contain NaN or infinity: look at the training that produced them")
    span, steps = (torch.maximum(-low, high), 2 ** (bits - 1) - 1) if symmetric else (high - low, 2**bits - 1)
    scale = span / steps
    scale = torch.where(scale == 0, 1.0, scale)  # a group of zeros: any grid holds it
    if scale_dtype == torch.float16:
        scale = _round_up(scale)
    if not torch.isfinite(scale).all():
        raise ValueError(
            f"weights up to {float(span.max()):.3g} need a scale beyond {scale_dtype}: "
            "scale_dtype=torch.float32 reaches further, smaller weights are better"
        )
    middle = torch.full_like(low, 2 ** (bits - 1))
    zero_point = middle if symmetric else (-low / scale.float()).round().clamp(0, 2**bits - 1)
    return scale, zero_point.to(torch.uint8)


def quantize_groupwise(
    weight: Tensor,
    *,
    bits: int = 4,
    group_size: int | None = 64,
    symmetric: bool = False,
    scale_dtype: torch.dtype = torch.float16,
) -> GroupWeights:
    """Round each weight to the nearest level of its group's grid (RTN).

    Parameters
    ----------
    weight : Tensor
        (O, I), finite: a linear layer's weight.
    bits : int
        2 to 8.
    group_size : int or None
        Inputs that share a scale; the last group is shorter where it does not divide I. None or -1: a row.
    symmetric : bool
        See `group_grid`.
    scale_dtype : torch.dtype
        float16 is what a file stores; float32 gives exactly the codes of a library that keeps it.

    Returns
    -------
    GroupWeights

    Raises
    ------
    ValueError
        When the weight is no finite matrix, or bits or group size make no sense.

    Examples
    --------
    >>> weights = quantize_groupwise(torch.randn(16, 100), bits=3, group_size=32)
    >>> weights.codes.shape, weights.scale.shape
    (torch.Size([16, 100]), torch.Size([16, 4]))
    """
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.numel() == 0:
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(
            f"weight must be a non-empty (O, I) matrix, not {found}: flatten a convolution's first"
        )
    rows, inputs = weight.shape
    size = inputs if group_size in (None, -1) else group_size
    if not is_whole(size) or size < 1:
        raise ValueError(
            f"group_size={group_size!r}: give a number of weights from 1, or None for a whole row"
        )
    size = min(size, inputs)
    # Zeros that fill the last group change no range, because every range contains 0.
    groups = F.pad(weight.detach().float(), (0, -inputs % size)).view(rows, -1, size)  # (O, G, g)
    scale, zero_point = group_grid(groups, bits=bits, symmetric=symmetric, scale_dtype=scale_dtype)
    codes = (groups / scale.float().unsqueeze(-1)).round() + zero_point.unsqueeze(-1)
    codes = codes.clamp(0, 2**bits - 1).to(torch.uint8).view(rows, -1)[:, :inputs].contiguous()
    return GroupWeights(codes, scale, zero_point, bits, size)


def _round_up(scale: Tensor) -> Tensor:
    """The smallest float16 that is not below a positive float32; infinite beyond 65504."""
    half = scale.half()
    following = (half.view(torch.int16) + 1).view(
        torch.float16
    )  # positive floats are ordered as their bits are
    return torch.where(half.float() < scale, following, half)
