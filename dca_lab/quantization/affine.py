r"""The affine map: real numbers on an evenly spaced grid of integers, with zero on the grid.

.. math:: q = \mathrm{clamp}\bigl(\mathrm{round}(x / s) + z,\; q_{min},\; q_{max}\bigr), \qquad \hat x = s\,(q - z)

:math:`s > 0` is the *scale* (the distance of two levels), the integer :math:`z` is the *zero point* (the level that
means 0). Inside the range :math:`|x - \hat x| \le s/2`. Two choices make this true to the last bit of float32:

- The scale is rounded **up**, so that :math:`L = q_{max} - q_{min}` steps are never shorter than the range. The zero
  point, rounded to an integer, moves the levels by at most half a step, so both ends stay within :math:`s/2` of a level.
- The scale keeps only as many bits (16 of 24, if there are 8-bit levels) that every level :math:`s\,(q - z)` is exactly
  a float32: the product is not rounded. Nor is a quotient :math:`x/s` beside a tie ever rounded to the tie: the middle
  of two levels has at most 25 bits, and its float32 neighbours are far enough away. The price is a range wider by less
  than :math:`2^{-15}` of itself.

A zero that is not on the grid would turn padding and the zeros of ReLU into errors that all have the same sign:
therefore the range is widened until it contains 0, and the zero point is an integer.

The map, with zero on the grid: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018 (arXiv:1712.05877), equation 1.

What this file is *not*: it chooses no range (see :mod:`dca_lab.quantization.observers`), has no gradient, and makes
nothing smaller or faster: the integers are held in int32 so that they can be looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dca_lab.quantization._checks import LARGEST, checked_grid, checked_range, checked_values, is_whole

_SMALLEST = torch.finfo(torch.float32).tiny  # the smallest normal number: 1 / _SMALLEST is still a float32


def levels(bits: int, *, signed: bool, symmetric: bool = False) -> tuple[int, int]:
    """The smallest and the largest integer of the grid.

    Parameters
    ----------
    bits : int
        2 to 16.
    signed : bool
        ``False``: 0 to 2^b - 1. ``True``: -2^(b-1) to 2^(b-1) - 1.
    symmetric : bool
        The narrow grid -(2^(b-1) - 1) to 2^(b-1) - 1, where the negative of a level is a level. Needs ``signed``.

    Raises
    ------
    ValueError
        If ``bits`` is no integer from 2 to 16, or the grid is to be symmetric and unsigned.

    Examples
    --------
    >>> levels(8, signed=False), levels(8, signed=True), levels(8, signed=True, symmetric=True)
    ((0, 255), (-128, 127), (-127, 127))
    """
    if not is_whole(bits) or not 2 <= bits <= 16:
        raise ValueError(
            f"bits must be an integer from 2 to 16, got {bits!r} (for 1 bit see lowbit.binarize)"
        )
    bits = int(bits)  # of numpy it would wrap around
    if not signed:
        if symmetric:
            raise ValueError("a symmetric grid has negative levels: pass signed=True (or leave signed out)")
        return 0, 2**bits - 1
    top = 2 ** (bits - 1) - 1
    return (-top if symmetric else -top - 1), top


def _round_up(value: Tensor, bits: int) -> Tensor:
    """The smallest number with ``bits`` significant bits that is not below ``value`` (float64, positive)."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp((mantissa * 2.0**bits).ceil(), exponent - bits)


