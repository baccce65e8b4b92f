r"""What is pruned: the shape of the block that stays or goes as a whole.

A convolution weight has the shape (O, I, kh, kw). From fine to coarse, a block is

=========  ==========================================================  ===================
name       block                                                       blocks
=========  ==========================================================  ===================
weight     one number                                                  O · I · kh · kw
"N:M"      of each M neighbours along the input axis, N stay ("2:4")   O · I/M · kh · kw
pattern    a 3x3 kernel keeps one of a few shapes of 4 cells           O · I
vector     one row of a kernel                                         O · I · kh
kernel     one (kh, kw) kernel                                         O · I
filter     all weights of one output channel                           O
channel    all weights that read one input channel                     I
layer      everything                                                  1
=========  ==========================================================  ===================

A linear layer is a convolution with 1x1 kernels: for it, vector and kernel are single weights. A block's
score is the reduced score of its weights, and the blocks with the largest scores stay.

Papers: H. Mao et al., "Exploring the Granularity of Sparsity in Convolutional Neural Networks", CVPR
Workshops 2017; A. Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378, 2021
(2:4); W. Niu et al., "PatDNN: Achieving Real-Time DNN Execution on Mobile Devices with Pattern-based
Weight Pruning", ASPLOS 2020.

What this file is *not*: it does not decide how scores arise (scores*.py), nor how a budget is split between
layers (budget.py), and a mask of whole filters still stores their zeros (channels.py removes them).
"""

import math
import re

import torch
from torch import Tensor

from dca_lab.pruning._checks import check_score, check_sparsity, keep_largest, kept_count
from dca_lab.pruning.patterns import best_patterns

GRANULARITIES = ("weight", "2:4", "pattern", "vector", "kernel", "filter", "channel", "layer")


def _axes(granularity: str, ndim: int) -> tuple[int, ...]:
    """The axes that number the blocks; the others lie inside a block."""
    axes = {
        "weight": tuple(range(ndim)),
        "vector": tuple(range(max(2, ndim - 1))),
        "kernel": (0, 1),
        "filter": (0,),
        "channel": (1,),
        "layer": (),
    }
    if granularity not in axes:
        raise ValueError(f"granularity {granularity!r} is unknown; choose from {GRANULARITIES} (any N:M)")
    return axes[granularity]


def parse_n_m(granularity: str) -> tuple[int, int] | None:
    """The numbers of an "N:M" granularity, None for every other name.

    Examples
    --------
    >>> parse_n_m("2:4")
    (2, 4)
    """
    match = re.fullmatch(r"(\d+):(\d+)", str(granularity))
    if not match:
        return None
    n, m = int(match[1]), int(match[2])
    if not 0 < n <= m:
        raise ValueError(f"N:M needs 0 < N <= M, got {granularity!r}")
    return n, m


def _in_groups(score: Tensor, m: int) -> Tensor:
    """(O, I, *k) -> (O, *k, I / m, m): neighbours along the input axis side by side."""
    if score.shape[1] % m:
        raise ValueError(
            f"N:M groups {m} neighbouring inputs, but a weight of shape {tuple(score.shape)} "
            f"has {score.shape[1]}; leave this layer dense"
        )
    return score.movedim(1, -1).unflatten(-1, (-1, m))


def group_scores(
    score: Tensor,
    granularity: str,
    *,
    reduce: str = "sum",
    dictionary: Tensor | None = None,
) -> Tensor:
    """The score of each block: what the layer would lose with it.

    Parameters
    ----------
    score : Tensor, (O, I) or (O, I, *kernel)
        One score a weight; -inf marks a weight that must go first.
    granularity : str
        One of :data:`GRANULARITIES`, any "N:M" included.
    reduce : {"sum", "mean", "max"}
        How the scores inside a block are put together. Not used by N:M and pattern, where a block's score is
        the sum that its best choice keeps.
    dictionary : BoolTensor, (P, 3, 3), optional
        The patterns to choose from; default :func:`pattern_dictionary` of the score.

    Returns
    -------
    Tensor
        One number a block, e.g. (O, I / M, kh, kw) for "N:M", (O, I, kh) for "vector", (O,) for "filter", ()
        for "layer".

    Raises
    ------
    ValueError
        Unknown granularity or reduction, NaN in the score, a shape that has no such blocks.

    Examples
    --------
    >>> weight = torch.ones(8, 4, 3, 3)
    >>> {name: tuple(group_scores(weight, name).shape) for name in ("2:4", "vector", "kernel", "filter")}
    {'2:4': (8, 1, 3, 3), 'vector': (8, 4, 3), 'kernel': (8, 4), 'filter': (8,)}
    """
    score = check_score(score)
    if reduce not in ("sum", "mean", "max"):
        raise ValueError(f"reduce must be 'sum', 'mean' or 'max', got {reduce!r}")
    if n_m := parse_n_m(granularity):
        return _in_groups(score, n_m[1]).topk(n_m[0]).values.sum(-1).movedim(-1, 1)
    if granularity == "pattern":
        return best_patterns(score, dictionary)[0]
    inside = [axis for axis in range(score.ndim) if axis not in _axes(granularity, score.ndim)]
    if not inside:
        return score
    return score.amax(inside) if reduce == "max" else getattr(score, reduce)(inside)


