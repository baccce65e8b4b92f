"""Typical wrong answers to the tiny lab."""

import numpy as np
import torch

from dca_lab.grading import wrong


@wrong("double", "You returned the input itself: it has to be multiplied by two.")
def unchanged(x):
    return x


@wrong("double", "You squared: x * 2 is not x ** 2.")
def squared(x):
    return x**2


@wrong("double", "You changed the input in place: x *= 2 also changes the caller's x.")
def in_place(x):
    x *= 2
    return x


@wrong("double", "You added two instead of multiplying by two.")
def added(x):
    return x + 2


@wrong("double", "Integers stay integers, but you rounded floats too.")
def rounded(x):
    return torch.round(2 * x.double()).to(x.dtype)


@wrong("double", "You flattened the result: keep the shape of x.")
def flattened(x):
    return (2 * x).reshape(-1)


@wrong("relu", "You returned the absolute value: negative values become zero.")
def absolute(x):
    if x.isnan().any():
        raise ValueError("nan")
    return x.abs()


@wrong("relu", "NaN has to raise ValueError: look for it before you compute.")
def nan_let_through(x):
    return x.clamp(min=0)


@wrong("relu", "You kept the negative values and removed the positive ones.")
def wrong_sign(x):
    if x.isnan().any():
        raise ValueError("nan")
    return x.clamp(max=0)


@wrong("relu", "You returned the mask x > 0 instead of x where it is positive.")
def only_mask(x):
    if x.isnan().any():
        raise ValueError("nan")
    return x > 0


@wrong("relu", "Negative values become zero; you dropped them, so the shape changed.")
def dropped(x):
    if np.isnan(x.numpy()).any():
        raise ValueError("nan")
    return x[x > 0]


@wrong("keep_few", "You set everything to zero: then nothing is left to compute with.")
def nothing_left(w):
    return torch.zeros_like(w)


@wrong("keep_few", "You returned all the weights.")
def all_kept(w):
    return w.clone()


@wrong("keep_few", "You kept the smallest weights; the large ones matter.")
def smallest_kept(w):
    threshold = w.abs().median()
    return torch.where(w.abs() < threshold, w, torch.zeros_like(w))


@wrong("keep_few", "You kept the first weights instead of the largest ones.")
def first_kept(w):
    kept = w.clone()
    kept[len(w) // 4 :] = 0
    return kept


@wrong("keep_few", "You sorted the weights: each has to stay at its place.")
def sorted_weights(w):
    kept = w.sort().values
    kept[w.abs().sort().values < w.abs().median()] = 0
    return kept


@wrong("keep_few", "You compared without the absolute value: large negative weights matter too.")
def without_abs(w):
    return torch.where(w > w.quantile(0.75), w, torch.zeros_like(w))
