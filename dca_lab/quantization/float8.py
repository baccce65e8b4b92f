r"""Eight-bit floating point, emulated: float32 values rounded to those that e4m3 and e5m2 can hold.

A float has an exponent of its own, so its grid is fine near zero and coarse far away: within
:math:`2^e \le |x| < 2^{e+1}` the levels are :math:`2^{e-m}` apart, m being the number of mantissa bits. The relative
error is at most :math:`2^{-m-1}` throughout, where the affine grid bounds the absolute error. Below the smallest
normal exponent the grid goes on evenly down to zero (subnormal numbers).

========  ========  ==========  =======  ========================
format    exponent  mantissa m  largest  infinity
========  ========  ==========  =======  ========================
e4m3fn    4 bits    3 bits      448      none, only NaN
e5m2      5 bits    2 bits      57344    as in IEEE 754
========  ========  ==========  =======  ========================

What is too large is a matter of taste: e4m3fn *saturates* in torch since 2.12 (1000 becomes 448) and was NaN before, as
it is in ml_dtypes still; e5m2 becomes infinity in both. ``saturate`` chooses.

P. Micikevicius et al., "FP8 Formats for Deep Learning", arXiv:2209.05433, 2022.

What this file is *not*: eight-bit arithmetic. No CPU that this course expects computes in fp8: values are rounded as
fp8 would round them and go on as float32. That is what *emulated* means in each name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Float8:
    """One format: mantissa bits, exponent of the smallest normal number, largest value, whether infinity exists.

    Examples
    --------
    >>> E4M3FN.largest, E5M2.largest
    (448.0, 57344.0)
    """

    name: str
    mantissa_bits: int
    smallest_exponent: int
    largest: float
    infinity: bool


E4M3FN = Float8("e4m3fn", mantissa_bits=3, smallest_exponent=-6, largest=448.0, infinity=False)
E5M2 = Float8("e5m2", mantissa_bits=2, smallest_exponent=-14, largest=57344.0, infinity=True)


def emulate_float8(x: Tensor, form: Float8, *, saturate: bool | None = None) -> Tensor:
    """The nearest value of the format, half to even, as float32.

    Parameters
    ----------
    x : Tensor
        Of a floating type; NaN stays NaN and the sign of zero is kept.
    form : Float8
        :data:`E4M3FN` or :data:`E5M2`.
    saturate : bool, optional
        What rounds beyond the largest value (or is infinite) becomes, with ``True``, the largest value; with
        ``False``, infinity (e5m2) or NaN (e4m3fn). Default: as torch casts, ``True`` for e4m3fn, ``False`` for e5m2.

    Returns
    -------
    Tensor, float32
        Shape of ``x``.

    Raises
    ------
    ValueError
        If ``x`` is not of a floating type.

    Examples
    --------
    >>> x = torch.tensor([0.3, 17.0, 1000.0])
    >>> emulate_float8(x, E4M3FN).tolist(), emulate_float8(x, E5M2).tolist()
    ([0.3125, 16.0, 448.0], [0.3125, 16.0, 1024.0])
    """
    if not x.is_floating_point():
        raise ValueError(f"x must be of a floating type, got {x.dtype}")
    x = x.detach().float()  # a float64 is rounded to float32 first, as torch does
    exponent = torch.frexp(x).exponent - 1  # |x| lies from 2^exponent to 2^(exponent + 1)
    step = torch.ldexp(torch.ones_like(x), exponent.clamp(min=form.smallest_exponent) - form.mantissa_bits)
    size = (x.abs() / step).round() * step
    saturate = not form.infinity if saturate is None else saturate
    beyond = (size > form.largest) | torch.isinf(x)  # the exponent of infinity depends on the platform
    overflow = form.largest if saturate else (torch.inf if form.infinity else torch.nan)
    return torch.where(beyond, overflow, size).copysign(x)


def emulate_e4m3(x: Tensor, *, saturate: bool | None = None) -> Tensor:
    """:func:`emulate_float8` with :data:`E4M3FN`: for weights and activations, which need precision.

    Examples
    --------
    >>> emulate_e4m3(torch.tensor([460.0, 470.0, -470.0]), saturate=False).tolist()
    [448.0, nan, nan]
    """
    return emulate_float8(x, E4M3FN, saturate=saturate)


def emulate_e5m2(x: Tensor, *, saturate: bool | None = None) -> Tensor:
    """:func:`emulate_float8` with :data:`E5M2`: for gradients, which need range.

    Examples
    --------
    >>> emulate_e5m2(torch.tensor([1e-5, 1e5])).tolist()
    [1.52587890625e-05, inf]
    """
    return emulate_float8(x, E5M2, saturate=saturate)


def float8_values(form: Float8) -> Tensor:
    """All finite values that are not negative, in order: the number line of the format.

    Returns
    -------
    Tensor, float32
        (127,) for e4m3fn, (124,) for e5m2.

    Examples
    --------
    >>> float8_values(E4M3FN)[:4].tolist(), len(float8_values(E5M2))
    ([0.0, 0.001953125, 0.00390625, 0.005859375], 124)
    """
    count = 2**form.mantissa_bits
    top = int(torch.frexp(torch.tensor(form.largest)).exponent) - 1
    subnormal = torch.arange(count) * 2.0 ** (form.smallest_exponent - form.mantissa_bits)
    normal = [
        (count + torch.arange(count)) * 2.0 ** (e - form.mantissa_bits)
        for e in range(form.smallest_exponent, top + 1)
    ]
    values = torch.cat([subnormal, *normal])
    return values[values <= form.largest]
