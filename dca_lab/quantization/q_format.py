r"""Q-format: fixed-point numbers, integers with an agreed binary point.

A number of the format :math:`Qm.n` has a sign, :math:`m` integer and :math:`n` fraction bits: the integer :math:`q` of
:math:`1 + m + n` bits means :math:`q\,2^{-n}`. It is the affine map with zero point 0 and a scale that is a power of
two, so that a product is an integer product and a shift: :math:`(a 2^{-n})(b 2^{-n}) = (ab\,2^{-n})\,2^{-n}`.

The name leaves the sign out of :math:`m`, as Texas Instruments' libraries do; ARM's count it: their Q1.15 is Q0.15 here.

What this file is *not*: how int8 layers scale their sums. Their scales are no powers of two, which costs a
multiplication: :mod:`dca_lab.quantization.fixed_point`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dca_lab.quantization._checks import checked_values, is_whole
from dca_lab.quantization.fixed_point import rounding_shift


@dataclass(frozen=True)
class QFormat:
    """Signed numbers with ``integer_bits`` before and ``fraction_bits`` after the binary point, and a sign bit.

    Examples
    --------
    >>> q15 = QFormat(0, 15)
    >>> q15.word, q15.step == 2**-15, q15.limits
    (16, True, (-32768, 32767))
    """

    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        if not (is_whole(self.integer_bits) and is_whole(self.fraction_bits)):
            raise ValueError(f"Q{self.integer_bits}.{self.fraction_bits}: give whole numbers of bits")
        if self.integer_bits < 0 or self.fraction_bits < 0 or not 2 <= self.word <= 32:
            raise ValueError(
                f"Q{self.integer_bits}.{self.fraction_bits}: a word has 2 to 32 bits, none negative"
            )

    @property
    def word(self) -> int:
        """Bits of a number, the sign among them."""
        return 1 + self.integer_bits + self.fraction_bits

    @property
    def step(self) -> float:
        """The distance of two numbers, 2^-n."""
        return 2.0**-self.fraction_bits

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer that fit the word."""
        return -(2 ** (self.word - 1)), 2 ** (self.word - 1) - 1


def to_fixed(x: Tensor, form: QFormat) -> Tensor:
    """The nearest number of the format (half to even), saturated at both ends.

    Returns
    -------
    Tensor, int32
        Shape of ``x``.

    Examples
    --------
    >>> to_fixed(torch.tensor([0.75, -1.0, 7.9, 100.0]), QFormat(3, 4)).tolist()
    [12, -16, 126, 127]
    """
    scaled = torch.ldexp(checked_values(x).double(), torch.tensor(form.fraction_bits)).round()
    return scaled.clamp(*form.limits).to(torch.int32)


def _checked(q: Tensor, form: QFormat) -> Tensor:
    """``q`` in int64; a ValueError unless it holds integers that fit the word."""
    low, high = form.limits
    if q.is_floating_point() or q.dtype == torch.bool:
        raise ValueError(f"a Q-format holds integers, got {q.dtype}: to_fixed() makes them of reals")
    q = q.to(torch.int64)
    if not bool(((q >= low) & (q <= high)).all()):
        raise ValueError(
            f"a word of {form.word} bits holds {low} to {high}, got {int(q.min())} to {int(q.max())}"
        )
    return q


def from_fixed(q: Tensor, form: QFormat) -> Tensor:
    """The real numbers q / 2^n, in float64: exact for every word of up to 32 bits.

    Raises
    ------
    ValueError
        If ``q`` is not of an integer type, or does not fit the word; the same in the two functions below.

    Examples
    --------
    >>> from_fixed(torch.tensor([12, -16]), QFormat(3, 4)).tolist()
    [0.75, -1.0]
    """
    return torch.ldexp(_checked(q, form).double(), torch.tensor(-form.fraction_bits))


def add_fixed(a: Tensor, b: Tensor, form: QFormat) -> Tensor:
    """a + b, saturated: a sum too large becomes the largest number and does not wrap to a negative one.

    Examples
    --------
    >>> add_fixed(torch.tensor([100, 1]), torch.tensor([100, 2]), QFormat(3, 4)).tolist()
    [127, 3]
    """
    return (_checked(a, form) + _checked(b, form)).clamp(*form.limits).to(torch.int32)


def multiply_fixed(a: Tensor, b: Tensor, form: QFormat) -> Tensor:
    """a * b with the product rounded half to even and saturated.

    Examples
    --------
    >>> multiply_fixed(torch.tensor([24, 100]), torch.tensor([8, 100]), QFormat(3, 4)).tolist()  # 1.5 * 0.5
    [12, 127]
    """
    product = rounding_shift(_checked(a, form) * _checked(b, form), form.fraction_bits)
    return product.clamp(*form.limits).to(torch.int32)
