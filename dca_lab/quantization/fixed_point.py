r"""Fixed-point multiplication: an integer times a real number, rounded, without a float.

An int8 layer ends with an int32 sum in units of :math:`s_x s_w` that must become a level in units
of :math:`s_y`: it is multiplied by the real number :math:`M = s_x s_w / s_y`. Written as :math:`M \approx m_0 2^{-k}`
with an integer :math:`2^{30} \le m_0 < 2^{31}`, it becomes an integer product and a shift as well, with a relative
error of at most :math:`2^{-31}`: that is what runs on hardware that has no floating-point unit.

B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018, section 2.2 (equation 6). Its library (gemmlowp) rounds twice, half away from zero; here the product is rounded
once, half to even, as :func:`dca_lab.quantization.affine.quantize` rounds.

What this file is *not*: fast (the product of two 32-bit integers is held in int64), nor a number format: that is
:mod:`dca_lab.quantization.q_format`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MOST_SHIFT = 62  # half of 2^62 can still be added to a product below 2^62


def rounding_shift(x: Tensor, shift: Tensor | int) -> Tensor:
    """round(x / 2^shift), half to even, in integer arithmetic only.

    Parameters
    ----------
    x : Tensor, int64
    shift : int or Tensor, int64
        0 to 62; broadcasts against ``x``.

    Returns
    -------
    Tensor, int64

    Examples
    --------
    >>> rounding_shift(torch.tensor([-6, -5, 5, 6, 7, 10]), 2).tolist()  # -1.5, -1.25, 1.25, 1.5, 1.75, 2.5
    [-2, -1, 1, 2, 2, 2]
    """
    shift = torch.as_tensor(shift, dtype=torch.int64)
    floor = x >> shift  # an arithmetic shift: towards minus infinity
    rest = x - (floor << shift)  # 0 <= rest < 2^shift
    half = (torch.ones_like(shift) << shift) >> 1
    odd = (floor & 1) == 1
    up = (rest > half) | ((rest == half) & odd & (shift > 0))
    return floor + up


def fixed_multiplier(real: Tensor | float) -> tuple[Tensor, Tensor]:
    """The integers with ``real`` = mantissa / 2^shift to 31 bits.

    Parameters
    ----------
    real : float or Tensor
        Positive, below 2^31; a tensor (one multiplier a channel) is converted entry by entry.

    Returns
    -------
    mantissa : Tensor, int32
        2^30 to 2^31 - 1, hence a relative error of at most 2^-31. Below 2^-32, where the shift has reached 62,
        the mantissa has fewer bits and may be 0.
    shift : Tensor, int32
        0 to 62.

    Raises
    ------
    ValueError
        If ``real`` is not positive, not finite, or 2^31 or more.

    Examples
    --------
    >>> mantissa, shift = fixed_multiplier(0.0072)
    >>> mantissa.item(), shift.item(), round(mantissa.item() / 2 ** shift.item(), 12)
    (1979120930, 38, 0.0072)
    """
    real = torch.as_tensor(real, dtype=torch.float64).detach()
    if not bool(((real > 0) & (real < 2.0**31)).all()):
        raise ValueError(
            f"a multiplier must be positive and below 2^31, got {real.flatten()[:3].tolist()}: it is "
            "input_scale * weight_scale / output_scale; look at the three"
        )
    exponent = torch.frexp(real).exponent.long()  # real = f * 2^exponent with 1/2 <= f < 1
    shift = (31 - exponent).clamp(max=_MOST_SHIFT)
    mantissa = torch.ldexp(real, shift).round().long()
    carry = mantissa == 2**31  # 0.99999... rounds up to 1: one bit more, one shift less
    mantissa, shift = torch.where(carry, mantissa >> 1, mantissa), shift - carry.long()
    if bool((shift < 0).any()):
        raise ValueError(f"a multiplier must be below 2^31 after rounding, got {real.max().item()}")
    return mantissa.to(torch.int32), shift.to(torch.int32)


def multiply_by_fixed(x: Tensor, mantissa: Tensor | int, shift: Tensor | int) -> Tensor:
    """round(x * mantissa / 2^shift), half to even, exactly, without a float.

    Parameters
    ----------
    x : Tensor, integer
        Values from -2^32 to 2^32 (a sum of int32 and a bias fits).
    mantissa, shift : Tensor or int
        As :func:`fixed_multiplier` returns them; they broadcast against ``x``.

    Returns
    -------
    Tensor, int64
        Shape of ``x`` (broadcast). It is not clamped: add the zero point first, then clamp to the grid.

    Raises
    ------
    ValueError
        If ``x`` is not of an integer type, or so large that the product would not fit 63 bits.

    Examples
    --------
    >>> sums = torch.tensor([[1000, -1000], [250, 20]], dtype=torch.int32)
    >>> multiply_by_fixed(sums, *fixed_multiplier(torch.tensor([0.01, 0.5]))).tolist()
    [[10, -500], [2, 10]]
    """
    if x.is_floating_point() or x.dtype == torch.bool:
        raise ValueError(f"x must hold integers (an int32 sum), got {x.dtype}")
    mantissa, shift = (torch.as_tensor(part).to(torch.int64) for part in (mantissa, shift))
    if not bool(((mantissa >= 0) & (mantissa < 2**31) & (shift >= 0) & (shift <= _MOST_SHIFT)).all()):
        raise ValueError("mantissa must be 0 to 2^31 - 1 and shift 0 to 62: take both from fixed_multiplier")
    x = x.to(torch.int64)
    if x.numel() and (int(x.max()) > 2**32 or int(x.min()) < -(2**32)):
        raise ValueError(
            f"x must lie within +-2^32, got {int(x.min())} to {int(x.max())}: the sum overflowed int32"
        )
    return rounding_shift(x * mantissa, shift)
