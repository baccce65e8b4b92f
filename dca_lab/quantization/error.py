r"""How large is the error of a grid? Measured (SQNR), and predicted for uniform and for normal values.

The *signal-to-quantization-noise ratio* is :math:`10 \log_{10} \bigl(\sum x^2 / \sum (x - \hat x)^2\bigr)` in dB;
10 dB are a factor of ten in power.

**Uniform.** If the values fill the range evenly, the error is even on :math:`\pm s/2`, with the power
:math:`s^2/12`. A range of width :math:`W = s L` with :math:`L = 2^b - 1` steps, centred at 0, has the signal power
:math:`W^2/12`, so that

.. math:: \mathrm{SQNR} = 20 \log_{10}(2^b - 1) \approx 6.02\,b \text{ dB}:

each bit is worth 6 dB. A range that begins at 0 has four times the signal power: 6.02 dB more.

**Normal**, variance 1, clipped at :math:`\pm c`: two errors that pull in opposite directions,

.. math:: \underbrace{\frac{s^2}{12}\,P(|x| < c)}_{\text{rounding},\; s = 2c/L} \quad\text{and}\quad
   \underbrace{2\int_c^\infty (x - c)^2 \varphi(x)\,dx = 2\bigl[(1 + c^2)\,\Phi(-c) - c\,\varphi(c)\bigr]}_{\text{overload}}.

W. R. Bennett, "Spectra of quantized signals", Bell System Technical Journal 27, 1948 (:math:`s^2/12`); J. Max,
"Quantizing for minimum distortion", IRE Transactions on Information Theory 6, 1960 (the best uniform quantizer).

What this file is *not*: a bound. :math:`s/2` is one and holds always (:mod:`dca_lab.quantization.affine`);
:math:`s^2/12` is a mean and needs a density that is nearly constant within a step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dca_lab.quantization.affine import levels


def sqnr(reference: Tensor, approximation: Tensor) -> float:
    """Signal-to-quantization-noise ratio in dB; infinite if both are equal.

    Parameters
    ----------
    reference, approximation : Tensor
        Of the same shape, finite.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or the reference is zero (then there is no signal).

    Examples
    --------
    >>> round(sqnr(torch.tensor([10.0, -10.0]), torch.tensor([9.0, -11.0])), 9)
    20.0
    """
    if reference.shape != approximation.shape:
        raise ValueError(
            f"shapes differ: reference {tuple(reference.shape)}, approximation {tuple(approximation.shape)}"
        )
    x, y = reference.detach().double(), approximation.detach().double()
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("reference and approximation must be finite: there is NaN or infinity")
    largest = x.abs().max().item() if x.numel() else 0.0
    if largest == 0:
        raise ValueError("the reference is empty or zero everywhere: there is no signal to compare with")
    x, y = x / largest, y / largest  # squares of 1e-200 or 1e200 do not fit a float64
    noise = (x - y).square().sum().item()
    return 10 * math.log10(x.square().sum().item() / noise) if noise else math.inf


def _steps(bits: int, symmetric: bool) -> int:
    q_min, q_max = levels(bits, signed=symmetric, symmetric=symmetric)
    return q_max - q_min


def sqnr_uniform(bits: int, *, symmetric: bool = False, one_sided: bool = False) -> float:
    """The SQNR in dB of values that fill the range of the grid evenly.

    Parameters
    ----------
    bits : int
    symmetric : bool
        The narrow grid with 2^b - 2 steps; else 2^b - 1.
    one_sided : bool
        ``False``: the range is centred at 0. ``True``: it begins (or ends) there, as after a ReLU.

    Examples
    --------
    >>> [round(sqnr_uniform(bits), 2) for bits in (2, 4, 8)]
    [9.54, 23.52, 48.13]
    """
    if symmetric and one_sided:
        raise ValueError("a symmetric range is centred at 0: it cannot be one-sided")
    return 20 * math.log10(_steps(bits, symmetric)) + (20 * math.log10(2) if one_sided else 0)


class ClippedError(NamedTuple):
    """The two parts of a mean squared error.

    Examples
    --------
    >>> ClippedError(0.25, 0.5).total
    0.75
    """

    rounding: float
    overload: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.rounding + self.overload


def gaussian_error(clip: float, bits: int, *, symmetric: bool = True) -> ClippedError:
    """Mean squared error, in two parts, of normal values (variance 1) on a grid from -clip to clip.

    Parameters
    ----------
    clip : float
        In standard deviations, positive.
    bits, symmetric
        The grid.

    Returns
    -------
    ClippedError
        ``rounding`` (falls with a narrower range), ``overload`` (grows), ``total``. The rounding part is the
        approximation s^2 / 12: right to 3 % at 4 bits, but up to a third too large at 2 bits, where one step spans
        most of the density.

    Raises
    ------
    ValueError
        If ``clip`` is not positive and finite.

    Examples
    --------
    >>> wide, narrow = gaussian_error(8, 4), gaussian_error(1, 4)
    >>> [round(part, 4) for part in (*wide, *narrow)]
    [0.1088, 0.0, 0.0012, 0.1507]
    """
    if not (clip > 0 and math.isfinite(clip)):
        raise ValueError(f"clip must be positive and finite, got {clip!r}")
    step = 2 * clip / _steps(bits, symmetric)
    tail = math.erfc(clip / math.sqrt(2)) / 2  # the share of the values beyond clip, on one side
    density = math.exp(-(clip**2) / 2) / math.sqrt(2 * math.pi)
    overload = 2 * ((1 + clip**2) * tail - clip * density)
    return ClippedError(float(step**2 / 12 * (1 - 2 * tail)), float(max(overload, 0.0)))


def best_gaussian_clip(bits: int, *, symmetric: bool = True) -> float:
    """The clip, in standard deviations, with the least total of :func:`gaussian_error`.

    Examples
    --------
    >>> [round(best_gaussian_clip(bits), 1) for bits in (4, 8)]
    [2.5, 3.9]
    """
    from scipy.optimize import minimize_scalar  # a third of a second that only this needs

    error = minimize_scalar(
        lambda clip: math.log(gaussian_error(clip, bits, symmetric=symmetric).total),
        bounds=(0.5, 8.0),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(error.x)
