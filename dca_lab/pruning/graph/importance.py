"""Which channels of a group matter: one score a channel, from what all coupled layers say about it.

For filters w (one row of a weight for each output channel), their gradients g, and the weights r that read the channel:

================  ==========================================  ====================================================
group             sqrt(sum w^2 + sum gamma^2 + sum r^2)       Fang et al., DepGraph, CVPR 2023
magnitude         sqrt(sum w^2)                               Li et al., ICLR 2017 (there with the L1 norm)
l1                sum abs(w)                                  Li et al., ICLR 2017
batchnorm         abs(gamma)                                  Liu et al., Network Slimming, ICCV 2017
taylor            abs(sum w g)                                Molchanov et al., CVPR 2019 (there squared)
geometric_median  sum_j norm(w - w_j)                         He et al., CVPR 2019
================  ==========================================  ====================================================

What this file is *not*: the scores of single weights (``scores.py`` and its siblings).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .groups import Group, Member
from .labels import PruningError


def _collect(group: Group, members: tuple[Member, ...], value: Callable[[Member], Tensor]) -> Tensor:
    """Add a per-row value over all rows of each channel."""
    total = torch.zeros(group.channels + 1, dtype=torch.float64)
    for member in members:
        total.index_add_(
            0, torch.where(member.index < 0, group.channels, member.index), value(member).double().cpu()
        )
    return total[:-1]


def _taylor(group: Group) -> Tensor:
    for member in group.members:
        if member.gradient is None:
            raise PruningError(
                f"importance 'taylor' needs gradients, but the weight of '{member.layer}' has none: run loss.backward() on "
                "one or several batches first (and do not call zero_grad in between)."
            )
    return _collect(group, group.members, lambda m: (m.weight * m.gradient).flatten(1).sum(1)).abs()


def _batchnorm(group: Group) -> Tensor:
    if not group.scales:
        raise PruningError(
            f"importance 'batchnorm' needs a batch-norm layer with a scale behind {', '.join(group.layers)}; "
            "use another importance for this network."
        )
    return _collect(group, group.scales, lambda m: m.weight.abs())


def _geometric_median(group: Group) -> Tensor:
    def spread(member: Member) -> Tensor:
        rows = member.weight.flatten(1).double()
        return torch.cdist(rows, rows).sum(1)

    return _collect(group, group.members, spread)


def _squares(group: Group, members: tuple[Member, ...]) -> Tensor:
    return _collect(group, members, lambda m: m.weight.reshape(len(m.weight), -1).double().square().sum(1))


def _group(group: Group) -> Tensor:
    """The norm of all that goes with a channel: filters, batch-norm scales, the weights that read it."""
    return _squares(group, group.members + group.scales + group.readers).sqrt()


IMPORTANCE: dict[str, Callable[[Group], Tensor]] = {
    "group": _group,
    "magnitude": lambda g: _squares(g, g.members).sqrt(),
    "l1": lambda g: _collect(g, g.members, lambda m: m.weight.flatten(1).double().abs().sum(1)),
    "taylor": _taylor,
    "batchnorm": _batchnorm,
    "geometric_median": _geometric_median,
}


def scores_of(
    group: Group, importance: str | Callable[[Group], Tensor], generator: torch.Generator | None
) -> Tensor:
    """One score a channel, checked."""
    if importance == "random":
        return torch.rand(group.channels, generator=generator)
    scores = (
        torch.as_tensor(IMPORTANCE[importance](group) if isinstance(importance, str) else importance(group))
        .detach()
        .cpu()
    )
    if scores.shape != (group.channels,) or not torch.isfinite(scores.double()).all():
        raise ValueError(
            f"importance gave a score of shape {tuple(scores.shape)} for {', '.join(group.layers)}; needed is one finite "
            f"number for each of its {group.channels} channels."
        )
    return scores
