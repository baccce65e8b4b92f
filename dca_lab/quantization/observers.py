r"""Observers: which range should the grid of an activation cover?

A weight is known; an activation depends on the input. So a few hundred inputs (the *calibration* set) run through the
network in floating point, an observer watches each activation, and its range is fixed. A range too wide wastes
levels on values that never come (rounding error, everywhere); too narrow, and large values are clipped (overload
error, rare but large). Three observers that look at the extremes or at the tails:

- :class:`MinMaxObserver`: the smallest and the largest value seen. Never clips; one outlier sets the scale.
- :class:`MovingAverageObserver`: extremes of each batch, averaged exponentially, for use while training.
- :class:`PercentileObserver`: cuts a fixed share of the values off each tail.

Two that look for the best trade have files of their own and are exported here too: ``MSEObserver``
(:mod:`dca_lab.quantization.observers_search`) and ``KLObserver`` (:mod:`dca_lab.quantization.observers_kl`).
``OBSERVERS`` maps a name to each class.

R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper", arXiv:1806.08342,
2018. Compared with each other: H. Wu et al., "Integer Quantization for Deep Learning Inference: Principles and
Empirical Evaluation", arXiv:2004.09602, 2020.

What this file is *not*: per channel. One activation has one grid, since a sum over input channels that each had their
own scale could not be computed in integers.
"""

from __future__ import annotations

from torch import Tensor

from dca_lab.quantization._histogram import BINS, Histogram
from dca_lab.quantization._observer import Observer
from dca_lab.quantization.observers_kl import KLObserver
from dca_lab.quantization.observers_search import MSEObserver

__all__ = [
    "OBSERVERS",
    "KLObserver",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
]


class MinMaxObserver(Observer):
    """The smallest and the largest value seen; two numbers of memory.

    Parameters
    ----------
    bits, symmetric
        Accepted, so that observers are interchangeable; the range does not depend on them.

    Examples
    --------
    >>> import torch
    >>> observer = MinMaxObserver()
    >>> observer.update(torch.tensor([[1.0, -2.0]]))
    >>> observer.update(torch.tensor([3.0]))
    >>> observer.range()
    (-2.0, 3.0)
    """

    def _update(self, x: Tensor, low: float, high: float) -> None:
        if self._seen:
            low, high = min(self._low, low), max(self._high, high)
        self._low, self._high = low, high

    def _range(self) -> tuple[float, float]:
        return self._low, self._high


class MovingAverageObserver(Observer):
    r"""Exponential average of each batch's extremes: :math:`m \leftarrow m + c\,(m_{batch} - m)`.

    The first batch sets the average. It follows a network that is being trained, and one wild batch moves it by the
    share :math:`c` only; the range may be narrower than the data.

    Parameters
    ----------
    momentum : float
        The constant c, 0 < c <= 1.
    bits, symmetric
        As for :class:`MinMaxObserver`.

    Examples
    --------
    >>> import torch
    >>> observer = MovingAverageObserver(momentum=0.5)
    >>> for batch in ([0.0, 4.0], [-2.0, 8.0]):
    ...     observer.update(torch.tensor(batch))
    >>> observer.range()
    (-1.0, 6.0)
    """

    def __init__(self, *, momentum: float = 0.01, bits: int = 8, symmetric: bool = False) -> None:
        super().__init__(bits=bits, symmetric=symmetric)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be above 0 and at most 1, got {momentum!r}")
        self.momentum = momentum

    def _update(self, x: Tensor, low: float, high: float) -> None:
        if self._seen:
            low = self._low + self.momentum * (low - self._low)
            high = self._high + self.momentum * (high - self._high)
        self._low, self._high = low, high

    def _range(self) -> tuple[float, float]:
        return self._low, self._high


class PercentileObserver(Observer):
    """The range that leaves (100 - percentile) percent of all values outside at each end.

    Memory: a histogram of ``bins`` counts, whatever the number of batches; the ends are exact to one bin.

    Parameters
    ----------
    percentile : float
        Above 50, at most 100.
    bins : int
        Of the histogram.
    bits, symmetric
        As for :class:`MinMaxObserver`.

    Examples
    --------
    >>> import torch
    >>> observer = PercentileObserver(percentile=90)
    >>> observer.update(torch.arange(1001.0))
    >>> [round(end, -1) for end in observer.range()]
    [100.0, 900.0]
    """

    def __init__(
        self,
        *,
        percentile: float = 99.99,
        bins: int = BINS,
        bits: int = 8,
        symmetric: bool = False,
    ) -> None:
        super().__init__(bits=bits, symmetric=symmetric)
        if not 50 < percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100, got {percentile!r}")
        self.percentile = percentile
        self.histogram = Histogram(bins)

    def _update(self, x: Tensor, low: float, high: float) -> None:
        self.histogram.add(x)

    def _range(self) -> tuple[float, float]:
        share = self.percentile / 100
        return self.histogram.quantile(1 - share), self.histogram.quantile(share)


OBSERVERS: dict[str, type[Observer]] = {
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageObserver,
    "percentile": PercentileObserver,
    "mse": MSEObserver,
    "kl": KLObserver,
}
