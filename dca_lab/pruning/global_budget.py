r"""How much is pruned: one budget for the whole network, for which the scores of all layers compete.

Redundant layers give more than others, without anyone saying which they are. The price: scores of
different layers must be comparable, and nothing but ``min_keep`` stops the budget from taking a whole
layer.

J. Frankle, M. Carbin, ICLR 2019 (their deeper networks), and N. Lee et al., ICLR 2019, prune so; D. Blalock,
J. J. Gonzalez Ortiz, J. Frankle, J. Guttag, "What is the State of Neural Network Pruning?", MLSys 2020,
compares it with layer-wise budgets.

What this file is *not*: budgets that do not move between layers are in budget.py.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dca_lab.pruning._checks import check_sparsity, keep_largest, kept_count
from dca_lab.pruning._within import inside, pruned_first, report_emptied
from dca_lab.pruning.granularity import expand, group_scores, parse_n_m


def global_masks(
    scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    granularity: str = "weight",
    reduce: str = "mean",
    min_keep: float = 0.0,
    within: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Prune all layers together: the best blocks stay, wherever they are.

    Parameters
    ----------
    scores, within
        As in :func:`layerwise_masks`.
    sparsity : float in [0, 1)
        Share of all *weights* that is removed. Exact for single weights. With larger blocks, whose sizes
        differ between layers, blocks go from the smallest score upwards while the share is not exceeded.
    granularity : str
        Every name but N:M and pattern, whose sparsity does not move between layers.
    reduce : {"mean", "sum", "max"}
        Mean by default, so that blocks of different sizes can be compared.
    min_keep : float in [0, 1)
        Share of each layer's blocks, rounded up, that always stays: its best ones.

    Returns
    -------
    dict[str, BoolTensor]

    Raises
    ------
    ValueError
        As :func:`layerwise_masks`; ``min_keep`` that leaves too little to prune.

    Warns
    -----
    UserWarning
        If a layer is emptied.

    Examples
    --------
    >>> masks = global_masks({"large": torch.ones(4, 5) * 2, "small": torch.ones(4, 5)}, 0.25)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'large': 20, 'small': 10}
    """
    sparsity, min_keep = check_sparsity(sparsity), check_sparsity(min_keep, "min_keep")
    scores = pruned_first(scores, within)
    if granularity == "pattern" or parse_n_m(granularity):
        raise ValueError(f"{granularity} has the same sparsity in every layer; use layerwise_masks")
    blocks = {name: group_scores(score, granularity, reduce=reduce) for name, score in scores.items()}
    flat, sizes = [], []
    for name, block in blocks.items():
        block = block.flatten().double()
        protected = keep_largest(block, math.ceil(min_keep * block.numel()))
        flat.append(block.masked_fill(protected, math.inf))
        sizes.append(torch.full(block.shape, scores[name].numel() // block.numel()))
    together, size = torch.cat(flat), torch.cat(sizes)
    total = int(size.sum())
    to_remove = total - kept_count(total, sparsity)
    protected_weights = int(size[torch.isposinf(together)].sum())
    if protected_weights > total - to_remove:
        raise ValueError(f"min_keep={min_keep:g} protects {protected_weights} of {total} weights: too many")
    if granularity == "weight":
        kept = keep_largest(together, total - to_remove)
    else:
        order = together.sort(descending=True, stable=True).indices.flip(0)
        kept = torch.ones_like(together, dtype=torch.bool)
        kept[order[size[order].cumsum(0) <= to_remove]] = False
    masks = {}
    parts = kept.split([block.numel() for block in blocks.values()])
    for (name, block), part in zip(blocks.items(), parts, strict=True):
        masks[name] = expand(part.reshape(block.shape), tuple(scores[name].shape), granularity).contiguous()
    return report_emptied(inside(masks, within))
