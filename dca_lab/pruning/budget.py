r"""How much is pruned, and where: one sparsity, several ways to spend it.

- *layer*: every layer removes the same share, or its own from a dict (see
  :mod:`dca_lab.pruning.sensitivity`).
- *global*: the scores of all layers compete, so redundant layers give more. Nothing stops it from taking a
  whole layer, which cuts the network: ``min_keep`` does, and without it a warning names the layer.
- *row*: weights compete only with the weights of the same output, as Wanda proposes for language models.

Counts are exact: :math:`\mathrm{round}((1 - s)\, n)` of n stay, and of equal scores the first ones, so
that the same scores always give the same masks.

S. Han et al., NeurIPS 2015 (layer-wise thresholds); T. Gale, E. Elsen, S. Hooker, "The State of Sparsity
in Deep Neural Networks", arXiv:1902.09574, 2019 (uniform against global); M. Sun, Z. Liu, A. Bair, J. Z.
Kolter, "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024 (row).

What this file is *not*: it does not look at the model or the data; a budget sees scores only.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dca_lab.pruning._checks import check_scores, check_sparsity, kept_count
from dca_lab.pruning._within import inside, pruned_first, report_emptied
from dca_lab.pruning.global_budget import global_masks
from dca_lab.pruning.granularity import block_mask

SCOPES = ("global", "layer", "row")


def layerwise_masks(
    scores: Mapping[str, Tensor],
    sparsity: float | Mapping[str, float],
    *,
    granularity: str = "weight",
    reduce: str = "sum",
    within: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Prune each layer on its own to a given sparsity.

    Parameters
    ----------
    scores : mapping of str to Tensor
        Name -> scores of the weight's shape (O, I, ...).
    sparsity : float in [0, 1), or mapping of str to float
        One share for every layer, or one for each; a layer that the mapping leaves out stays dense.
    granularity, reduce
        As in :func:`dca_lab.pruning.granularity.block_mask`.
    within : mapping of str to BoolTensor, optional
        Earlier masks: what they prune stays pruned and counts towards the sparsity.

    Returns
    -------
    dict[str, BoolTensor]
        True = kept. A layer of n blocks keeps round((1 - sparsity) n) of them.

    Raises
    ------
    ValueError
        Sparsity outside [0, 1), NaN scores, an unknown name or granularity.

    Examples
    --------
    >>> masks = layerwise_masks({"a": torch.rand(10, 10), "b": torch.rand(5, 4)}, 0.9)
    >>> [int(mask.sum()) for mask in masks.values()]
    [10, 2]
    """
    scores = pruned_first(scores, within)
    if isinstance(sparsity, Mapping):
        if unknown := [name for name in sparsity if name not in scores]:
            raise ValueError(f"sparsity names {unknown}, but the scores are those of {list(scores)}")
        shares = {name: sparsity.get(name, 0.0) for name in scores}
    else:
        shares = dict.fromkeys(scores, sparsity)
    masks = {}
    for name, score in scores.items():
        share = check_sparsity(shares[name], f"sparsity of {name!r}")
        dense = share == 0 and isinstance(sparsity, Mapping)
        masks[name] = (
            torch.ones_like(score, dtype=torch.bool)
            if dense
            else block_mask(score, granularity, share, reduce=reduce)
        )
    return report_emptied(inside(masks, within))


def rowwise_masks(
    scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    within: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Prune the same share of the inputs of every output: weights compete within their row only.

    Parameters and errors as in :func:`layerwise_masks`. Each output keeps round((1 - sparsity) n) of its
    n weights.

    Examples
    --------
    >>> masks = rowwise_masks({"a": torch.rand(3, 8)}, 0.5)
    >>> masks["a"].sum(1).tolist()
    [4, 4, 4]
    """
    sparsity = check_sparsity(sparsity)
    masks = {}
    for name, score in pruned_first(scores, within).items():
        rows = score.flatten(1)
        kept = kept_count(rows.shape[1], sparsity)
        best = rows.sort(dim=1, descending=True, stable=True).indices[:, :kept]
        masks[name] = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, best, True).reshape(score.shape)
    return report_emptied(inside(masks, within))


def n_m_masks(
    scores: Mapping[str, Tensor],
    *,
    n: int = 2,
    m: int = 4,
    skip: bool = False,
) -> dict[str, Tensor]:
    """Of each m neighbours along the input axis keep the best n: the pattern that sparse matrix units read.

    Parameters
    ----------
    scores : mapping of str to Tensor
    n, m : int
        0 < n <= m.
    skip : bool
        Leave a layer dense whose number of inputs is not a multiple of m, instead of an error.

    Raises
    ------
    ValueError
        Bad n or m, NaN scores, an indivisible layer when ``skip`` is False.

    Examples
    --------
    >>> n_m_masks({"a": torch.tensor([[3.0, 1.0, 2.0, 0.0]])}, n=1, m=2)["a"].tolist()
    [[True, False, True, False]]
    """
    if not 0 < n <= m:
        raise ValueError(f"N:M needs 0 < N <= M, got {n}:{m}")
    masks = {}
    for name, score in check_scores(scores).items():
        dense = skip and score.shape[1] % m
        masks[name] = torch.ones_like(score, dtype=torch.bool) if dense else block_mask(score, f"{n}:{m}")
    return masks


def make_masks(
    scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: str | Callable[..., dict[str, Tensor]] = "global",
    granularity: str = "weight",
    within: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Masks by the name of the budget, as the schedules and the lottery take it.

    Parameters
    ----------
    scores, sparsity, granularity, within
        As in :func:`layerwise_masks`.
    scope : {"global", "layer", "row"} or callable
        A function ``(scores, sparsity, *, granularity, within)`` makes its own masks, such as
        ``functools.partial(global_masks, min_keep=0.02)``.

    Returns
    -------
    dict[str, BoolTensor]

    Examples
    --------
    >>> masks = make_masks({"a": torch.rand(4, 4)}, 0.5, scope="layer", granularity="filter")
    >>> masks["a"].any(1).sum().item()
    2
    """
    if callable(scope):
        return scope(scores, sparsity, granularity=granularity, within=within)
    if scope == "global":
        return global_masks(scores, sparsity, granularity=granularity, within=within)
    if scope == "layer":
        return layerwise_masks(scores, sparsity, granularity=granularity, within=within)
    if scope == "row" and granularity == "weight":
        return rowwise_masks(scores, sparsity, within=within)
    raise ValueError(f"scope: one of {SCOPES} ('row' for weights) or a function; got {(scope, granularity)}")
