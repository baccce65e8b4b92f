"""Cut a network to a budget of parameters, in channel counts that kernels like.

    keep(c) = multiple * round(c (1 - ratio) / multiple),      the smallest ratio with parameters <= budget

Vector units work on 16 float32 numbers or 64 bytes at once (on most x86 processors 8 and 32). A layer of 45 channels
costs them as much as one of 48, so the cut is rounded to multiples and the budget is met by the ratio. Which
channels go is the business of `pruning.prune_channels` (the group norm of G. Fang et al., "DepGraph: Towards Any
Structural Pruning", CVPR, 2023). It is *not* a search for the best share of each layer: all layers give the same share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from dca_lab import measure, pruning

EXAMPLE = torch.zeros(1, 1, 28, 28)


def cut(
    network: nn.Module,
    budget: float,
    *,
    multiple: int = 16,
    importance: str | Callable[[Any], torch.Tensor] = "group",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A smaller copy with at most `budget` of the parameters.

    Parameters
    ----------
    network : nn.Module
        Takes (B, 1, 28, 28); not changed.
    budget : float
        Share of the parameters that may stay, in (0, 1).
    multiple : int
        Channel counts are rounded to it, and are at least it.
    importance, generator :
        As for `pruning.prune_channels`.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        For a budget outside (0, 1), or one that no ratio reaches with such multiples.

    Examples
    --------
    >>> from dca_lab import models
    >>> wide = models.ResNet18(width=32)
    >>> small = cut(wide, 0.5)
    >>> measure.count_parameters(small) <= 0.5 * measure.count_parameters(wide), small.conv1.out_channels % 16
    (True, 0)
    """
    if not 0 < budget < 1:
        raise ValueError(f"budget={budget}: give the share of the parameters that may stay, between 0 and 1")
    if multiple < 1:
        raise ValueError(f"multiple={multiple}: give a whole number of at least 1")
    groups = pruning.coupled_groups(network, EXAMPLE)
    allowed, tried = budget * measure.count_parameters(network), None
    # parameters fall with the square of the channels: below this ratio no cut can reach the budget
    for ratio in np.arange(max(0.0, 0.95 - budget**0.5), 1.0, 0.01):
        kept = [kept_channels(group.channels, ratio, multiple) for group in groups]
        if kept == tried:  # rounded to the same network as the ratio before
            continue
        tried = kept
        shares = {g.layers[0]: 1 - k / g.channels for g, k in zip(groups, kept, strict=True)}
        small = pruning.prune_channels(
            network, EXAMPLE, 0.0, per_layer=shares, importance=importance, generator=generator
        )
        if measure.count_parameters(small) <= allowed:
            return small
    raise ValueError(
        f"no cut to multiples of {multiple} leaves {budget:.0%} of the parameters: use a smaller multiple"
    )


def kept_channels(channels: int, ratio: float, multiple: int) -> int:
    """How many of `channels` stay when a share of `ratio` goes, rounded to a multiple.

    Examples
    --------
    >>> kept_channels(64, 0.3, 16), kept_channels(512, 0.3, 16), kept_channels(10, 0.5, 16)
    (48, 352, 10)
    """
    return min(channels, max(multiple, multiple * round(channels * (1 - ratio) / multiple)))


def channel_counts(network: nn.Module) -> list[int]:
    """The channels of each coupled group, in the order of the forward pass: what rebuilds the network's shape.

    Examples
    --------
    >>> from dca_lab import models
    >>> channel_counts(models.ResNet18(width=8))[:3]
    [8, 8, 8]
    """
    return [group.channels for group in pruning.coupled_groups(network, EXAMPLE)]


def with_channels(network: nn.Module, counts: list[int]) -> nn.Module:
    """`network` cut to these channel counts: the shape of a stored network, with weights that mean nothing.

    Parameters
    ----------
    network : nn.Module
        The original's architecture.
    counts : list of int
        From `channel_counts`.

    Raises
    ------
    ValueError
        If the counts are not those of this architecture.

    Examples
    --------
    >>> from dca_lab import models
    >>> wide = models.ResNet18(width=16)
    >>> counts = channel_counts(cut(wide, 0.5, multiple=4))
    >>> channel_counts(with_channels(wide, counts)) == counts
    True
    """
    groups = pruning.coupled_groups(network, EXAMPLE)
    if len(groups) != len(counts) or any(
        not 1 <= n <= g.channels for g, n in zip(groups, counts, strict=True)
    ):
        raise ValueError(f"{len(counts)} channel counts do not fit the network's {len(groups)} groups")
    shares = {g.layers[0]: 1 - n / g.channels for g, n in zip(groups, counts, strict=True)}
    return pruning.prune_channels(network, EXAMPLE, 0.0, per_layer=shares)
