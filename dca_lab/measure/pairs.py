"""Interleaved samples of several functions, and an interval around a median: the halves of a fair comparison.

Each round times every function once, in a new random order. The interval comes from order statistics: of n
independent samples, the number below the true median is binomial(n, 1/2) whatever the distribution, so

    P(x_(k) <= median <= x_(n+1-k)) >= confidence    when    P(binomial(n, 1/2) < k) <= (1 - confidence) / 2

and the largest such k gives the narrowest interval.

What this is *not*: a test of a hypothesis; it says where the median lies, not whether a difference matters.

References
----------
Le Boudec, "Performance Evaluation of Computer and Communication Systems", EPFL Press, 2010 (confidence
intervals for a median).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

MINIMUM_SAMPLE = 2e-3  # seconds: a thousand times the resolution of the clocks that are read
LARGEST_LOOP = 1 << 20


def median_interval(values: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval that holds the true median with at least the given probability.

    It asks nothing of the distribution, only that the samples are independent.

    Parameters
    ----------
    values : ndarray of shape (n,)
    confidence : float
        In (0, 1).

    Returns
    -------
    (float, float)
        Two order statistics; ``(-inf, inf)`` when n is too small (below 6 for 95%).

    Examples
    --------
    >>> median_interval(np.arange(10.0))
    (1.0, 8.0)
    """
    from scipy.stats import binom  # here, since it takes a second and most who import `measure` never ask

    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}: give a probability between 0 and 1, such as 0.95")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    # k: the largest count with P(B < k) <= (1 - confidence) / 2 for B ~ binomial(n, 1/2)
    k = int(binom.ppf((1 - confidence) / 2, len(ordered), 0.5))
    if binom.cdf(k, len(ordered), 0.5) <= (1 - confidence) / 2:
        k += 1
    if k < 1:
        return -np.inf, np.inf
    return float(ordered[k - 1]), float(ordered[-k])


def _elapsed(run: Callable[[], Any], loops: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(loops):
        run()
    return clock() - start


def _loops(run: Callable[[], Any], clock: Callable[[], float]) -> int:
    """The power of two of calls that makes a sample last `MINIMUM_SAMPLE`; doubling is the warm-up too."""
    loops = 1
    _elapsed(run, 1, clock)
    while _elapsed(run, loops, clock) < MINIMUM_SAMPLE and loops < LARGEST_LOOP:
        loops *= 2
    return loops


def interleave(
    runs: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    seed: int = 0,
    clock: Callable[[], float] = time.process_time,
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Time functions of no arguments in rounds, each round in a new random order.

    Parameters
    ----------
    runs : dict of str to callable
    repeats : int
        Rounds.
    seed : int
        Of the order.
    clock : callable
        Returns seconds.

    Returns
    -------
    seconds : dict of str to ndarray of shape (repeats,)
        Seconds of one call.
    loops : dict of str to int
        Calls in one sample.

    Examples
    --------
    >>> seconds, loops = interleave({"sum": lambda: sum(range(1000))}, repeats=2)
    >>> seconds["sum"].shape
    (2,)
    """
    rng = np.random.default_rng(seed)
    names = list(runs)
    loops = {name: _loops(runs[name], clock) for name in names}
    seconds = {name: np.empty(repeats) for name in names}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection in the middle would be charged to whoever happens to run
    try:
        for repeat in range(repeats):
            for index in rng.permutation(len(names)):
                name = names[index]
                seconds[name][repeat] = _elapsed(runs[name], loops[name], clock) / loops[name]
    finally:
        if collecting:
            gc.enable()
    return seconds, loops
