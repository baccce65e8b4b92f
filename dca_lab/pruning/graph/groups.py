"""Groups of coupled layers, and the scores that say which of their channels matter.

Two layers whose output channels share a name (through a residual sum, say) can only lose them together. A
`Group` is a set of layers that are connected in this way; its channels are the distinct names. The score of
a channel adds what all coupled layers say about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .flow import Flow
from .rulebook import Axis


@dataclass(frozen=True)
class Member:
    """The filters of one layer of a group.

    Attributes
    ----------
    layer : str
        Name of the layer.
    parameter : str
        Name of the parameter, as in `named_parameters`, and `axis` : int, its output axis.
    weight : Tensor, shape (rows, ...)
        Its weight with the output axis first.
    index : Tensor of int64, shape (rows,)
        To which channel of the group each row belongs; -1 where the row may not be removed.
    gradient : Tensor or None
        The gradient of the weight that the caller accumulated, in the same layout.
    """

    layer: str
    parameter: str
    axis: int
    weight: Tensor
    index: Tensor
    gradient: Tensor | None = None


@dataclass(frozen=True)
class Group:
    """Layers that lose their channels together.

    Attributes
    ----------
    layers : tuple of str
        The layers that make the channels.
    followers : tuple of str
        Layers that hand them on one by one: batch-norm, depthwise convolution, group norm.
    consumers : tuple of str
        Layers that read them.
    channels : int
        How many can be removed independently of each other (a whole attention head counts as one).
    members : tuple of Member
        The filters of `layers`, for importance functions.
    through : tuple of Member
        The scales and filters of `followers`.
    scales : tuple of Member
        Those of batch-norm layers among them.
    readers : tuple of Member
        The weights of `consumers`, the axis that reads the channels first.
    """

    layers: tuple[str, ...]
    followers: tuple[str, ...]
    consumers: tuple[str, ...]
    channels: int
    members: tuple[Member, ...] = field(repr=False)
    through: tuple[Member, ...] = field(repr=False)
    scales: tuple[Member, ...] = field(repr=False)
    readers: tuple[Member, ...] = field(repr=False)
    names: Tensor = field(repr=False)


def find_groups(flow: Flow, gradients: dict[int, Tensor | None]) -> list[Group]:
    """The groups in the order of the forward pass."""
    names = [set(flow.names.find(p.labels).tolist()) - {0} for p in flow.producers]
    sets: list[tuple[list[Axis], set[int]]] = []
    for producer, mine in zip(flow.producers, names, strict=True):
        joined = [entry for entry in sets if entry[1] & mine] if mine else []
        if mine:
            merged = (
                [p for entry in joined for p in entry[0]] + [producer],
                mine.union(*(entry[1] for entry in joined)),
            )
            at = min((sets.index(entry) for entry in joined), default=len(sets))
            sets = [entry for entry in sets if not any(entry is j for j in joined)]
            sets.insert(at, merged)
    return [_group(flow, members, torch.tensor(sorted(mine)), gradients) for members, mine in sets]


def _group(flow: Flow, producers: list[Axis], names: Tensor, gradients: dict[int, Tensor | None]) -> Group:
    def member(axis: Axis) -> Member:
        labels = flow.names.find(axis.labels)
        index = torch.searchsorted(names, labels).clamp(max=len(names) - 1)
        index = torch.where(names[index] == labels, index, -1)
        gradient = gradients.get(id(axis.tensor))
        path, _, name = flow.owners[id(axis.tensor)]
        return Member(
            axis.layer,
            f"{path}.{name}" if path else name,
            axis.axis,
            axis.tensor.detach().movedim(axis.axis, 0),
            index,
            None if gradient is None else gradient.movedim(axis.axis, 0),
        )

    def touching(axes: list[Axis]) -> list[Axis]:
        return [a for a in axes if torch.isin(flow.names.find(a.labels), names).any()]

    def layers(axes: list[Axis]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.layer for a in axes))

    followers, consumers = touching(flow.followers), touching(flow.consumers)
    through = tuple(map(member, followers))
    scales = tuple(
        m for m, a in zip(through, followers, strict=True) if isinstance(flow.module_of(a), _BatchNorm)
    )
    return Group(
        layers(producers),
        layers(followers),
        layers(consumers),
        len(names),
        tuple(map(member, producers)),
        through,
        scales,
        tuple(map(member, consumers)),
        names,
    )


def choose(flow: Flow, groups: list[Group], scores: list[Tensor], ratios: list[float]) -> Tensor:
    """Which names go: in each group the `round(ratio * channels)` lowest scores; True at removed names.

    No tensor of the network is emptied: a channel that is the last one of some weight or activation stays.
    """
    removed = torch.zeros(len(flow.names.root), dtype=torch.bool)
    holders: dict[int, list[set[int]]] = {}
    for held in flow.name_sets():
        for name in held:
            holders.setdefault(name, []).append(held)
    for group, score, ratio in zip(groups, scores, ratios, strict=True):
        count = min(round(ratio * group.channels), group.channels - 1)
        for name in group.names[torch.argsort(score, stable=True)[:count]].tolist():
            if all(len(held) > 1 for held in holders.get(name, [])):
                for held in holders.pop(name, []):
                    held.discard(name)
                removed[name] = True
    return removed
