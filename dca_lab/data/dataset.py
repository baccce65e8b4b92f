"""What every loader returns: one frozen record with a training part, a test part, and where they come from.

The arrays are read-only. Loaded sets are kept in memory and handed out again, so a cell that writes into one
would change the data of every later cell; with read-only arrays it raises instead. ``x.copy()`` gives a
writable one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Real data with a fixed split.

    Attributes
    ----------
    name : str
    x_train, x_test : array, shape (N, ...)
        Samples; dtype and shape are those of the loader's docstring.
    y_train, y_test : array, shape (N, ...)
        Labels, int64 indices into `classes`, or the target text or token.
    classes : tuple of str
        Name of each label; empty where the target is text.
    extras : dict of str to array
        What else the set has. A name that ends in ``_train`` or ``_test`` has one entry for each sample of
        that part.
    licence, source : str
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            wrong = [k for k, v in self.extras.items() if k.endswith(f"_{part}") and len(v) != len(x)]
            if len(x) != len(y) or wrong:
                raise ValueError(
                    f"{self.name}: the {part} arrays differ in length: x {len(x)}, y {len(y)}, also {wrong}"
                )
        for array in (self.x_train, self.y_train, self.x_test, self.y_test, *self.extras.values()):
            array.setflags(write=False)

    def __repr__(self) -> str:
        train, test = self.x_train, self.x_test
        return (
            f"Dataset({self.name!r}, train {train.shape}, test {test.shape}, {train.dtype}, "
            f"{len(self.classes)} classes, extras: {', '.join(self.extras) or 'none'})"
        )


def text_array(values: list[str]) -> np.ndarray:
    """Return strings as an array of numpy's variable-width ``StringDType``.

    A fixed-width ``<U1500`` array spends 6000 bytes on each e-mail however short it is, and an object array
    needs pickle. Elements are ordinary ``str``; masks, ``np.unique`` and scikit-learn's vectorisers take the
    array as it is. ``np.save`` cannot store it without pickle: write text as UTF-8 lines instead.
    """
    return np.array(values, dtype=np.dtypes.StringDType())


def take(mask: np.ndarray, **columns: np.ndarray) -> dict[str, np.ndarray]:
    """Split each column by a test mask: ``{'a_train': ..., 'a_test': ...}``."""
    parts = {}
    for name, column in columns.items():
        parts[f"{name}_train"], parts[f"{name}_test"] = column[~mask], column[mask]
    return parts
