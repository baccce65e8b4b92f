"""What every pruning function checks at its door, so that a bad input fails there and says what to do."""

from collections.abc import Mapping

import torch
from torch import Tensor


def check_sparsity(sparsity: float, what: str = "sparsity") -> float:
    """The share as a float in [0, 1), or a ValueError."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise ValueError(f"{what} must be a number in [0, 1), the share that is removed; got {sparsity!r}")
    return float(sparsity)


def check_score(score: Tensor, name: str = "score") -> Tensor:
    """The score detached, as floats to be sorted; NaN and +inf are refused (-inf means: prune first)."""
    if not isinstance(score, Tensor):
        raise ValueError(f"{name}: a tensor of scores is needed, got {type(score).__name__}")
    if score.ndim < 2:
        raise ValueError(f"{name}: a weight of shape (O, I, ...) is needed, got shape {tuple(score.shape)}")
    if score.numel() == 0:
        raise ValueError(f"{name}: the tensor of shape {tuple(score.shape)} holds no score")
    score = score.detach()
    score = score if score.dtype in (torch.float32, torch.float64) else score.float()
    if torch.isnan(score).any() or torch.isposinf(score).any():
        raise ValueError(f"{name}: the scores contain NaN or infinity; look at the loss that produced them")
    return score


def check_scores(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every score of a dictionary, checked; an empty dictionary is refused."""
    if not isinstance(scores, Mapping) or not scores:
        raise ValueError(f"scores must be a non-empty dict of name -> tensor, got {type(scores).__name__}")
    return {name: check_score(score, name) for name, score in scores.items()}


def kept_count(total: int, sparsity: float) -> int:
    """How many of ``total`` blocks stay: round((1 - sparsity) * total)."""
    return round((1 - sparsity) * total)


def keep_largest(score: Tensor, kept: int) -> Tensor:
    """A flat mask with exactly ``kept`` True at the largest scores; among equal scores the first ones stay.

    A selection, not a sort: linear in the number of scores, so that ten million weights take a moment.
    """
    flat = score.flatten()
    if kept <= 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    if kept >= flat.numel():
        return torch.ones_like(flat, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - kept + 1).values
    mask = flat > threshold
    ties = torch.nonzero(flat == threshold).flatten()
    mask[ties[: kept - int(mask.sum())]] = True
    return mask
