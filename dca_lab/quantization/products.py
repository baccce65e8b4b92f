"""Sums of products of integers: the columns of a convolution, and the matrix product that all layers end in.

    sum_k q_k w_k       q unsigned levels (0 .. 255), w int8, the sum in int32

A convolution becomes a matrix product by writing the values that each output position sees into one row
("im2col"): K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
Processing", International Workshop on Frontiers in Handwriting Recognition, 2006. The row is ordered
(kernel row, kernel column, channel): neighbours in it are neighbouring channels, as in the channels-last
kernels of inference libraries, which matters as soon as neighbours are added in 16 bits (`saturation`). This
is *not* a fast convolution: a row repeats every value up to kh * kw times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def exact_product(levels: Tensor, weight: Tensor) -> Tensor:
    """The sums of products in 32 bits, exact as long as 255 * sum |w| is below 2^31.

    Parameters
    ----------
    levels : Tensor
        uint8, (P, K).
    weight : Tensor
        int8, (O, K).

    Returns
    -------
    Tensor
        int32, (P, O).

    Examples
    --------
    >>> exact_product(torch.full((2, 3), 255, dtype=torch.uint8), torch.ones(4, 3, dtype=torch.int8)).shape
    torch.Size([2, 4])
    """
    return levels.to(torch.int32) @ weight.to(torch.int32).T


def windows(
    x: Tensor,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    fill: int,
) -> Tensor:
    """The values under a kernel at each of its positions.

    Parameters
    ----------
    x : Tensor
        Integers, (B, C, H, W).
    kernel, stride, dilation : tuple of int
        For rows and columns.
    padding : tuple of int
        Top, bottom, left, right.
    fill : int
        The level of the padding: the zero point, which stands for 0.

    Returns
    -------
    Tensor
        Dtype of `x`, (B, H_out, W_out, kh, kw, C).

    Examples
    --------
    >>> x = torch.arange(9).reshape(1, 1, 3, 3)
    >>> w = windows(x, (2, 2), stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), fill=0)
    >>> w.shape, w[0, 1, 1].flatten().tolist()
    (torch.Size([1, 2, 2, 2, 2, 1]), [4, 5, 7, 8])
    """
    top, bottom, left, right = padding
    B, C, H, W = x.shape
    padded = x.new_full((B, H + top + bottom, W + left + right, C), fill)  # channels last
    padded[:, top : top + H, left : left + W] = x.permute(0, 2, 3, 1)
    rows = _positions(padded.shape[1], kernel[0], stride[0], dilation[0])  # (H_out, kh)
    columns = _positions(padded.shape[2], kernel[1], stride[1], dilation[1])  # (W_out, kw)
    return padded[:, rows[:, None, :, None], columns[None, :, None, :]]


def _positions(size: int, kernel: int, stride: int, dilation: int) -> Tensor:
    starts = torch.arange(0, size - dilation * (kernel - 1), stride)
    return starts[:, None] + dilation * torch.arange(kernel)


def convolution(
    x: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    groups: int,
    fill: int,
    product: Callable[[Tensor, Tensor], Tensor] = exact_product,
) -> Tensor:
    """A convolution of integers: windows, then one product a group.

    Parameters
    ----------
    x : Tensor
        uint8, (B, C, H, W).
    weight : Tensor
        int8, (O, C / groups, kh, kw).
    stride, dilation, padding, fill
        As for `windows`.
    groups : int
    product : callable
        (P, K) and (O, K) to (P, O).

    Returns
    -------
    Tensor
        int32, (B, O, H_out, W_out).

    Examples
    --------
    >>> x, w = torch.ones(2, 4, 5, 5, dtype=torch.uint8), torch.ones(6, 2, 3, 3, dtype=torch.int8)
    >>> y = convolution(x, w, stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=2, fill=0)
    >>> y.shape, y[0, 0, 2, 2].item()
    (torch.Size([2, 6, 5, 5]), 18)
    """
    outputs, inner, kh, kw = weight.shape
    seen = windows(x, (kh, kw), stride=stride, dilation=dilation, padding=padding, fill=fill)
    B, H, W = seen.shape[:3]
    rows = weight.permute(0, 2, 3, 1).reshape(groups, outputs // groups, -1)  # (groups, O / groups, K)
    sums = [
        product(seen[..., g * inner : (g + 1) * inner].reshape(B * H * W, -1), rows[g]) for g in range(groups)
    ]
    return torch.cat(sums, 1).reshape(B, H, W, outputs).permute(0, 3, 1, 2)
