r"""Rounding float32 to 16 bits by hand, on the bits: to the nearest, and to the even one of two that are as near.

A float32 is a 24-bit integer s times a power of two. To keep m fraction bits, drop the last 23 - m bits of s (more
when the result is subnormal), and look at what is dropped:

    more than half of the last kept bit -> one up      less -> stay      exactly half -> to the even neighbour

If the kept bits overflow by this, the carry runs into the exponent field, where it is right: after 1.111 comes 10.00,
and after the largest number comes infinity. This is all that a cast does, for both formats and for subnormal
numbers too; the tests compare it with torch's casts bit by bit.

IEEE 754-2019, section 4.3.1 (roundTiesToEven).

What this file is *not*: fast (a processor does it in one instruction), nor stochastic rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dca_lab.precision.formats import Format


def encode(x: Tensor, form: Format) -> Tensor:
    """The 16 bits of each number, rounded to nearest, ties to even.

    Parameters
    ----------
    x : Tensor, float32
        Infinite values and NaN are allowed: they stay what they are. What is too large becomes infinite.
    form : Format
        `FLOAT16` or `BFLOAT16`.

    Returns
    -------
    Tensor, int64
        Shape of ``x``, values in [0, 65535].

    Raises
    ------
    ValueError
        When x is not float32: rounding twice is not rounding once.

    Examples
    --------
    >>> from dca_lab.precision import FLOAT16
    >>> [f"{bits:016b}" for bits in encode(torch.tensor([1.0, -2.0, 1e6]), FLOAT16).tolist()]
    ['0011110000000000', '1100000000000000', '0111110000000000']
    """
    if x.dtype != torch.float32:
        raise ValueError(f"x must be float32, not {x.dtype}: convert it first, and mind that this rounds too")
    bits = x.detach().contiguous().view(torch.int32).long()  # int64: no sign bit in the way of shifts
    sign, field, fraction = (bits >> 31) & 1, (bits >> 23) & 0xFF, bits & 0x7FFFFF
    # The 24-bit integer s and its exponent; field 0 means subnormal: no leading 1, and the exponent of field 1
    s = fraction + torch.where(field > 0, 1 << 23, 0)
    exponent = field.clamp(min=1) - 127

    below = (form.smallest_exponent - exponent).clamp(min=0)  # a subnormal result loses this many bits more
    dropped = (23 - form.fraction_bits + below).clamp(max=25)  # s < 2^24: with 25, not even half is left
    kept, rest, half = s >> dropped, s & ((1 << dropped) - 1), 1 << (dropped - 1)
    kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))

    # Added, not put side by side: the leading 1 and a carry both count as one step of the exponent
    result = ((exponent - form.smallest_exponent).clamp(min=0) << form.fraction_bits) + kept
    result = result.clamp(max=form.infinity)
    quiet_nan = form.infinity | (1 << (form.fraction_bits - 1))
    result = torch.where(x.isnan(), quiet_nan, result)
    return result | (sign << 15)


def decode(bits: Tensor, form: Format) -> Tensor:
    """The numbers that 16-bit patterns stand for, exactly.

    Parameters
    ----------
    bits : Tensor, integer
        Values in [0, 65535].
    form : Format
        `FLOAT16` or `BFLOAT16`.

    Returns
    -------
    Tensor, float32
        Shape of ``bits``.

    Raises
    ------
    ValueError
        When `bits` are no integers from 0 to 65535.

    Examples
    --------
    >>> from dca_lab.precision import BFLOAT16
    >>> decode(torch.tensor([0b0_01111111_1000000]), BFLOAT16).tolist()
    [1.5]
    """
    if bits.is_floating_point() or bits.dtype == torch.bool or not ((bits >= 0) & (bits <= 0xFFFF)).all():
        raise ValueError("bits must be integers from 0 to 65535: those that encode() gives")
    bits = bits.long()
    sign, size = bits >> 15, bits & 0x7FFF
    field, fraction = size >> form.fraction_bits, size & (2**form.fraction_bits - 1)
    s = fraction + torch.where(field > 0, 1 << form.fraction_bits, 0)
    exponent = field.clamp(min=1) - form.bias - form.fraction_bits
    value = torch.ldexp(s.double(), exponent)
    value = torch.where(size == form.infinity, torch.inf, value)
    value = torch.where(size > form.infinity, torch.nan, value)
    return torch.where(sign == 1, -value, value).float()


def round_to(x: Tensor, form: Format) -> Tensor:
    """The nearest number of the format, as float32: what is left of x after a cast and back.

    Parameters
    ----------
    x : Tensor, float32
    form : Format
        `FLOAT16` or `BFLOAT16`.

    Returns
    -------
    Tensor, float32
        Shape of ``x``.

    Examples
    --------
    >>> from dca_lab.precision import BFLOAT16, FLOAT16
    >>> x = torch.tensor([1.001, 1e-8, 70000.0])
    >>> [round(value, 7) for value in round_to(x, FLOAT16).tolist()]
    [1.0009766, 0.0, inf]
    >>> [round(value, 10) for value in round_to(x, BFLOAT16).tolist()]
    [1.0, 1e-08, 70144.0]
    """
    return decode(encode(x, form), form)


def vanishing(gradients: Tensor, form: Format, *, scale: float = 1.0) -> float:
    """Share of the nonzero gradients that become zero when they are rounded after multiplication by `scale`.

    Parameters
    ----------
    gradients : Tensor, float32
        Of any shape, finite.
    form : Format
        `FLOAT16` or `BFLOAT16`.
    scale : float
        The loss scale.

    Returns
    -------
    float
        In [0, 1]; 0 when all are zero anyway.

    Raises
    ------
    ValueError
        When the scale is not positive.

    Examples
    --------
    >>> from dca_lab.precision import FLOAT16
    >>> gradients = torch.tensor([1e-9, 1e-8, 1e-4, 0.0])
    >>> round(vanishing(gradients, FLOAT16), 3), vanishing(gradients, FLOAT16, scale=1024.0)
    (0.667, 0.0)
    """
    if not scale > 0:
        raise ValueError(f"scale={scale}: give a number above 0")
    there = gradients != 0
    gone = there & (round_to(gradients * scale, form) == 0)
    return (gone.sum() / there.sum().clamp(min=1)).item()
