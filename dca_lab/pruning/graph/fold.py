"""Move the constant that a dead channel leaves behind into the bias of the layer that reads it.

A channel whose filters are all zero still sends a constant on: f(bias), or what batch-norm adds. If a
linear layer, or a convolution without padding, reads a constant c through its weights W, then W c belongs
to its bias, and removal is exact. With zero padding it would not be (the border reads zeros instead of c),
so there nothing is moved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .flow import Flow
from .groups import Group
from .rulebook import Axis

_READERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.RNNBase,
)


def fold_constants(flow: Flow, groups: list[Group], removed: Tensor, inputs: tuple) -> None:
    """Change the biases of `flow.model` in place; only for removed channels whose filters are exactly zero."""
    dead = torch.zeros_like(removed)
    for group in groups:
        size = torch.zeros(group.channels + 1)
        for member in group.members:
            size.index_add_(
                0, member.index % (group.channels + 1), member.weight.flatten(1).abs().sum(1).float().cpu()
            )
        dead[group.names[size[:-1] == 0]] = True
    dead = (dead & removed)[flow.names.root]
    found = [entry for entry in flow.consumers if dead[flow.names.find(entry.labels)].any()]
    readers = {entry.layer: entry for entry in found if _can_fold(flow.module_of(entry), entry)}
    for layer, read in _what_they_read(flow, readers, inputs).items():
        module, entry = flow.module_of(readers[layer]), readers[layer]
        if not read:
            continue
        low, high = (
            torch.stack([r.amin(0) for r in read]).amin(0),
            torch.stack([r.amax(0) for r in read]).amax(0),
        )
        constant = (
            dead[flow.names.find(entry.labels)].to(low.device) & (high - low <= 1e-6 * low.abs()) & (low != 0)
        )
        if not constant.any():
            continue
        weight = module.weight.flatten(2).sum(2) if module.weight.dim() > 2 else module.weight
        shift = (weight * torch.where(constant, low, 0)).sum(1)
        if module.bias is None:
            module.bias = nn.Parameter(torch.zeros_like(shift), requires_grad=module.weight.requires_grad)
        module.bias += shift
        flow.bias_added(module, layer)


def silent_channels(flow: Flow, group: Group, inputs: tuple) -> Tensor:
    """True for channels of a group that have a zero factor somewhere and that every reader sees as exactly
    zero.

    The product of a zero filter and a gate that is not zero is zero (squeeze-and-excitation, gated units,
    depthwise convolution): such a channel does nothing, however large the gate's own filters are.
    """
    count = group.channels
    suspect = torch.zeros(count + 1, dtype=torch.bool)
    for entry in [*group.members, *group.through]:
        zero = entry.weight.flatten(1).abs().sum(1) == 0 if entry.weight.dim() > 1 else entry.weight == 0
        suspect[entry.index[zero.cpu()] % (count + 1)] = True
    readers = {e.layer: e for e in flow.consumers if torch.isin(flow.names.find(e.labels), group.names).any()}
    silent = suspect[:-1]
    if not silent.any():
        return silent
    if any(not isinstance(flow.module_of(entry), _READERS) for entry in readers.values()):
        return torch.zeros_like(silent)
    for layer, read in _what_they_read(flow, readers, inputs).items():
        if not read:
            return torch.zeros_like(silent)
        loud = torch.stack([r.abs().amax(0) for r in read]).amax(0).cpu() > 0
        labels = flow.names.find(readers[layer].labels)
        labels = labels.repeat(
            len(loud) // len(labels)
        )  # a grouped convolution: the same names in each group
        silent = silent & ~torch.isin(group.names, labels[loud])
    return silent


def _can_fold(module: nn.Module, entry: Axis) -> bool:
    if getattr(module, "weight", None) is not entry.tensor:
        return False
    if type(module) is nn.Linear:
        return True
    return (
        type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        and module.groups == 1
        and (
            module.padding_mode != "zeros"
            or module.padding == "valid"
            or not any(p != 0 for p in module.padding)
        )
    )


def _what_they_read(flow: Flow, readers: dict[str, Axis], inputs: tuple) -> dict[str, list[Tensor]]:
    """For each layer the values it read, (positions, channels), on the example and on noise."""
    read: dict[str, list[Tensor]] = {layer: [] for layer in readers}
    if not readers:
        return read

    def listen(layer: str):
        def hook(module: nn.Module, args: tuple) -> None:
            axis = -1 if isinstance(module, (nn.Linear, nn.RNNBase)) else 1 - module.weight.dim()
            read[layer].append(args[0].detach().movedim(axis, -1).flatten(0, -2).clone())

        return hook

    handles = [flow.module_of(e).register_forward_pre_hook(listen(layer)) for layer, e in readers.items()]
    noise = torch.Generator().manual_seed(0)
    try:
        for _ in range(2):
            flow.model(
                *[
                    x + torch.randn(x.shape, generator=noise).to(x)
                    if isinstance(x, Tensor) and x.is_floating_point()
                    else x
                    for x in inputs
                ]
            )
    finally:
        for handle in handles:
            handle.remove()
    return read
