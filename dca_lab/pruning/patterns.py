"""What is pruned, the pattern: every 3x3 kernel keeps four cells, in one of a few shapes.

Four of nine weights in any shape would be irregular; with eight shapes the inner loop of a convolution can be
written out once for each. The dictionary is learnt: each kernel names the shape it would choose, and the most
frequent shapes are offered to all.

W. Niu et al., "PatDNN: Achieving Real-Time DNN Execution on Mobile Devices with Pattern-based Weight
Pruning", ASPLOS 2020.

What this file is *not*: it has no convolution that uses the patterns; a masked kernel still costs nine
products.
"""

import math

import torch
from torch import Tensor

from dca_lab.pruning._checks import check_score

_ENTRIES = 4  # cells that a pattern keeps of the nine


def _check_kernel(score: Tensor) -> None:
    if score.ndim != 4 or score.shape[2:] != (3, 3):
        raise ValueError(f"pattern needs 3x3 kernels, (O, I, 3, 3); got shape {tuple(score.shape)}")


def pattern_dictionary(score: Tensor, *, count: int = 8) -> Tensor:
    """The ``count`` shapes of four cells, the centre among them, for which most kernels vote.

    Each kernel votes for its centre and its three best other cells; ties go to the pattern met first.

    Parameters
    ----------
    score : Tensor, (O, I, 3, 3)
    count : int
        At most 56, the number of such shapes; fewer are returned if the kernels name fewer.

    Returns
    -------
    BoolTensor, (at most count, 3, 3)

    Examples
    --------
    >>> patterns = pattern_dictionary(torch.rand(8, 4, 3, 3), count=6)
    >>> tuple(patterns.shape), patterns.sum((1, 2)).tolist()
    ((6, 3, 3), [4, 4, 4, 4, 4, 4])
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    score = check_score(score)
    _check_kernel(score)
    cells = score.flatten(2).flatten(0, 1).clone()  # (O * I, 9)
    cells[:, 4] = math.inf
    best = cells.sort(dim=1, descending=True, stable=True).indices[:, :_ENTRIES]
    votes = torch.zeros_like(cells, dtype=torch.bool).scatter_(1, best, True)
    shapes, frequency = votes.unique(dim=0, return_counts=True)
    order = frequency.sort(descending=True, stable=True).indices[:count]
    return shapes[order].unflatten(1, (3, 3))


def best_patterns(score: Tensor, dictionary: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """For each kernel the pattern that keeps most of its score.

    Parameters
    ----------
    score : Tensor, (O, I, 3, 3)
    dictionary : BoolTensor, (P, 3, 3), optional
        Patterns with the same number of cells each; default :func:`pattern_dictionary` of the score.

    Returns
    -------
    kept : Tensor, (O, I)
        The score that the pattern keeps.
    mask : BoolTensor, (O, I, 3, 3)
        The pattern; among equally good ones the first of the dictionary.

    Examples
    --------
    >>> kept, mask = best_patterns(torch.rand(8, 4, 3, 3))
    >>> tuple(kept.shape), int(mask.sum())
    ((8, 4), 128)
    """
    _check_kernel(score)
    dictionary = pattern_dictionary(score) if dictionary is None else dictionary
    if dictionary.dtype != torch.bool or dictionary.ndim != 3 or dictionary.shape[1:] != (3, 3):
        raise ValueError(f"dictionary must be bool of shape (P, 3, 3), got shape {tuple(dictionary.shape)}")
    if len(entries := set(dictionary.sum((1, 2)).tolist())) != 1:
        raise ValueError(f"every pattern must keep the same number of cells, got {sorted(entries)}")
    kept = torch.stack([score.masked_fill(~pattern, 0).sum((2, 3)) for pattern in dictionary])  # (P, O, I)
    return kept.amax(0), dictionary[kept.argmax(0)]
