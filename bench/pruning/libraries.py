"""Two libraries behind one signature: ``prune(model, example_input, job) -> smaller module``.

A `Job` says what the caller knows about the network: the ratio, the layers whose outputs must stay, the
heads of its attention. Ours finds all but the ratio by itself; torch-pruning is told, as its documentation
asks (layers that make the output are ignored, the projections of attention come with their number of
heads, parameters outside of layers with their pruned dimension). It prunes in place, so it gets a copy, as
ours makes one. This is *not* a tuned contest: both keep their own defaults elsewhere.

References
----------
G. Fang, X. Ma, M. Song, M. Bi Mi, X. Wang. DepGraph: Towards Any Structural Pruning. CVPR 2023.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.common import OURS, require
from dca_lab.pruning.channels import prune_channels

PEER = "torch-pruning"


@dataclass(frozen=True)
class Job:
    """One pruning task.

    Attributes
    ----------
    ratio : float
        Share of the channels that go in each group of coupled layers.
    importance : str
        "default" (of each library: both are L2 magnitudes) or "random".
    seed : int
        Of random scores.
    keep : tuple of str
        Layers whose output channels stay: told to the peer.
    heads : dict of str to int
        Projections of attention and their number of heads: told to the peer, which then removes whole heads,
        as ours does.
    parameters : dict of str to int
        Parameters outside of layers and the dimension of their channels: told to the peer.
    """

    ratio: float = 0.5
    importance: str = "default"
    seed: int = 0
    keep: tuple[str, ...] = ()
    heads: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)


def _prune_with_ours(model: nn.Module, example_input: Any, job: Job) -> nn.Module:
    generator = torch.Generator().manual_seed(job.seed)
    chosen = {} if job.importance == "default" else {"importance": job.importance}
    return prune_channels(model, example_input, job.ratio, generator=generator, **chosen)


def _prune_with_peer(model: nn.Module, example_input: Any, job: Job) -> nn.Module:
    """The peer's score is the mean over the group of squared L2 norms: filters, batch-norm scales, and the
    weights that read the channel."""
    require(PEER)
    import torch_pruning as tp

    small = copy.deepcopy(model)
    heads = {small.get_submodule(name): count for name, count in job.heads.items()}
    if job.importance == "random":
        score = tp.importance.RandomImportance()
    else:
        score = tp.importance.GroupMagnitudeImportance(p=2)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(job.seed)
        pruner = tp.pruner.BasePruner(
            small,
            example_input,
            importance=score,
            pruning_ratio=job.ratio,
            ignored_layers=[small.get_submodule(name) for name in job.keep],
            num_heads=heads,
            prune_num_heads=bool(heads),
            prune_head_dims=not heads,
            head_pruning_ratio=job.ratio if heads else 0.0,
            unwrapped_parameters=[(small.get_parameter(name), dim) for name, dim in job.parameters.items()],
            in_channel_groups={},  # its default is one dict for all pruners
            out_channel_groups={},
        )
        pruner.step()
    return small


LIBRARIES: dict[str, Callable[[nn.Module, Any, Job], nn.Module]] = {
    OURS: _prune_with_ours,
    PEER: _prune_with_peer,
}
