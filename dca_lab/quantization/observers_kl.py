r"""KL observer: the range whose coarse histogram tells least apart from the fine one.

The histogram of magnitudes is cut at a threshold: P is what is left, with all that lies beyond added to its last bin.
Q is the cut histogram with only as many different heights as the grid has levels. A low threshold merges few bins, but
Q lacks what was clipped; a high one merges many. The cut with the least Kullback-Leibler divergence

.. math:: D(P \,\|\, Q) = \sum_i P_i \log (P_i / Q_i)

wins. S. Migacz, "8-bit Inference with TensorRT", GPU Technology Conference, 2017 (S7310).

The slides suppose a density. A picture's blank background gives each channel one constant, a *point mass*: a bin that
towers over its neighbours. Merging it with them seems to lose much, and a cut right at it seems to lose nothing (the
clipped values hardly raise so tall a bin), so the range would be cut at the background, and the lower the more levels
there are. NVIDIA's own programs discard or flatten the first bin, where zeros lie. Here exact zeros are counted apart,
and every bin that stands out is flattened (:func:`without_point_masses`).

What this file is *not*: a minimum of any error of the values. Order and distance do not enter the divergence: it asks
how the numbers are spread, and a clipped value costs the same whether it lies just beyond the threshold or far away.
On tails without end (log-normal, Student's t) it therefore clips more than least squares allows.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from dca_lab.quantization._histogram import BINS, Histogram
from dca_lab.quantization._observer import Observer

_AROUND = 16  # bins on each side that say what is usual


def kl_divergences(counts: np.ndarray, heights: int) -> np.ndarray:
    """KL divergence for each number i of kept bins, i = heights, ..., len(counts); infinite where Q is 0 but P not.

    P: the first i bins, and all that lies beyond added to the last of them. Q: the first i bins, merged into
    ``heights`` groups, each spread evenly over those of its bins that are not empty. Both are scaled to sum 1.

    Returns
    -------
    ndarray, (len(counts) - heights + 1,)

    Examples
    --------
    >>> kl_divergences(np.array([4, 4, 2, 2]), 2).round(3).tolist()  # two heights are enough for all four bins
    [0.057, 0.009, 0.0]
    """
    n = np.asarray(counts, dtype=np.float64)
    total = n.sum()
    sums, filled = (np.concatenate([[0], np.cumsum(part)]) for part in (n, n > 0))

    def entropy(part: np.ndarray) -> np.ndarray:
        return part * np.log(np.where(part > 0, part, 1.0))

    own = np.concatenate([[0], np.cumsum(entropy(n))])
    result = np.full(len(n) - heights + 1, np.inf)
    for kept in range(heights, len(n) + 1):
        if n[kept - 1] == 0 and sums[kept] < total:
            continue
        cuts = np.arange(heights + 1) * kept // heights
        mass, bins = np.diff(sums[cuts]), np.diff(filled[cuts])
        some = mass > 0
        log_q = np.log(mass[some] / bins[some] / sums[kept])
        clipped = total - sums[kept]
        last = n[kept - 1]
        # sum of p log p: as it is in n, but for the last bin, which holds the clipped values too
        p_log_p = own[kept] - entropy(last) + entropy(last + clipped) - total * np.log(total)
        p_log_q = (mass[some] * log_q).sum() + clipped * (log_q[-1] if clipped else 0.0)
        result[kept - heights] = (p_log_p - p_log_q) / total
    return np.maximum(result, 0)  # never negative but for rounding


def without_point_masses(counts: np.ndarray) -> np.ndarray:
    """Counts of which none exceeds the median of the 33 bins around it, or 1 where that is larger.

    The 1 keeps a sparse tail, where most bins are empty: without it nothing would speak against clipping the tail.

    Returns
    -------
    ndarray, float64
        Shape of ``counts``.

    Examples
    --------
    >>> without_point_masses(np.array([5, 5, 900, 5, 4, 4, 0, 1])).tolist()
    [5.0, 5.0, 5.0, 5.0, 4.0, 4.0, 0.0, 1.0]
    """
    n = np.asarray(counts, dtype=np.float64)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(n, _AROUND, mode="reflect"), 2 * _AROUND + 1)
    return np.minimum(n, np.maximum(np.median(around, axis=1), 1))


class KLObserver(Observer):
    """The range whose coarse histogram loses the least information; ends cut at one magnitude.

    Exact zeros are left out: they are kept by every range, and their spike would decide alone. Other point masses are
    flattened, and no range clips half of what is left: a cut that keeps a single bin would find P and Q equal,
    whatever it clips. The number of levels for the magnitudes is 2^bits if the values have one sign and the grid is not
    symmetric, else half of it. Memory: a histogram of ``bins`` counts of the magnitudes.

    Parameters
    ----------
    bits, symmetric
        The grid that the range is for.
    bins : int
        Of the histogram; the threshold is exact to one bin.

    Examples
    --------
    >>> import torch
    >>> observer = KLObserver(bits=4)
    >>> observer.update(torch.randn(100_000, generator=torch.Generator().manual_seed(0)))
    >>> low, high = observer.range()
    >>> -low == high and 2 < high < 4
    True
    """

    def __init__(self, *, bits: int = 8, symmetric: bool = False, bins: int = BINS) -> None:
        super().__init__(bits=bits, symmetric=symmetric)
        self.histogram = Histogram(bins, low=0.0)
        self._low, self._high = 0.0, 0.0

    def _update(self, x: Tensor, low: float, high: float) -> None:
        self._low, self._high = min(self._low, low), max(self._high, high)
        self.histogram.add(x.abs())

    def _range(self) -> tuple[float, float]:
        two_sided = self.symmetric or self._low < 0 < self._high
        heights = 2 ** (self.bits - 1 if two_sided else self.bits)
        threshold = self._threshold(heights)
        return max(self._low, -threshold), min(self._high, threshold)

    def _threshold(self, heights: int) -> float:
        used = np.flatnonzero(self.histogram.counts)
        if not used.size or used[-1] + 1 <= heights:
            return self.histogram.maximum  # nothing to merge: every bin has its own level
        counts = without_point_masses(self.histogram.counts)[: used[-1] + 1]
        divergences = kl_divergences(counts, heights)
        divergences[counts.cumsum()[heights - 1 :] < counts.sum() / 2] = np.inf
        # Of equal ones the widest: if every value is a spike of its own, no cut loses anything that P could see.
        best = np.flatnonzero(divergences <= divergences.min() + 1e-12)[-1]
        return min(float(self.histogram.edges[heights + best]), self.histogram.maximum)
