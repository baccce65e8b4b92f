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
_HOMOGENEOUS = ("relu", "max_pool2d", "adaptive_max_pool2d", "avg_pool2d", "mean")


class Names:
    """The names of the channels (axis 1) of every tensor in a prepared graph.

    Parameters
    ----------
    graph : fx.GraphModule
        From `prepare`.

    Attributes
    ----------
    of : dict of fx.Node -> Tensor
        int64, (C,): one name a channel; equal names share a factor.
    count : int
        Names are 0 .. count - 1; 0 is `FIXED`.
    """

    def __init__(self, graph: fx.GraphModule):
        self._graph, self._parent = graph, [FIXED]
        self.of: dict[fx.Node, Tensor] = {}
        for node in graph.graph.nodes:
            if node.op == "output":
                self._tie(self.of[node.args[0]], FIXED)
            else:
                self.of[node] = self._written(node)
        self.of = {node: self._roots(names) for node, names in self.of.items()}
        self.count = len(self._parent)

    def _written(self, node: fx.Node) -> Tensor:
        """The names of the channels that a node gives out, after tying what it reads."""
        shape = node.meta["tensor_meta"].shape
        if node.op == "placeholder":
            return torch.full((shape[1],), FIXED)
        op, settings = describe(node, self._graph)
        read = (
            node.args[0]
            if isinstance(node.args[0], (tuple, list))
            else [a for a in node.args if a in self.of]
        )
        names = [self.of[source] for source in read]
        if op == "conv2d" or (op == "linear" and len(shape) == 2):
            new = torch.arange(len(self._parent), len(self._parent) + shape[1])
            self._parent += new.tolist()
            return new
        if op in _HOMOGENEOUS or (op == "lookup" and settings["function"] == "leaky_relu"):
            return names[0]
        if op == "flatten":  # channel c becomes the values c * H * W ... (c + 1) * H * W - 1
            return names[0].repeat_interleave(shape[1] // len(names[0]))
        if op == "cat" and settings["dim"] == 1:
            return torch.cat(names)
        if op in ("add", "cat"):
            for other in names[1:]:
                self._tie(names[0], other)
            return names[0]
        for each in names:
            self._tie(each, FIXED)
        return torch.full((shape[1],), FIXED)

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


def columns(weight: Tensor, names: Tensor, groups: int = 1) -> Tensor:
    """The names of the inputs that each weight of a layer reads: (O, I / groups), from the names (I,).

    Examples
    --------
    >>> columns(torch.zeros(4, 1, 3, 3), torch.tensor([7, 8]), groups=2).flatten().tolist()
    [7, 7, 8, 8]
    """
    each = names.reshape(groups, 1, -1)  # (groups, 1, I / groups)
    return each.expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[0], -1)
