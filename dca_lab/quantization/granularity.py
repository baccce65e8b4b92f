r"""Granularity: how many values share one scale: the whole tensor, one output channel, or a group of weights.

A scale must stretch to the largest value that it serves, :math:`s = m / q_{max}`, and everything else pays
:math:`s / 2`. One filter that is a hundred times larger than its neighbours leaves them, with one scale for the
tensor, one level out of 127. A scale for each output channel costs 4 bytes a channel; a scale for each group of
:math:`g` weights along a row costs :math:`32 / g` bits (16 / g in half precision) a weight, and pays at 4 bits and below.

Per-channel scales: R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper",
arXiv:1806.08342, 2018. Groups: S. Shen et al., "Q-BERT: Hessian Based Ultra Low Precision Quantization of BERT",
AAAI 2020.

Output channels and not input channels: the scale of an output channel leaves the sum over inputs as one factor,
so that the sum itself runs in integers.

What this file is *not*: it looks at the extremes only. Ranges that clip are in :mod:`dca_lab.quantization.observers`.
"""

from __future__ import annotations

from torch import Tensor

from dca_lab.quantization._checks import is_whole
from dca_lab.quantization.affine import affine_params

GRANULARITIES = ("tensor", "channel", "group")


def grouped(weight: Tensor, group_size: int) -> Tensor:
    """A weight matrix with each row cut into groups of ``group_size`` neighbours.

    Parameters
    ----------
    weight : Tensor
        (O, I), or (O, I, kh, kw) of a convolution, which is read as (O, I * kh * kw).
    group_size : int
        Weights that share a scale; divides the length of a row.

    Returns
    -------
    Tensor
        (O, I / group_size, group_size); ``.reshape(weight.shape)`` leads back.

    Raises
    ------
    ValueError
        If the rows cannot be cut into such groups, or ``weight`` has no row.

    Examples
    --------
    >>> import torch
    >>> grouped(torch.zeros(10, 128), 32).shape
    torch.Size([10, 4, 32])
    """
    if weight.dim() < 2 or weight.numel() == 0:
        raise ValueError(
            f"groups are cut from the rows of a weight (O, I, ...), got shape {tuple(weight.shape)}"
        )
    if not is_whole(group_size) or group_size < 1:
        raise ValueError(f"group_size must be a positive integer, got {group_size!r}")
    rows, length = weight.shape[0], weight[0].numel()
    if length % group_size:
        divisors = [g for g in range(1, length + 1) if length % g == 0]
        raise ValueError(
            f"group_size {group_size} does not divide a row of {length} weights; {divisors[-8:]} do"
        )
    return weight.reshape(rows, length // group_size, group_size)


def ranges(
    x: Tensor,
    *,
    granularity: str = "tensor",
    axis: int = 0,
    group_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each part that has its own scale.

    Parameters
    ----------
    x : Tensor
    granularity : {"tensor", "channel", "group"}
    axis : int
        The channel axis; used by "channel" only.
    group_size : int, optional
        Used, and needed, by "group" only.

    Returns
    -------
    x_min, x_max : Tensor
        0-d for "tensor"; (1, .., C, .., 1) for "channel"; (O, I / group_size, 1) for "group", which broadcasts
        against :func:`grouped`.

    Raises
    ------
    ValueError
        For an empty tensor, an unknown granularity, an axis that is not there, or an impossible group size.

    Examples
    --------
    >>> import torch
    >>> low, high = ranges(torch.zeros(8, 3, 5, 5), granularity="channel")
    >>> low.shape
    torch.Size([8, 1, 1, 1])
    """
    if granularity not in GRANULARITIES:
        raise ValueError(f"granularity must be one of {GRANULARITIES}, got {granularity!r}")
    if x.numel() == 0:
        raise ValueError(f"a tensor of shape {tuple(x.shape)} has no range")
    if (group_size is not None) != (granularity == "group"):
        raise ValueError(f"group_size goes with granularity='group': got {group_size!r} and {granularity!r}")
    x = x.detach()
    if granularity == "tensor":
        return x.amin(), x.amax()
    if granularity == "group":
        parts = grouped(x, group_size)
        return parts.amin(dim=-1, keepdim=True), parts.amax(dim=-1, keepdim=True)
    if not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis {axis} is not an axis of a tensor of shape {tuple(x.shape)}")
    others = [d for d in range(x.dim()) if d != axis % x.dim()]
    if not others:  # a vector: each entry is its own channel (amin over no axis would mean over all)
        return x.clone(), x.clone()
    return x.amin(dim=others, keepdim=True), x.amax(dim=others, keepdim=True)


def weight_params(
    weight: Tensor,
    *,
    bits: int,
    symmetric: bool = True,
    granularity: str = "channel",
    axis: int = 0,
    group_size: int | None = None,
    signed: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a weight, from the extremes of each part.

    Parameters
    ----------
    weight : Tensor
        (O, I) or (O, I, kh, kw); transposed convolutions have their output channels on ``axis=1``.
    bits, symmetric, signed
        The grid, as for :func:`dca_lab.quantization.affine.affine_params`.
    granularity, axis, group_size
        As for :func:`ranges`.

    Returns
    -------
    scale : Tensor, float32
    zero_point : Tensor, int32
        Both broadcast against ``weight``, or against ``grouped(weight, group_size)``.

    Examples
    --------
    >>> import torch
    >>> scale, zero_point = weight_params(torch.randn(16, 64), bits=4, granularity="group", group_size=32)
    >>> scale.shape, int(zero_point.abs().sum())
    (torch.Size([16, 2, 1]), 0)
    """
    low, high = ranges(weight, granularity=granularity, axis=axis, group_size=group_size)
    return affine_params(low, high, bits, symmetric, signed=signed)
