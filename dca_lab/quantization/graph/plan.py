"""Which layers become steps, which ReLU a layer takes in, and which tensor decides the grid of its output.

Two facts about monotone operations save roundings. ReLU and max-pool commute, and neither makes a value that
was not there: a layer followed only by ReLU, max-pool, flatten or a concatenation hands its own levels
through all of them. So

- a ReLU (or ReLU6) that alone reads a convolution, linear layer or addition, directly or behind a max-pool, is
  no step: the grid of that layer starts at zero and clamps. A ReLU6 needs a grid of its own for that, one that
  ends at 6 (`Planned.ceiling`): it stays a step where the layer gives its sums, or shares a wider grid;
- the grid of a layer is chosen from the tensor at the *end* of such a chain (`Planned.observed`), which holds
  exactly the values that somebody will read; branches that only a concatenation reads share its grid, since
  rounding once on the common grid is never worse than rounding on an own grid first;
- what only a hard-swish reads needs no level below -3 (`Planned.matters`).

This is *not* the choice of the grid itself: that takes calibration data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from .functions import MATTERS
from .ops import describe

_TAKES_RELU = ("conv2d", "linear", "add")
_POOLS = ("max_pool2d", "adaptive_max_pool2d", "flatten")  # hand levels through, and commute with ReLU
KEEPS_GRID = _POOLS


@dataclass(frozen=True)
class Planned:
    """A layer that will be a step.

    Attributes
    ----------
    name : str
        Of the node and the step.
    op, attributes
        As in `Step`.
    inputs : tuple of str
        Names of the planned layers that it reads, or "input".
    module : nn.Module, optional
        The float layer, where there are weights.
    relu : bool
        A ReLU or ReLU6 is taken in.
    ceiling : float
        Where the grid must end at the latest, since nothing else clamps there: 6 if a ReLU6 is taken in.
    observed : fx.Node
        The node of the graph whose values decide the grid of the output.
    matters : tuple of float
        Outside this interval no reader distinguishes the values.
    is_output : bool
        The step gives the result of the network.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    module: nn.Module | None
    observed: fx.Node
    relu: bool = False
    ceiling: float = math.inf
    matters: tuple[float, float] = (-math.inf, math.inf)
    is_output: bool = False

    @property
    def needs_grid(self) -> bool:
        """A last layer with weights gives its sums; what keeps the grid of its input has none of its own."""
        return self.op not in KEEPS_GRID and not (self.is_output and self.module is not None)


def plan(graph: fx.GraphModule) -> tuple[Planned, list[Planned]]:
    """The input, as a planned layer of op "input", and the layers of a prepared network in their order.

    Parameters
    ----------
    graph : fx.GraphModule
        From `prepare`.

    Returns
    -------
    tuple
        (input, layers); the last layer gives the result.

    Examples
    --------
    >>> import torch
    >>> from .prepare import prepare
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    >>> source, layers = plan(prepare(model, torch.zeros(1, 1, 8, 8)))
    >>> [(layer.op, layer.relu, layer.observed.name) for layer in layers]
    [('conv2d', True, '_3'), ('max_pool2d', False, '_3'), ('flatten', False, '_3'), ('linear', False, '_4')]
    """
    nodes = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
    known = {node: describe(node, graph) for node in nodes}
    planned: dict[fx.Node, Planned] = {}
    source = next(node for node in graph.graph.nodes if node.op == "placeholder")
    result = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    planned[source] = Planned("input", "input", (), {}, None, source)
    for node in nodes:
        op, attributes = known[node]
        taker = _taker(node, known) if _is_relu(known[node]) else None
        if taker is not None:  # from here on, who reads the ReLU reads what it read
            ceiling = 6.0 if op == "lookup" else math.inf
            planned[taker] = replace(planned[taker], relu=True, ceiling=ceiling)
            planned[node] = planned[node.args[0]]
            continue
        inputs = tuple(planned[n].name for n in _operands(node))
        module = graph.get_submodule(node.target) if op in ("conv2d", "linear") else None
        planned[node] = Planned(node.name, op, inputs, attributes, module, node)
    layers = []
    for node, layer in planned.items():
        if node is source or node.name == layer.name:  # not a ReLU that was taken in
            end, matters = _end_of_chain(node, known)
            last = planned[result].name == layer.name
            layers.append(replace(layer, observed=end, matters=matters, is_output=last))
    return layers[0], layers[1:]


def layer_names(graph: fx.GraphModule, layers: list[Planned]) -> dict[str, str]:
    """Both names of each layer that has weights, "layer1.0.conv1" and "layer1_0_conv1" -> the step's name."""
    steps = [layer.name for layer in layers if layer.module is not None]
    targets = {n.target: n.name for n in graph.graph.nodes if n.op == "call_module" and n.name in steps}
    return targets | {name: name for name in steps}


def _is_relu(known: tuple[str, dict[str, Any]]) -> bool:
    return known[0] == "relu" or (known[0] == "lookup" and known[1]["function"] == "relu6")


def _operands(node: fx.Node) -> list[fx.Node]:
    """The tensors that a node reads, in their order, twice if it reads one twice."""
    first = node.args[0]
    return (
        list(first) if isinstance(first, (tuple, list)) else [a for a in node.args if isinstance(a, fx.Node)]
    )


def _taker(relu: fx.Node, known: dict[fx.Node, tuple]) -> fx.Node | None:
    """The layer that can take a ReLU in: it stands before it, at most behind max-pools, and has no other reader."""
    node = relu.args[0]
    while node in known and known[node][0] in _POOLS and len(node.users) == 1:
        node = node.args[0]
    takes = node in known and known[node][0] in _TAKES_RELU and len(node.users) == 1
    return node if takes and (known[relu][0] == "relu" or _own_grid(relu, known)) else None


def _own_grid(node: fx.Node, known: dict[fx.Node, tuple]) -> bool:
    """Whether a tensor is on a grid that is chosen for it alone: it is no result, and no concatenation widens it."""
    if any(reader not in known for reader in node.users):
        return False
    while len(node.users) == 1:
        reader = next(iter(node.users))
        if reader not in known or known[reader][0] not in _POOLS:
            return reader not in known or known[reader][0] != "cat"
        node = reader
    return True


def _end_of_chain(node: fx.Node, known: dict[fx.Node, tuple]) -> tuple[fx.Node, tuple[float, float]]:
    """Follow a tensor while one reader hands its levels through; the last node, and what its reader uses."""
    matters = (-math.inf, math.inf)
    while len(node.users) == 1:
        reader = next(iter(node.users))
        if reader not in known:
            break
        op, attributes = known[reader]
        if _is_relu(known[reader]) and _taker(reader, known) is not None:
            node = reader
        elif op in _POOLS or op == "cat":
            node = reader
        else:
            if op == "lookup":
                matters = MATTERS.get(attributes["function"], matters)
            break
    return node, matters
