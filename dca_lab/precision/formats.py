r"""The two 16-bit floating-point formats: what their numbers are and how far apart.

A number is :math:`\pm (1 + f) \, 2^e`, with m bits for the fraction f and the rest, besides the sign, for the
exponent e. Between :math:`2^e` and :math:`2^{e+1}` the numbers are :math:`2^{e-m}` apart: one *ulp* (unit in the last
place). Rounding to the nearest moves x by half an ulp at most, so relatively by at most the *unit roundoff*

.. math:: u = 2^{-m-1}

down to the smallest normal number. Below it the spacing stays (subnormal numbers), down to zero.

========  ========  ==========  ===========  ===============  ==================  =======
format    exponent  fraction m  largest      smallest normal  smallest subnormal  u
========  ========  ==========  ===========  ===============  ==================  =======
float16   5 bits    10 bits     65504        6.1e-5           6.0e-8              2^-11
bfloat16  8 bits    7 bits      3.4e38       1.2e-38          9.2e-41             2^-8
========  ========  ==========  ===========  ===============  ==================  =======

float16 has the precision and too little range for gradients; bfloat16 has the range of float32 and the precision of
two to three decimal digits.

IEEE 754-2019 (float16 is its binary16); D. Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training",
arXiv:1905.12322, 2019.

What this file is *not*: arithmetic, nor rounding (`cast.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Format:
    """One binary format of 16 bits, laid out as in IEEE 754: sign, exponent, fraction.

    Attributes
    ----------
    name : str
    exponent_bits, fraction_bits : int
        With the sign, 16 together.
    dtype : torch.dtype
        torch's type of the same layout.

    Examples
    --------
    >>> FLOAT16.largest, BFLOAT16.unit_roundoff
    (65504.0, 0.00390625)
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    dtype: torch.dtype

    @property
    def bias(self) -> int:
        """What is added to an exponent e so that its field holds no negative number."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def smallest_exponent(self) -> int:
        """Exponent e of the smallest normal number; the field 0 is for subnormal numbers."""
        return 1 - self.bias

    @property
    def infinity(self) -> int:
        """The bits of +infinity: all of the exponent's, none of the fraction's."""
        return (2**self.exponent_bits - 1) << self.fraction_bits

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2 - 2.0**-self.fraction_bits) * 2.0**self.bias

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number whose relative rounding error is bounded by `unit_roundoff`."""
        return 2.0**self.smallest_exponent

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive number; what is at most half of it rounds to zero."""
        return 2.0 ** (self.smallest_exponent - self.fraction_bits)

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding a number in the normal range."""
        return 2.0 ** (-self.fraction_bits - 1)


FLOAT16 = Format("float16", exponent_bits=5, fraction_bits=10, dtype=torch.float16)
BFLOAT16 = Format("bfloat16", exponent_bits=8, fraction_bits=7, dtype=torch.bfloat16)


def ulp(x: Tensor, form: Format) -> Tensor:
    """Distance between the numbers of the format around x: twice the largest error of rounding x.

    Parameters
    ----------
    x : Tensor, float32
        Finite.
    form : Format
        `FLOAT16` or `BFLOAT16`.

    Returns
    -------
    Tensor, float32
        Shape of ``x``. Beyond the largest number, the distance that would follow.

    Raises
    ------
    ValueError
        When x is not float32 or not finite.

    Examples
    --------
    >>> ulp(torch.tensor([1.0, 1000.0, 0.0]), FLOAT16).tolist()
    [0.0009765625, 0.5, 5.960464477539063e-08]
    """
    if x.dtype != torch.float32 or not x.isfinite().all():
        raise ValueError(f"x must be finite float32 values, not {x.dtype} or infinite ones")
    exponent = torch.frexp(x).exponent - 1  # |x| lies from 2^exponent to 2^(exponent + 1)
    exponent = torch.where(x == 0, form.smallest_exponent, exponent).clamp(min=form.smallest_exponent)
    # in float64, since a power of two below 2^-126 may be flushed to zero in float32 arithmetic
    return torch.ldexp(torch.ones_like(x, dtype=torch.float64), exponent - form.fraction_bits).float()
