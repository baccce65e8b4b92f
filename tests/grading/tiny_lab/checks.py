"""The checks of a lab that is as small as a lab can be: used by the tests of grading."""

import numpy as np
import torch
from measure import judge_sparse

from dca_lab.grading import Case, Exercise

TITLE = "Tiny"
HELPERS = ()
CHOICES = {"width": (4, 6, 8)}


def double_cases(rng, constants):
    """Shapes (width,), (2, width) and (), float and integer, zeros."""
    width = constants["width"]
    yield Case((torch.from_numpy(rng.standard_normal(width).astype(np.float32)),))
    yield Case((torch.from_numpy(rng.standard_normal((2, width)).astype(np.float32)),))
    yield Case((torch.from_numpy(rng.integers(1, 9, width)),))
    yield Case((torch.zeros(width),))
    yield Case((torch.tensor(float(rng.uniform(1, 2))),))


def relu_cases(rng, constants):
    """Signs mixed, all negative, and NaN, which must raise."""
    width = constants["width"]
    x = rng.standard_normal((3, width))
    x[0, :2] = -abs(x[0, 0]) - 0.1, abs(x[0, 1]) + 0.1
    yield Case((torch.from_numpy(x),))
    yield Case((torch.from_numpy(-rng.uniform(0.1, 2, width)),))
    yield Case((torch.full((width,), float("nan"), dtype=torch.float64),))


def relu_oracle(x):
    """torch's own, and ValueError for NaN."""
    if x.isnan().any():
        raise ValueError("x contains NaN")
    return torch.relu(x)


def keep_few_cases(rng, constants):
    """A few large weights among small ones, and held-out inputs to measure the error of the sparse ones."""
    grid = np.linspace(-1.5, 1.5, 64)
    for _ in range(2):
        w = rng.permutation(np.sign(grid) * grid**4)
        yield Case((torch.from_numpy(w),), held={"inputs": torch.from_numpy(rng.standard_normal((64, 64)))})


EXERCISES = (
    Exercise("double", points=1, cases=double_cases, oracle=lambda x: 2 * x),
    Exercise("relu", points=2, cases=relu_cases, oracle=relu_oracle),
    Exercise("keep_few", points=3, cases=keep_few_cases, judge=judge_sparse, seconds=5.0),
)
