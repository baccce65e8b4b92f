"""What all budgets share: earlier masks count, and a layer of which nothing is left is reported."""

import math
import warnings
from collections.abc import Mapping

from torch import Tensor

from dca_lab.pruning._checks import check_scores


def emptied_layers(masks: Mapping[str, Tensor]) -> list[str]:
    """The names of the layers of which nothing is kept: no signal passes through them any more.

    Examples
    --------
    >>> import torch
    >>> emptied_layers({"a": torch.zeros(2, 2, dtype=torch.bool), "b": torch.ones(2, 2, dtype=torch.bool)})
    ['a']
    """
    return [name for name, mask in masks.items() if not mask.any()]


def report_emptied(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same masks; a warning names the layers of which nothing is kept."""
    if empty := emptied_layers(masks):
        warnings.warn(f"nothing is kept of {empty}: no signal passes there", UserWarning, stacklevel=3)
    return masks


def pruned_first(scores: Mapping[str, Tensor], within: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The scores, checked, with -inf where an earlier mask has pruned: those weights go first."""
    scores = check_scores(scores)
    if within is None:
        return scores
    wrong = [name for name in scores if name not in within or within[name].shape != scores[name].shape]
    if wrong:
        raise ValueError(f"within must hold a mask of the same shape for each score; look at {wrong}")
    return {name: score.masked_fill(~within[name], -math.inf) for name, score in scores.items()}


def inside(masks: dict[str, Tensor], within: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The masks without what an earlier mask has pruned."""
    return masks if within is None else {name: mask & within[name] for name, mask in masks.items()}
