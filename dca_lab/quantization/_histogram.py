r"""A histogram that grows: bounded memory, however long the calibration is.

The bins are laid over the first batch. A later value outside doubles the width as often as it takes, and merges the
bins in pairs: no count is lost, and the width stays below twice the ideal one. Exact zeros are counted apart: zero is
a level of every grid and costs nothing, but after a ReLU it is half of all values and would drown its bin.

What this file is *not*: robust against a first batch of one wild value. An outlier a thousand times larger than the
rest leaves the rest two bins of 2048; observers that search can see no finer than that.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BINS = 2048


class Histogram:
    """Counts of the values other than zero in ``bins`` bins of one width, the number of zeros, and the extremes.

    Parameters
    ----------
    bins : int
        Even.
    low : float, optional
        Where the first bin begins, if no value will be below; else the bins are laid over the first batch.

    Examples
    --------
    >>> h = Histogram(4)
    >>> h.add(torch.tensor([0.0, 1.0, 2.0, 5.0]))
    >>> h.counts.tolist(), h.zeros, h.edges.tolist()
    ([1, 1, 0, 1], 1, [1.0, 2.0, 3.0, 4.0, 5.0])
    >>> h.add(torch.tensor([-2.0]))  # the bins are merged in pairs, downwards
    >>> h.counts.tolist(), h.edges.tolist(), h.minimum
    ([1, 0, 2, 1], [-3.0, -1.0, 1.0, 3.0, 5.0], -2.0)
    """

    def __init__(self, bins: int = BINS, *, low: float | None = None) -> None:
        if bins < 2 or bins % 2:
            raise ValueError(f"bins must be even, so that they can be merged in pairs, got {bins!r}")
        self.bins = bins
        self.counts = np.zeros(bins, dtype=np.int64)
        self.zeros = 0
        self.minimum, self.maximum = np.inf, -np.inf
        self._low, self._width = low, 0.0

    @property
    def total(self) -> int:
        """Values seen, the zeros among them."""
        return self.zeros + int(self.counts.sum())

    @property
    def edges(self) -> np.ndarray:
        """The ``bins + 1`` ends of the bins, float64."""
        return (self._low or 0.0) + self._width * np.arange(self.bins + 1)

    def add(self, x: Tensor) -> None:
        """Count the values of ``x`` (finite, at least one)."""
        low, high = (end.item() for end in x.aminmax())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        values = x[x != 0]
        self.zeros += x.numel() - values.numel()
        if not values.numel():
            return
        low, high = (float(end) for end in values.aminmax())
        if not self._width:
            self._low = low if self._low is None else self._low
            # One value only has no width: begin far below its last bit, and grow when another one comes.
            self._width = max(high - self._low, abs(low) * 2.0**-24) / self.bins
        self._grow(low, high)
        index = values.double().sub_(self._low).div_(self._width).to(torch.int64).clamp_(0, self.bins - 1)
        self.counts += torch.bincount(index, minlength=self.bins).numpy()

    def _grow(self, low: float, high: float) -> None:
        half = self.bins // 2
        while high > self._low + self._width * self.bins:
            self.counts = np.concatenate([self.counts.reshape(half, 2).sum(1), np.zeros(half, np.int64)])
            self._width *= 2
        while low < self._low:
            self.counts = np.concatenate([np.zeros(half, np.int64), self.counts.reshape(half, 2).sum(1)])
            self._low -= self._width * self.bins
            self._width *= 2

    def quantile(self, share: float) -> float:
        """The value below which ``share`` of all values lies, read off with straight lines between the edges."""
        edges, below = self.edges, np.concatenate([[0], np.cumsum(self.counts)]).astype(np.float64)
        at_zero = np.interp(0.0, edges, below) if self._width else 0.0
        # The zeros are a step of the curve: two points above each other.
        left, right = edges < 0, edges > 0
        points = np.concatenate([edges[left], [0.0, 0.0], edges[right]])
        heights = np.concatenate([below[left], [at_zero, at_zero + self.zeros], below[right] + self.zeros])
        return float(np.clip(np.interp(share * self.total, heights, points), self.minimum, self.maximum))
