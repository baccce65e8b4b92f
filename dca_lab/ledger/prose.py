"""Hand measured numbers to the prose, which types none.

``say(drop=0.004)`` in a cell, then ``{glue:text}`chapter.ipynb::drop:.2f` `` in the text of that page. MyST-NB's ``glue``
stores the number with the cell's outputs; this adds only that it must be a finite number, since a NaN in a
sentence reads like a result. What this is *not*: a record that other chapters can read (`record`).
"""

from __future__ import annotations

import math
from numbers import Integral, Real


def say(**numbers: Real) -> None:
    """Name numbers for the prose of this page.

    Parameters
    ----------
    **numbers : real numbers
        Also numpy and torch scalars.

    Raises
    ------
    ValueError
        If a value is not a finite number.

    Examples
    --------
    >>> say(drop=float("nan"))
    Traceback (most recent call last):
    ...
    ValueError: drop is nan, and the prose needs a finite number
    """
    for name, value in numbers.items():
        if not math.isfinite(float(value)):
            raise ValueError(f"{name} is {value}, and the prose needs a finite number")
    # the book's library, so that the ledger also works where only dca_lab is installed
    from myst_nb import glue

    for name, value in numbers.items():
        glue(name, int(value) if isinstance(value, Integral) else float(value), display=False)
