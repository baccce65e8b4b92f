r"""The affine map on arrays: real numbers on an evenly spaced grid of integers, with zero on the grid.

.. math:: q = \mathrm{clamp}\bigl(\mathrm{round}(x / s) + z,\; q_{min},\; q_{max}\bigr), \qquad \hat x = s\,(q - z)

Names, arguments and results are those of `dca_lab.quantization.affine`, to the last bit, and its docstring derives
what is only used here: the scale is rounded *up* to as few bits (16, for 8-bit levels) that every level is exactly a
float32 and no value lies further than :math:`s / 2` from a level. B. Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, equation 1.

What this file is *not*: a part of a graph. NumPy computes, on whatever can be made an array; the rounding inside a
training step, with a gradient, is in `ste`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def levels(bits: int, *, signed: bool, symmetric: bool = False) -> tuple[int, int]:
    """The smallest and the largest integer of the grid.

    Unsigned 0 to 2^b - 1, signed -2^(b-1) to 2^(b-1) - 1, symmetric without the lowest; ``bits`` from 2 to 16.

    Examples
    --------
    >>> levels(8, signed=False), levels(8, signed=True), levels(8, signed=True, symmetric=True)
    ((0, 255), (-128, 127), (-127, 127))
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits must be an integer from 2 to 16, got {bits!r}")
    if not signed:
        if symmetric:
            raise ValueError("a symmetric grid has negative levels: pass signed=True (or leave signed out)")
        return 0, 2**bits - 1
    top = 2 ** (bits - 1) - 1
    return (-top if symmetric else -top - 1), top


def scale_bits(steps: int) -> int:
    """How many bits a scale keeps, so that it times 0 to ``steps`` fits the 24 of a float32."""
    return 24 - (steps - 1).bit_length()


def affine_params(
    x_min: ArrayLike,
    x_max: ArrayLike,
    bits: int = 8,
    symmetric: bool = False,
    *,
    signed: bool | None = None,
) -> tuple[NDArray, NDArray]:
    """The scale and the zero point whose levels cover the range [min(x_min, 0), max(x_max, 0)].

    Parameters
    ----------
    x_min, x_max : array_like
        Ends of the range, finite, ``x_min <= x_max``; of any shape, one entry for each range.
    bits : int
        2 to 16.
    symmetric : bool
        Zero point 0, and the range -m to m with m = max(|x_min|, |x_max|).
    signed : bool, optional
        Signed levels; default: signed if symmetric, else unsigned.

    Returns
    -------
    scale : ndarray, float32
        Of the ranges' shape. A range that holds nothing but 0 has scale 1.
    zero_point : ndarray, int32

    Raises
    ------
    ValueError
        If an end is NaN, infinite or beyond float32, if ``x_min > x_max``, or for an impossible grid.

    Examples
    --------
    >>> scale, zero_point = affine_params([-1.0, 0.0], [1.0, 255.0])
    >>> scale.shape, zero_point.tolist()
    ((2,), [128, 0])
    """
    q_min, q_max = levels(bits, signed=symmetric if signed is None else signed, symmetric=symmetric)
    # plain Python numbers become float32 first, as torch has it
    ends = (np.asarray(end, None if hasattr(end, "dtype") else np.float32) for end in (x_min, x_max))
    low, high = np.broadcast_arrays(*(end.astype(np.float64) for end in ends))
    for name, end in (("x_min", low), ("x_max", high)):
        if not (np.abs(end) <= _LARGEST).all():  # NaN compares false as well
            raise ValueError(f"{name} must be finite and fit float32, got {end.ravel()[:3].tolist()}")
    if (low > high).any():
        raise ValueError(f"x_min must not exceed x_max, got {low.ravel()[:3]} and {high.ravel()[:3]}")
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if symmetric:
        steps, exact = q_max, np.maximum(-low, high) / q_max
        zero_point = np.zeros_like(exact)
    else:
        steps, exact = q_max - q_min, (high - low) / (q_max - q_min)
        zero_point = q_min + np.rint(-low / np.where(exact > 0, exact, 1.0))
    mantissa, exponent = np.frexp(exact)
    kept = scale_bits(steps)
    scale = np.maximum(np.ldexp(np.ceil(np.ldexp(mantissa, kept)), exponent - kept), _SMALLEST)
    return np.where(exact > 0, scale, 1.0).astype(np.float32), zero_point.astype(np.int32)


def quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike,
    *,
    bits: int = 8,
    signed: bool | None = None,
    symmetric: bool = False,
) -> NDArray:
    """The nearest level, as an integer: clamp(round(x / scale) + zero_point), half to even.

    Parameters
    ----------
    x : array_like
        Finite, any shape; the result is int32 of this shape.
    scale, zero_point : array_like
        As `affine_params` returns them; they broadcast against ``x``.
    bits, signed, symmetric
        The grid, as for `levels`; ``signed`` defaults to ``symmetric``.

    Raises
    ------
    ValueError
        If ``x`` holds NaN or infinity, the scale is not positive, or the zero point is not on the grid.

    Examples
    --------
    >>> quantize([-9.0, -0.5, 0.5, 1.5, 99.0], scale=1.0, zero_point=1, bits=3).tolist()
    [0, 1, 1, 3, 7]
    """
    q_min, q_max = levels(bits, signed=symmetric if signed is None else signed, symmetric=symmetric)
    x = np.asarray(x)
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {x.size} values are NaN or infinite")
    scale, zero_point = _grid(scale, zero_point, x.shape)
    if not ((zero_point >= q_min) & (zero_point <= q_max)).all():
        raise ValueError(
            f"the zero point must be one of the levels {q_min} to {q_max}: check bits and signed"
        )
    x = x if x.dtype == np.float64 else x.astype(np.float32)
    return np.clip(np.rint(x / scale) + zero_point, q_min, q_max).astype(np.int32)


def dequantize(q: ArrayLike, scale: ArrayLike, zero_point: ArrayLike) -> NDArray:
    """The real numbers that the levels stand for: (q - zero_point) * scale, float32 of the shape of ``q``.

    Examples
    --------
    >>> dequantize([0, 1, 7], scale=0.5, zero_point=1).tolist()
    [-0.5, 0.0, 3.0]
    """
    q = np.asarray(q)
    scale, zero_point = _grid(scale, zero_point, q.shape)
    # the outermost level of a range near the largest float32 may lie beyond it
    with np.errstate(over="ignore"):
        values = (q.astype(np.int32) - zero_point).astype(np.float32) * scale
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


def fake_quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike,
    *,
    bits: int = 8,
    signed: bool | None = None,
    symmetric: bool = False,
) -> NDArray:
    """``dequantize(quantize(x))``: each value moved to its nearest level, still float32.

    Examples
    --------
    >>> fake_quantize([3.0, 4.0, 5.0, 6.0], *affine_params(3.0, 6.0, bits=2), bits=2).tolist()  # range 0 to 6
    [4.0, 4.0, 4.0, 6.0]
    """
    q = quantize(x, scale, zero_point, bits=bits, signed=signed, symmetric=symmetric)
    return dequantize(q, scale, zero_point)


def _grid(scale: ArrayLike, zero_point: ArrayLike, shape: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """Scale (float32) and zero point (int32), checked; they broadcast against ``shape``."""
    scale, zero_point = np.asarray(scale, np.float32), np.asarray(zero_point)
    if zero_point.dtype.kind not in "iu":
        raise ValueError(f"zero_point must be an integer (a level of the grid), got {zero_point.dtype}")
    if not ((scale > 0) & (scale <= _LARGEST)).all():
        raise ValueError(f"scale must be positive and finite, got {scale.ravel()[:3].tolist()}")
    for name, given in (("scale", scale), ("zero_point", zero_point)):
        pairs = zip(reversed(given.shape), reversed(shape), strict=False)
        if given.ndim > len(shape) or any(small not in (1, large) for small, large in pairs):
            raise ValueError(
                f"{name} of shape {given.shape} does not broadcast against values of shape {shape}"
            )
    return scale, zero_point.astype(np.int32)
