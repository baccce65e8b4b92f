"""Seconds of a forward pass, measured so that two models can be compared on a busy machine.

A shared or thermally limited machine changes speed by tens of percent within a minute. So the subjects are
*interleaved*: each round times every subject once, in random order, and a comparison is made inside the
round,

    speed-up = median over rounds of  seconds(baseline, round) / seconds(subject, round)

in which a slow spell slows both. The rounds and the interval around the median are in `pairs`.

With one thread the clock is the CPU time of this process: time spent waiting for other programs does not
count. With more threads CPU seconds would add up over the threads and hide the gain, so the wall clock is
read instead.

What this is *not*: a benchmark of the first call. Compilation, caches and page faults are in the warm-up,
which is thrown away.

References
----------
Kalibera, Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ._running import call, evaluating, threads_set_to
from .pairs import interleave, median_interval


@dataclass(frozen=True)
class Latency:
    """Paired samples: ``seconds[name][i]`` and ``seconds[other][i]`` come from the same round i.

    Attributes
    ----------
    seconds : dict of str to ndarray of shape (repeats,)
        Seconds of one call.
    clock : str
        ``"process_time"`` (CPU seconds, one thread) or ``"perf_counter"`` (wall clock, several threads).
    threads : int

    Examples
    --------
    >>> timed = Latency({"dense": np.array([4.0, 6.0, 5.0]), "small": np.array([2.0, 3.0, 1.0])})
    >>> timed.median("dense"), timed.ratio("dense", "small")
    (5.0, 2.0)
    """

    seconds: Mapping[str, np.ndarray]
    clock: str = "process_time"
    threads: int = 1
    loops: Mapping[str, int] = field(default_factory=dict)

    def _samples(self, name: str) -> np.ndarray:
        if name not in self.seconds:
            raise ValueError(f"{name!r} was not timed; choose among {sorted(self.seconds)}")
        return self.seconds[name]

    def median(self, name: str) -> float:
        """Median seconds of one call."""
        return float(np.median(self._samples(name)))

    def spread(self, name: str) -> float:
        """Interquartile range in seconds: the width of the middle half of the samples."""
        low, high = np.percentile(self._samples(name), [25, 75])
        return float(high - low)

    def ratios(self, baseline: str, name: str) -> np.ndarray:
        """``baseline / name`` of each round, shape (repeats,): above 1 where `name` was faster."""
        return self._samples(baseline) / self._samples(name)

    def ratio(self, baseline: str, name: str) -> float:
        """Speed-up of `name` over `baseline`: the median of the paired ratios."""
        return float(np.median(self.ratios(baseline, name)))

    def ratio_interval(self, baseline: str, name: str, *, confidence: float = 0.95) -> tuple[float, float]:
        """Interval around `ratio`; ``(0, inf)`` when there are too few rounds (below 6 for 95%)."""
        low, high = median_interval(self.ratios(baseline, name), confidence=confidence)
        return max(low, 0.0), high

    def __str__(self) -> str:
        rows = (
            f"{name}: {1e3 * self.median(name):.3f} ms (IQR {1e3 * self.spread(name):.3f})"
            for name in self.seconds
        )
        return "; ".join(rows)


def latency(
    subjects: Mapping[str, nn.Module | Callable],
    example_input: Any = None,
    *,
    repeats: int = 30,
    threads: int = 1,
    seed: int = 0,
) -> Latency:
    """Time models, or any functions, side by side in this process.

    Parameters
    ----------
    subjects : dict of str to nn.Module or callable
        Modules run in evaluation mode under ``torch.inference_mode``; their mode is restored.
    example_input : Tensor, tuple of Tensor, or dict
        Given to every subject (a tuple as several arguments). A dict with exactly the names of `subjects`
        gives each its own. None: each subject is called without arguments.
    repeats : int
        Rounds; a sample in a round lasts at least about 2 ms, so short calls are repeated inside it.
    threads : int
        Threads of a torch operation. 1 reads CPU time, more read the wall clock. Other libraries (ONNX
        Runtime) have their own setting: give it the same number.
    seed : int
        Of the random order in each round.

    Returns
    -------
    Latency

    Raises
    ------
    ValueError
        If `subjects` is empty or not callable, or `repeats` or `threads` is below 1.

    Examples
    --------
    >>> layers = {"wide": nn.Linear(512, 512), "narrow": nn.Linear(512, 8)}
    >>> timed = latency(layers, torch.zeros(16, 512), repeats=5)
    >>> timed.seconds["wide"].shape
    (5,)
    """
    if not isinstance(subjects, Mapping) or not subjects:
        raise ValueError("give a dict of name to model or function, such as {'dense': model}")
    for name, subject in subjects.items():
        if not callable(subject):
            raise ValueError(f"{name!r} is a {type(subject).__name__}, neither a module nor a function")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeats={repeats!r}: give a whole number of at least 1")
    own_inputs = isinstance(example_input, dict) and set(example_input) == set(subjects)

    def bind(name: str, subject: Callable) -> Callable[[], Any]:
        given = example_input[name] if own_inputs else example_input
        return subject if given is None else lambda: call(subject, given)

    runs = {name: bind(name, subject) for name, subject in subjects.items()}
    clock = "process_time" if threads == 1 else "perf_counter"
    with threads_set_to(threads), evaluating(*subjects.values()), torch.inference_mode():
        seconds, loops = interleave(runs, repeats=repeats, seed=seed, clock=getattr(time, clock))
    return Latency(seconds, clock=clock, threads=threads, loops=loops)
