"""What every comparison needs: who is installed, an error as a cell of a table, and a goal beside its figure.

A goal is a number that was written down before it was measured; whether it is met is computed from the row,
never typed. What this is *not*: a test. A goal that is missed is printed like any other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tabulate import tabulate

OURS = "dca_lab"
PEERS = {  # distribution: module
    "torch-pruning": "torch_pruning",
    "torchao": "torchao",
    "nncf": "nncf",
    "neural-compressor-pt": "neural_compressor",
}
_RELATIONS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


def installed(library: str) -> bool:
    """Whether the library can be imported.

    Examples
    --------
    >>> installed(OURS)
    True
    """
    return importlib.util.find_spec(PEERS.get(library, library)) is not None


def versions() -> dict[str, str]:
    """Versions of what a comparison depends on; "not installed" where that is so.

    Examples
    --------
    >>> versions()["torch"] == torch.__version__
    True
    """
    found = {"torch": torch.__version__}
    for name in ("dca-lab", "numpy", "onnxruntime", "nbgrader", "otter-grader", *PEERS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def failure(error: Exception) -> str:
    """An error as a cell of a table: its class and the first line of its message.

    Examples
    --------
    >>> failure(ValueError("no such layer\\nmore"))
    'ValueError: no such layer'
    """
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def require(library: str) -> None:
    """ModuleNotFoundError, with a text for the row, where a peer is missing.

    Examples
    --------
    >>> require(OURS)
    """
    if not installed(library):
        raise ModuleNotFoundError(f"{library} is not installed")


def spread(values: Iterable[float], digits: int = 2, scale: float = 1.0) -> str:
    """Mean (lowest to highest), or the one value, or nothing.

    Examples
    --------
    >>> spread([1, 2, 3], digits=1), spread([0.5], scale=100), spread([])
    ('2.0 (1.0 to 3.0)', '50.00', '')
    """
    found = [scale * value for value in values]
    if not found:
        return ""
    mean = f"{np.mean(found):.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ({min(found):.{digits}f} to {max(found):.{digits}f})"


def cosine(optimizer: torch.optim.Optimizer, total: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule for `fit`: a warm-up of at most a hundred steps under a cosine that ends at zero.

    What ends at a small learning rate ends in the same place: seeds differ less, and so do methods by chance.
    """

    warm_up = max(1, min(100, total // 10))

    def factor(step: int) -> float:
        return min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * min(1, step / total)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class Goal:
    """A figure, the goal it is held against, and how both are printed.

    `interval` is the figure's 95% interval, where it has one: a goal that is missed by less than that is neither
    met nor missed.

    Examples
    --------
    >>> Goal("file over fp32", 0.26, "<=", 0.27).verdict, Goal("speed", None, ">=", 1.0).verdict
    ('met', 'not measured')
    """

    what: str
    measured: float | None
    relation: str
    limit: float
    digits: int = 3
    interval: Sequence[float] | None = None

    @property
    def verdict(self) -> str:
        """Computed from `measured`; NaN meets nothing."""
        if self.measured is None:
            return "not measured"
        met = _RELATIONS[self.relation]
        if met(self.measured, self.limit):
            return "met"
        return "within noise" if any(met(end, self.limit) for end in self.interval or ()) else "NOT MET"

    @property
    def figure(self) -> str:
        """What was measured, as text."""
        if self.measured is None:
            return ""
        text = f"{self.measured:.{self.digits}f}"
        if self.interval is None:
            return text
        low, high = (f"{end:.{self.digits}f}" for end in self.interval)
        return f"{text} ({low} to {high})"


def goals_table(goals: Sequence[Goal]) -> str:
    """The goals as a table.

    Examples
    --------
    >>> print(goals_table([Goal("drop in points", 0.1234, "<=", 0.2)]))
    goal            wanted    measured    verdict
    --------------  --------  ----------  ---------
    drop in points  <= 0.2    0.123       met
    """
    rows = [[goal.what, f"{goal.relation} {goal.limit:g}", goal.figure, goal.verdict] for goal in goals]
    return tabulate(rows, ["goal", "wanted", "measured", "verdict"], disable_numparse=True)