def affine_params(
    x_min: Tensor | float,
    x_max: Tensor | float,
    bits: int = 8,
    symmetric: bool = False,
    *,
    signed: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """The scale and the zero point whose levels cover the range [min(x_min, 0), max(x_max, 0)].

    Parameters
    ----------
    x_min, x_max : Tensor or float
        Ends of the range, finite, ``x_min <= x_max``; tensors of any shape, one entry for each range.
    bits : int
        2 to 16.
    symmetric : bool
        Zero point 0, and the range -m to m with m = max(|x_min|, |x_max|).
    signed : bool, optional
        Signed levels; default: signed if symmetric, else unsigned.

    Returns
    -------
    scale : Tensor, float32
        At least 2^-126, of the ranges' shape. A range that holds nothing but 0 has scale 1: every scale is exact.
    zero_point : Tensor, int32
        Between the smallest and the largest level.

    Raises
    ------
    ValueError
        If an end is NaN, infinite or beyond float32, if ``x_min > x_max``, or for an impossible grid.

    Examples
    --------
    >>> affine_params(-1.0, 3.0, bits=2)
    (tensor(1.3333), tensor(1, dtype=torch.int32))
    >>> scale, zero_point = affine_params(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 255.0]))
    >>> scale.shape, zero_point.tolist()
    (torch.Size([2]), [128, 0])
    """
    signed = symmetric if signed is None else signed
    q_min, q_max = levels(bits, signed=signed, symmetric=symmetric)
    low, high = checked_range(x_min, x_max)
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        steps, exact = q_max, torch.maximum(-low, high) / q_max
        zero_point = torch.zeros_like(exact)
    else:
        steps, exact = q_max - q_min, (high - low) / (q_max - q_min)
        zero_point = q_min + (-low / exact).nan_to_num(0.0).round()  # 0 / 0: the range holds nothing but 0
    # A level is at most `steps` scales away from 0: leave room for that many bits in the 24 of a float32.
    scale = _round_up(exact, 24 - (steps - 1).bit_length()).clamp(min=_SMALLEST)
    scale = torch.where(exact > 0, scale, 1.0)
    return scale.to(torch.float32), zero_point.to(torch.int32)


def quantize(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int,
    *,
    bits: int = 8,
    signed: bool | None = None,
    symmetric: bool = False,
) -> Tensor:
    """The nearest level, as an integer: clamp(round(x / scale) + zero_point), half to even.

    Parameters
    ----------
    x : Tensor
        Finite, any shape.
    scale, zero_point : Tensor or number
        As :func:`affine_params` returns them; they broadcast against ``x``.
    bits, signed, symmetric
        The grid, as for :func:`levels`; ``signed`` defaults to ``symmetric``.

    Returns
    -------
    Tensor, int32
        Shape of ``x``, values from the smallest to the largest level.

    Raises
    ------
    ValueError
        If ``x`` holds NaN or infinity, the scale is not positive, or the zero point is not on the grid.

    Examples
    --------
    >>> quantize(torch.tensor([-9.0, -0.5, 0.5, 1.5, 99.0]), scale=1.0, zero_point=1, bits=3)
    tensor([0, 1, 1, 3, 7], dtype=torch.int32)
    """
    q_min, q_max = levels(bits, signed=symmetric if signed is None else signed, symmetric=symmetric)
    x = checked_values(x)
    scale, zero_point = checked_grid(scale, zero_point, x.shape)
    if not bool(((zero_point >= q_min) & (zero_point <= q_max)).all()):
        outside = zero_point[(zero_point < q_min) | (zero_point > q_max)][0].item()
        raise ValueError(
            f"zero_point {outside} is not one of the levels {q_min} to {q_max}: check bits and signed"
        )
    x = x if x.dtype == torch.float64 else x.float()
    return (x / scale).round_().add_(zero_point).clamp_(q_min, q_max).to(torch.int32)


def dequantize(q: Tensor, scale: Tensor | float, zero_point: Tensor | int) -> Tensor:
    """The real numbers that the levels stand for: (q - zero_point) * scale.

    Parameters
    ----------
    q : Tensor
        Levels, any shape; of a floating type too, if every value is a whole number.
    scale, zero_point : Tensor or number
        They broadcast against ``q``.

    Returns
    -------
    Tensor, float32
        Shape of ``q``.

    Raises
    ------
    ValueError
        If a value of ``q`` is no whole number, or the grid is impossible.

    Examples
    --------
    >>> dequantize(torch.tensor([0, 1, 7]), scale=0.5, zero_point=1)
    tensor([-0.5000,  0.0000,  3.0000])
    """
    scale, zero_point = checked_grid(scale, zero_point, q.shape)
    if q.is_floating_point() and not bool((q == q.round()).all()):  # NaN is unequal to itself
        raise ValueError("q must hold levels of the grid, whole numbers: quantize() gives them")
    # The outermost level of a range near the largest float32 (3.4e38) may lie beyond it: then that is the nearest.
    return ((q.to(torch.int32) - zero_point) * scale).clamp_(-LARGEST, LARGEST)


def fake_quantize(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int,
    *,
    bits: int = 8,
    signed: bool | None = None,
    symmetric: bool = False,
) -> Tensor:
    """``dequantize(quantize(x))``: each value moved to its nearest level, still float32. No gradient.

    Examples
    --------
    >>> x = torch.tensor([3.0, 4.0, 5.0, 6.0])  # one-sided: the range becomes 0 to 6
    >>> scale, zero_point = affine_params(x.min(), x.max(), bits=2)
    >>> fake_quantize(x, scale, zero_point, bits=2)
    tensor([4., 4., 4., 6.])
    """
    q = quantize(x, scale, zero_point, bits=bits, signed=signed, symmetric=symmetric)
    return dequantize(q, scale, zero_point)
