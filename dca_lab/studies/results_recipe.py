"""One recipe for every network of the document's table, in both frameworks: the digits, their shifts, the schedule.

    lr(t) = peak * t / warm                                   while t < warm = 0.1 T
    lr(t) = peak * (1 + cos(pi (t - warm) / (T - warm))) / 2  afterwards

Each epoch sees every digit moved by at most `shift` pixels, up or down and left or right, in a new random direction:
the dense layer of this network reads positions, and learns in this way that a digit is none. P. Y. Simard, D. Steinkraus,
J. C. Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis", ICDAR, 2003.

The numbers below were chosen on the last 10,000 training digits, trained on the first 50,000, and then fixed. The test
digits chose nothing. What this is *not*: the best that this network can do, with elastic distortions and hundreds
of epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dca_lab.data import load


@dataclass(frozen=True)
class Recipe:
    """How every variant is made; a study with another recipe makes everything again.

    Attributes
    ----------
    filters, kept, strided : int
        Filters of the original, of the pruned and the narrow, and of the strided network.
    epochs, tune_epochs : int
        Passes over the digits from scratch, and after pruning.
    batch_size : int
    lr, tune_lr : float
        Peaks of the schedule.
    shift : int
        Pixels.
    temperature : float
        Of the distillation with which a pruned network learns from the original.
    calibration : int
        Training digits that set the ranges of the int8 networks.
    repeats : int
        Rounds of a timing.
    train, test : int
        Digits; 60,000 and 10,000 are all.
    """

    filters: int = 32
    kept: int = 16
    strided: int = 32
    epochs: int = 8
    tune_epochs: int = 4
    batch_size: int = 128
    lr: float = 1e-2
    tune_lr: float = 5e-3
    shift: int = 1
    temperature: float = 4.0
    calibration: int = 512
    repeats: int = 30
    train: int = 60_000
    test: int = 10_000


FULL = Recipe()
QUICK = replace(
    FULL,
    filters=8,
    kept=4,
    strided=8,
    epochs=2,
    tune_epochs=1,
    calibration=128,
    repeats=6,
    train=1_024,
    test=500,
)


def digits(recipe: Recipe) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The digits as both frameworks take them, up to the axis of the one channel.

    Returns
    -------
    x_train, y_train, x_test, y_test : ndarray
        x float32 (N, 28, 28) in [0, 1], no other normalisation; y int64 (N,).

    Examples
    --------
    >>> x, y, x_test, _ = digits(QUICK)
    >>> x.shape, float(x.max()), x_test.shape
    ((1024, 28, 28), 1.0, (500, 28, 28))
    """
    mnist = load("mnist")
    x, x_test = (
        part.astype(np.float32) / 255 for part in (mnist.x_train[: recipe.train], mnist.x_test[: recipe.test])
    )
    return x, mnist.y_train[: recipe.train].copy(), x_test, mnist.y_test[: recipe.test].copy()


def shifted(x: np.ndarray, pixels: int, generator: np.random.Generator) -> np.ndarray:
    """A copy of the pictures, each moved by -pixels to pixels in both directions; what enters is black.

    Parameters
    ----------
    x : ndarray of shape (N, H, W)
    pixels : int
        0 or more.
    generator : numpy Generator

    Returns
    -------
    ndarray of shape (N, H, W)

    Examples
    --------
    >>> moved = shifted(np.ones((5, 4, 4), np.float32), 1, np.random.default_rng(0))
    >>> moved.shape, bool((moved.sum(axis=(1, 2)) >= 9).all())
    ((5, 4, 4), True)
    """
    if pixels < 0:
        raise ValueError(f"pixels={pixels}: give 0 or more")
    if not pixels:
        return x.copy()
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels)))
    ways = 2 * pixels + 1
    direction = generator.integers(0, ways * ways, len(x))
    out = np.empty_like(x)
    for way in range(ways * ways):  # all pictures of one direction in one slice
        down, right = divmod(way, ways)
        chosen = np.flatnonzero(direction == way)
        out[chosen] = padded[chosen, down : down + height, right : right + width]
    return out


def learning_rate(step: int, total: int, peak: float) -> float:
    """The rate of step 0 to ``total - 1``: a tenth of the way up in a line, then down along a cosine.

    Examples
    --------
    >>> [round(learning_rate(step, 100, 1.0), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    warm = max(1, total // 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))) / 2
