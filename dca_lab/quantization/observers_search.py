r"""MSE observer: the range with the least squared error, rounding and clipping together.

The density is taken as constant within a bin of a histogram, and the squared error of a grid with scale
:math:`s` is integrated exactly. With :math:`k(x) = \mathrm{clamp}(\mathrm{round}(x/s),\, q_{min} - z,\, q_{max} - z)`,

.. math:: G(x) = \int_0^x (t - s\,k(t))^2\,dt = \frac{s^3 k}{12} + \frac{(x - s k)^3}{3},

inside the range (each full step adds :math:`s^3/12`) and outside (:math:`k` stands still, the cubic grows): rounding
and overload in one formula. A bin from a to b with n values costs :math:`n\,(G(b) - G(a)) / (b - a)`.

R. Banner, Y. Nahshan, D. Soudry, "Post training 4-bit quantization of convolutional
networks for rapid-deployment", NeurIPS 2019.

What this file is *not*: aware of the task. The criterion treats each activation alone, and each value alike; a network
may care more for the few large ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dca_lab.quantization._histogram import BINS, Histogram
from dca_lab.quantization._observer import Observer
from dca_lab.quantization.affine import affine_params, levels

_COARSE = 2.0 ** -(np.arange(17) / 2)  # shares of the full range: 1, 0.71, 0.5, ..., 1/256


def squared_error(
    edges: np.ndarray,
    counts: np.ndarray,
    x_min: np.ndarray,
    x_max: np.ndarray,
    *,
    bits: int = 8,
    symmetric: bool = False,
) -> np.ndarray:
    """The sum of squared errors that each range would cause, for values spread evenly within their bins.

    Parameters
    ----------
    edges : ndarray, (B + 1,)
    counts : ndarray, (B,)
    x_min, x_max : ndarray, (K,)
        Candidate ranges.
    bits, symmetric
        The grid, as for :func:`dca_lab.quantization.affine.affine_params`.

    Returns
    -------
    ndarray, (K,)

    Examples
    --------
    >>> edges = np.linspace(0, 1, 101)  # uniform: s^2 / 12 with the full range, more with half of it
    >>> full, half = squared_error(edges, np.full(100, 0.01), np.zeros(2), np.array([1.0, 0.5]), bits=4)
    >>> round(float(full) * 12 * 15**2, 3), bool(half > 20 * full)
    (1.0, True)
    """
    scale, zero_point = affine_params(torch.as_tensor(x_min), torch.as_tensor(x_max), bits, symmetric)
    q_min, q_max = levels(bits, signed=symmetric, symmetric=symmetric)
    s, z = scale.double().numpy()[:, None], zero_point.numpy()[:, None]
    k = np.clip(np.round(edges / s), q_min - z, q_max - z)
    rest = edges - s * k
    integral = s**3 * k / 12 + rest * rest * rest / 3  # products: a power in numpy is far slower
    return np.diff(integral, axis=1) @ (counts / np.diff(edges))


class MSEObserver(Observer):
    """The range whose grid has the least mean squared error, rounding and clipping together.

    Both ends are searched (one, for a symmetric grid): a coarse grid of shares of the full range, then three finer
    ones around the best. The lower end of an activation that is never negative stays at 0, and so with signs
    exchanged, because every range is widened to contain 0. Memory: a histogram of ``bins`` counts.

    Parameters
    ----------
    bits, symmetric
        The grid that the range is for. The fewer the bits, the more clipping pays.
    bins : int
        Of the histogram.

    Examples
    --------
    >>> observer = MSEObserver(bits=4)
    >>> observer.update(torch.randn(100_000, generator=torch.Generator().manual_seed(0)).relu())
    >>> low, high = observer.range()  # far below the largest value, which is above 4
    >>> low, 2.3 < high < 3.3
    (0.0, True)
    """

    def __init__(self, *, bits: int = 8, symmetric: bool = False, bins: int = BINS) -> None:
        super().__init__(bits=bits, symmetric=symmetric)
        self.histogram = Histogram(bins)

    def _update(self, x: Tensor, low: float, high: float) -> None:
        self.histogram.add(x)

    def errors(self, x_min: np.ndarray, x_max: np.ndarray) -> np.ndarray:
        """Mean squared error, over all values seen, of each candidate range; arrays (K,)."""
        h = self.histogram
        used = np.flatnonzero(h.counts)
        if not used.size:
            return np.zeros(len(x_min))
        first, last = used[0], used[-1] + 1
        grid = {"bits": self.bits, "symmetric": self.symmetric}
        return squared_error(h.edges[first : last + 1], h.counts[first:last], x_min, x_max, **grid) / h.total

    def _range(self) -> tuple[float, float]:
        bottom, top = min(self.histogram.minimum, 0.0), max(self.histogram.maximum, 0.0)
        if self.symmetric:
            top = max(-bottom, top)
            bottom = -top
        lows = _COARSE if bottom < 0 else np.ones(1)
        highs = _COARSE if top > 0 else np.ones(1)
        finer = np.linspace(-1, 1, 9)
        for step in (np.sqrt(2.0), 2 ** (1 / 8), 2 ** (1 / 32), None):
            best = self._best(bottom, top, lows, highs)
            if step is not None:
                # The next shares lie between the neighbours of the best one; none beyond the full range.
                lows, highs = (
                    np.minimum(share * step**finer, 1.0) if ends.size > 1 else ends
                    for share, ends in zip(best, (lows, highs), strict=True)
                )
        return bottom * best[0], top * best[1]

    def _best(self, bottom: float, top: float, lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
        if self.symmetric:
            lows, highs = highs, highs
        else:
            lows, highs = (share.ravel() for share in np.meshgrid(lows, highs, indexing="ij"))
        index = int(np.argmin(self.errors(bottom * lows, top * highs)))
        return float(lows[index]), float(highs[index])