def expand(blocks: Tensor, shape: tuple[int, ...], granularity: str) -> Tensor:
    """One value a block -> the same value for each of its weights.

    Parameters
    ----------
    blocks : Tensor
        As :func:`group_scores` shapes it, e.g. (O,) for "filter".
    shape : tuple of int
        The weight's shape.
    granularity : str
        Every name but N:M and pattern, whose blocks are choices and not values.

    Examples
    --------
    >>> expand(torch.tensor([True, False]), (2, 3), "filter").tolist()
    [[True, True, True], [False, False, False]]
    """
    axes = _axes(granularity, len(shape))
    if tuple(blocks.shape) != tuple(shape[axis] for axis in axes):
        raise ValueError(f"{granularity} blocks of {tuple(shape)} do not have shape {tuple(blocks.shape)}")
    return blocks.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)]).expand(shape)


def block_mask(
    score: Tensor,
    granularity: str = "weight",
    sparsity: float | None = None,
    *,
    reduce: str = "sum",
    dictionary: Tensor | None = None,
) -> Tensor:
    """A mask that keeps the best blocks of one layer, at exactly this granularity.

    ``round((1 - sparsity) * blocks)`` blocks stay; among equal scores the first ones. "N:M" has the sparsity
    1 - N/M by construction. "pattern" removes 5 of 9 weights by construction; for a higher ``sparsity`` whole
    kernels go as well, as in PatDNN.

    Parameters
    ----------
    score, granularity, reduce, dictionary
        As in :func:`group_scores`.
    sparsity : float in [0, 1), optional
        Share of the blocks that is removed (of the weights, for "pattern"). May be left out for N:M and
        pattern.

    Returns
    -------
    BoolTensor of the score's shape, True = kept.

    Raises
    ------
    ValueError
        As :func:`group_scores`; a sparsity that is missing or that the granularity cannot have.

    Examples
    --------
    >>> block_mask(torch.tensor([[4.0, 1.0, 3.0, 2.0]]), "2:4").tolist()
    [[True, False, True, False]]
    >>> block_mask(torch.rand(8, 4, 3, 3), "filter", 0.75).any(dim=(1, 2, 3)).sum().item()
    2
    """
    score = check_score(score)
    if sparsity is not None:
        sparsity = check_sparsity(sparsity)
    if n_m := parse_n_m(granularity):
        n, m = n_m
        if sparsity is not None and not math.isclose(sparsity, 1 - n / m):
            raise ValueError(f"{granularity} has the sparsity {1 - n / m:g}, not {sparsity:g}")
        groups = _in_groups(score, m)
        best = groups.sort(dim=-1, descending=True, stable=True).indices[..., :n]
        mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True)
        return mask.flatten(-2).movedim(-1, 1).contiguous()
    if granularity == "pattern":
        kernels, mask = best_patterns(score, dictionary)
        if sparsity is not None:
            densest = int(mask[0, 0].sum()) / 9
            if 1 - sparsity > densest + 1e-9:
                raise ValueError(f"pattern keeps at most {densest:.3f} of the weights, not 1 - {sparsity:g}")
            kept = keep_largest(kernels, round((1 - sparsity) / densest * kernels.numel()))
            mask = mask & kept.reshape(kernels.shape)[:, :, None, None]
        return mask
    blocks = group_scores(score, granularity, reduce=reduce)
    if sparsity is None:
        raise ValueError(f"granularity {granularity!r} needs a sparsity")
    kept = keep_largest(blocks, kept_count(blocks.numel(), sparsity)).reshape(blocks.shape)
    return expand(kept, tuple(score.shape), granularity).contiguous()
