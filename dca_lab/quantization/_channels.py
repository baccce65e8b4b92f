"""Which channels of a network must share one factor: a channel may be scaled only together with all who see it.

    relu(s x) = s relu(x),  s > 0;     max, mean, sum and concatenation likewise

so a factor passes through such an operation. Every channel that a layer writes gets a name. Names follow the
tensors through the graph; where tensors are added, the two names of a channel become one (union-find), and
what meets an operation without this property (hard-swish, ReLU6 with its fixed clip) or an end of the network
becomes `FIXED`: its factor stays 1. It is *not* pruning's dependency graph: factors can pass where removal
needs care and the reverse.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .graph.ops import describe

FIXED = 0  # the name of every channel whose factor must be 1
_POOLS = ("max_pool2d", "adaptive_max_pool2d", "avg_pool2d", "mean")


class Names:
    """The names of the channels of every tensor in a prepared graph.

    Parameters
    ----------
    graph : fx.GraphModule
        From `prepare`.

    Attributes
    ----------
    of : dict of fx.Node -> Tensor
        int64, (C,): one name a channel; equal names share a factor.
    axis : dict of fx.Node -> int
        Where these channels lie: axis 1 behind a convolution, the last axis behind a linear layer.
    read : dict of fx.Node -> Tensor
        int64, (I,): the names of what each convolution and each linear layer reads.
    count : int
        Names are 0 .. count - 1; 0 is `FIXED`.
    """

    def __init__(self, graph: fx.GraphModule):
        self._graph, self._parent = graph, [FIXED]
        self.of: dict[fx.Node, Tensor] = {}
        self.axis: dict[fx.Node, int] = {}
        self.read: dict[fx.Node, Tensor] = {}
        for node in graph.graph.nodes:
            if node.op == "output":
                self._tie(self.of[node.args[0]], FIXED)
            else:
                self.axis[node], self.of[node] = self._written(node)
        for found in (self.of, self.read):
            found |= {node: self._roots(names) for node, names in found.items()}
        self.count = len(self._parent)

    def _written(self, node: fx.Node) -> tuple[int, Tensor]:
        """The axis and the names of the channels that a node gives out, after tying what it reads."""
        shape = _shape(node)
        if node.op == "placeholder":
            return 1, torch.full((shape[1],), FIXED)
        op, settings = describe(node, self._graph)
        sources = (
            node.args[0]
            if isinstance(node.args[0], (tuple, list))
            else [a for a in node.args if a in self.of]
        )
        names, source = [self.of[each] for each in sources], sources[0]
        axis, before = self.axis[source], _shape(source)
        if op in ("conv2d", "linear"):
            return self._layer(node, source, 1 if op == "conv2d" else len(shape) - 1)
        each_alone = op == "relu" or (op == "lookup" and settings["function"] == "leaky_relu")
        if each_alone or (op in _POOLS and axis < len(before) - 2):  # a pool mixes the last two axes
            return axis, names[0]
        if op == "flatten":  # each value has the name of its channel
            along = [-1 if i == axis else 1 for i in range(1, len(before))]
            return 1, names[0].reshape(along).expand(before[1:]).flatten()
        if op in ("add", "cat") and all(self.axis[each] == axis for each in sources):
            if op == "cat" and settings["dim"] == axis:
                return axis, torch.cat(names)
            for other in names[1:]:
                self._tie(names[0], other)
            return axis, names[0]
        for each in names:
            self._tie(each, FIXED)
        return 1, torch.full((shape[1],), FIXED)

    def _layer(self, node: fx.Node, source: fx.Node, axis: int) -> tuple[int, Tensor]:
        """New names along the axis that a layer sums over; channels on another axis cannot have a factor."""
        self.read[node] = self.of[source]
        if self.axis[source] != axis:
            self._tie(self.of[source], FIXED)
            self.read[node] = torch.full((_shape(source)[axis],), FIXED)
        new = torch.arange(len(self._parent), len(self._parent) + _shape(node)[axis])
        self._parent += new.tolist()
        return axis, new

    def _tie(self, names: Tensor, others: Tensor | int) -> None:
        others = torch.as_tensor(others).expand_as(names)
        for a, b in zip(names.tolist(), others.tolist(), strict=True):
            a, b = self._root(a), self._root(b)
            self._parent[max(a, b)] = min(a, b)  # FIXED is the smallest: it wins

    def _root(self, name: int) -> int:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def _roots(self, names: Tensor) -> Tensor:
        return torch.tensor([self._root(name) for name in names.tolist()])


def _shape(node: fx.Node) -> torch.Size:
    return node.meta["tensor_meta"].shape


def columns(weight: Tensor, names: Tensor, groups: int = 1) -> Tensor:
    """The names of the inputs that each weight of a layer reads: (O, I / groups), from the names (I,).

    Examples
    --------
    >>> columns(torch.zeros(4, 1, 3, 3), torch.tensor([7, 8]), groups=2).flatten().tolist()
    [7, 7, 8, 8]
    """
    each = names.reshape(groups, 1, -1)  # (groups, 1, I / groups)
    return each.expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[0], -1)
