"""Remove channels, physically: a smaller ordinary module that computes the same as the large one without
those channels.

Deleting channel 3 of one layer is easy. The difficulty is everybody else: the batch-norm behind it, the
layers that read it, the layer at the other end of a residual sum, the 49 inputs that it becomes after
flatten. The idea here is that of type inference:

1. every channel that a layer makes gets a name (an integer);
2. one forward pass writes equations: `a + b` says their names are equal, `view` or `cat` just move names
(so they are executed
   *on the names*), the model's inputs and outputs are named 0, "never removed";
3. solving the equations (union-find) leaves groups of layers whose channels live and die together;
4. in each group the lowest scores go: `round(ratio * channels)` names, at least one stays;
5. every axis of every parameter knows its names, so cutting is indexing.

Then the small network is run beside the large one and compared value by value. Where an operation cannot be
followed there is a `PruningError` that names it. What is removed is *not* compensated: removing channels
that are not zero changes the output, so fine-tune (and see `reestimate_batchnorm`). A channel is zero when
its filters, its bias and its batch-norm scale and shift are; if only its filters are zero, the constant
that is left over moves into the bias of the next layer where that is exact (linear layers and convolutions
without padding). This is not sparsity by masks: see `masks.py` for that.

References
----------
H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf. Pruning Filters for Efficient ConvNets. ICLR 2017.
G. Fang, X. Ma, M. Song, M. Bi Mi, X. Wang. DepGraph: Towards Any Structural Pruning. CVPR 2023.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .graph.attention import gradients_of
from .graph.fold import fold_constants, silent_channels
from .graph.groups import Group, Member, choose, find_groups
from .graph.importance import scores_of
from .graph.labels import PruningError
from .graph.prepare import (
    check_importance,
    check_ratio,
    follow,
    opened,
    ratios_of,
    restored,
    small_inputs,
    working_copy,
)
from .graph.rewrite import checked
from .graph.surgery import blind, shrink

__all__ = ["Group", "Member", "PruningError", "coupled_groups", "prune_channels"]


def prune_channels(
    model: nn.Module,
    example_input: Tensor | tuple[Any, ...],
    ratio: float = 0.5,
    *,
    importance: str | Callable[[Group], Tensor] = "group",
    per_layer: Mapping[str, float] | None = None,
    ignore: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return a smaller module; the original is untouched.

    Parameters
    ----------
    model : nn.Module
        Any network that `torch.fx` can record on the example.
    example_input : Tensor or tuple
        One valid input (a tuple for several arguments of `forward`); two samples are enough. Its values do
        not matter, its shape and dtype do.
    ratio : float in [0, 1)
        Share of the channels removed in each group of coupled layers: `round(ratio * channels)`, halves to
        even. At least one stays.
    importance : str or callable
        "group" (L2 norm of all that goes with the channel: filters, batch-norm scales, the weights that
        read it; 0 if a zero factor silences it), "magnitude" (of the filters alone), "l1",
        "batchnorm" (absolute scale), "taylor" (absolute sum of weight times gradient; call `backward`
        first), "geometric_median" (distance to the other filters), "random", or a function of a `Group`
        that returns one score a channel. The lowest go.
    per_layer : dict of str to float, optional
        Other ratios for the groups that contain these layers.
    ignore : iterable of str, optional
        Layers whose groups stay whole.
    generator : torch.Generator, optional
        For "random".

    Returns
    -------
    nn.Module
        A deep copy of the same class with smaller parameters, in the same train/eval mode, without
        gradients. If its `forward` spells out sizes that no longer fit, a `torch.fx.GraphModule` with
        corrected sizes instead.

    Raises
    ------
    ValueError
        For a ratio outside [0, 1), an unknown importance or layer name.
    PruningError
        (A ValueError.) When an operation cannot be followed, or nothing can be removed.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10))
    >>> small = prune_channels(net, torch.zeros(1, 1, 8, 8), ratio=0.25)
    >>> small[0].weight.shape, small[3].weight.shape
    (torch.Size([6, 1, 3, 3]), torch.Size([10, 216]))
    """
    check_ratio(ratio, "ratio")
    for layer, value in (per_layer or {}).items():
        check_ratio(value, f"per_layer[{layer!r}]")
    check_importance(importance)
    work = working_copy(model)
    inputs = small_inputs(work, example_input)
    work = opened(work, inputs)
    with torch.no_grad():
        flow = follow(work, inputs)
        groups = find_groups(flow, gradients_of(work, model))
        ratios = ratios_of(work, groups, ratio, per_layer or {}, ignore)
        if not groups:
            raise PruningError(
                f"{type(model).__name__}: nothing can be removed: every channel is an input or output of the model, "
                "or is added to one or normalised together with one."
            )
        scores = [
            scores_of(g, importance, generator) if r else torch.zeros(g.channels)
            for g, r in zip(groups, ratios, strict=True)
        ]
        if importance in ("group", "magnitude", "l1"):
            for group, score in zip(groups, scores, strict=True):
                score[silent_channels(flow, group, inputs)] = 0
        removed = choose(flow, groups, scores, ratios)[flow.names.root]
        fold_constants(flow, groups, removed, inputs)
        small = copy.deepcopy(work)
        shrink(small, flow, removed)
        blind(flow, removed)
        small = checked(flow, small, removed, inputs)
    return restored(small, model)


def coupled_groups(model: nn.Module, example_input: Tensor | tuple[Any, ...]) -> list[Group]:
    """What moves together: the groups of layers that lose channels as one, in the order of the forward pass.

    Parameters
    ----------
    model : nn.Module
        The network; it is not changed.
    example_input : Tensor or tuple
        As for `prune_channels`.

    Returns
    -------
    list of Group
        Each with `layers` (make the channels), `followers` (hand them on), `consumers` (read them) and
        `channels`.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> [(g.layers, g.consumers, g.channels) for g in coupled_groups(net, torch.zeros(1, 4))]
    [(('0',), ('2',), 6)]
    """
    work = working_copy(model)
    with torch.no_grad():
        inputs = small_inputs(work, example_input)
        return find_groups(follow(opened(work, inputs), inputs), {})
