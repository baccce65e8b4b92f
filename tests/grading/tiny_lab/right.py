"""Other right answers to the tiny lab."""

import math

import numpy as np
import torch

from dca_lab.grading import right


@right("double")
def by_addition(x):
    return x + x


@right("double")
def in_numpy(x):
    return 2 * x.numpy()


@right("relu")
def in_a_loop(x):
    rows = x.reshape(-1).tolist()
    if any(math.isnan(value) for value in rows):
        raise ValueError("NaN")
    return np.array([max(value, 0.0) for value in rows]).reshape(tuple(x.shape))


@right("keep_few")
def by_sorting(w):
    kept = w.clone()
    kept[torch.argsort(w.abs())[: int(0.7 * len(w))]] = 0
    return kept
