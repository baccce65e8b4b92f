"""Step 1 of the method, prepare the data: cleaning, normalisation, standardisation.

    MinMax:    z = (x - min) / (max - min)        in [0, 1] on the training data
    Standard:  z = (x - mean) / std               mean 0, variance 1 on the training data

The statistics come from the training part only. Fitting them on all data lets the test part speak before it
is asked; the two classes make that impossible to do by accident, because ``transform`` never looks at the
statistics of its input. A constant column has no spread to divide by: it maps to 0. What this is *not*:
imputation. NaN is refused.

The formulas are those of scikit-learn's ``MinMaxScaler`` and ``StandardScaler``, which are the oracles of the
tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def _row_keys(a: np.ndarray) -> list:
    """Return one hashable value for each row, equal when the rows are."""
    if np.issubdtype(a.dtype, np.number):
        # -0.0 + 0 is 0.0: equal numbers get equal bytes
        return [row.tobytes() for row in a + a.dtype.type(0)]
    return [tuple(np.ravel(row).tolist()) for row in a]


def clean(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop rows that hold a NaN or an infinity, and exact repetitions of an earlier row.

    Parameters
    ----------
    x : array, shape (N, ...)
        Numbers or text.
    y : array, shape (N, ...)
        A repetition has the same ``x`` *and* the same ``y``: two labels for one sample is a fact about the
        data, not dirt.

    Returns
    -------
    x, y : arrays
        Copies of the rows that stay, in their order.

    Raises
    ------
    ValueError
        When the lengths differ.

    Examples
    --------
    >>> x, y = clean(np.array([[1.0], [np.nan], [1.0], [2.0]]), np.array([0, 1, 0, 1]))
    >>> x.ravel(), y
    (array([1., 2.]), array([0, 1]))
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"clean needs one label a row: got x {x.shape} and y {y.shape}")
    finite = np.ones(len(x), dtype=bool)
    for a in (x, y):
        if np.issubdtype(a.dtype, np.number):
            finite &= np.isfinite(a).all(axis=tuple(range(1, a.ndim)))
    first: dict = {}
    for i, key in enumerate(zip(_row_keys(x), _row_keys(y), strict=True)):
        if finite[i]:
            first.setdefault(key, i)
    kept = np.array(list(first.values()), dtype=np.intp)
    return x[kept], y[kept]


def _numbers(x: np.ndarray, *, columns: tuple[int, ...] | None = None) -> np.ndarray:
    """Return x as float64, or refuse what cannot be scaled."""
    x = np.asarray(x)
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ValueError(
            f"only real numbers can be scaled: got dtype {x.dtype}; turn text into vectors first"
        )
    if x.ndim == 0 or not len(x):
        raise ValueError(f"expected an array with at least one row: got shape {x.shape}")
    if columns is not None and x.shape[1:] != columns:
        raise ValueError(f"fitted on rows of shape {columns}, got rows of shape {x.shape[1:]}")
    x = x.astype(np.float64)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        first = ", ".join(map(str, bad[0].tolist()))
        raise ValueError(
            f"{len(bad)} values are NaN or infinite, the first at index ({first}); drop them with clean(x, y)"
        )
    return x


@dataclass(frozen=True, eq=False)
class _Affine:
    """z = (x - offset) / spread, one offset and spread for each column (each position of a row)."""

    offset: np.ndarray
    spread: np.ndarray

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled rows, float64, with the statistics of the data that was fitted."""
        return (_numbers(x, columns=self.offset.shape) - self.offset) / self.spread

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Return what `transform` was given, up to rounding."""
        return _numbers(z, columns=self.offset.shape) * self.spread + self.offset


class MinMax(_Affine):
    """Scale each column to [0, 1]; new data may fall outside.

    Examples
    --------
    >>> scale = MinMax.fit(np.array([[0.0, 5.0], [4.0, 5.0]]))
    >>> scale.transform(np.array([[1.0, 5.0]]))
    array([[0.25, 0.  ]])
    """

    @classmethod
    def fit(cls, x: np.ndarray) -> MinMax:
        """Take minimum and range of each column of the training data, shape (N, ...)."""
        x = _numbers(x)
        low = x.min(axis=0)
        spread = x.max(axis=0) - low
        return cls(low, np.where(spread == 0, 1.0, spread))


class Standard(_Affine):
    """Shift and scale each column to mean 0 and (population) standard deviation 1.

    Examples
    --------
    >>> Standard.fit(np.array([[1.0], [3.0]])).transform(np.array([[5.0]]))
    array([[3.]])
    """

    @classmethod
    def fit(cls, x: np.ndarray) -> Standard:
        """Take mean and standard deviation of each column of the training data, shape (N, ...)."""
        x = _numbers(x)
        mean, spread = x.mean(axis=0), x.std(axis=0)
        # Equal values may have a mean that is off by a rounding, hence a tiny "spread": ask the values.
        constant = x.max(axis=0) == x.min(axis=0)
        return cls(np.where(constant, x[0], mean), np.where(constant | (spread == 0), 1.0, spread))
