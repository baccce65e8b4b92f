"""Correct the sizes that a forward pass spells out.

`x.view(-1, 3136)` or `x[:, :16]` hold numbers that are wrong once channels are gone. The labels say what
every size must become, so the recorded program can be corrected. This is only used where the module's own
`forward` no longer fits its parameters.
"""

from __future__ import annotations

import operator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten

from .flow import Flow
from .labels import PruningError
from .rulebook import Named
from .surgery import difference, survivors, values_of

_DROPOUTS = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
    F.alpha_dropout: nn.AlphaDropout,
}


def checked(flow: Flow, small: nn.Module, removed: Tensor, inputs: tuple) -> nn.Module:
    """The small network if it computes what it must; else with corrected sizes; else an error that says
    where it differs.
    """
    reference = values_of(flow.model, inputs)
    if difference(flow, removed, reference, small, inputs) is None:
        return small
    corrected = rewritten(small, flow, removed)
    problem = difference(flow, removed, reference, corrected, inputs)
    if problem is None:
        return corrected
    raise PruningError(
        f"{type(flow.model).__name__}: the smaller network would not compute what is left of the original: {problem}. "
        "The forward pass depends on a channel count in a way that cannot be corrected; use x.size(...) or -1 there."
    )


def rewritten(model: nn.Module, flow: Flow, removed: Tensor) -> fx.GraphModule:
    """The recorded program over the parameters of `model` (already cut), with its sizes corrected."""
    graph, twin = fx.Graph(), {}
    for node in flow.graph.nodes:
        new = twin[node] = graph.node_copy(node, twin.__getitem__)
        if node.op not in ("call_function", "call_method") or node not in flow.labels:
            continue
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if name in ("view", "reshape", "expand", "unflatten"):
            _shape(flow, removed, node, new, name)
        elif name in ("split", "chunk", "tensor_split", "split_with_sizes"):
            _split(flow, removed, node, new)
        elif name in ("getitem", "__getitem__", "narrow", "select"):
            _slice(flow, removed, node, new, name, twin)
        elif node.target in _DROPOUTS:  # recorded in evaluation mode: give its switch back
            p = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            path = f"{node.name}_module"
            model.add_module(path, _DROPOUTS[node.target](p))
            model.get_submodule(path).train(model.training)
            new.op, new.target, new.args, new.kwargs = "call_module", path, (new.args[0],), {}
    result = fx.GraphModule(model, graph)
    result.train(model.training)
    return result


def _left(flow: Flow, removed: Tensor, named: Named) -> list[int]:
    return [len(index) for index in survivors(flow, named.labels, removed)]


def _shape(flow: Flow, removed: Tensor, node: fx.Node, new: fx.Node, name: str) -> None:
    """Sizes of a view that changed: -1 where it can be inferred, else the new number."""
    found = flow.labels[node]
    old, left = list(found.value.shape), _left(flow, removed, found)
    if old == left:
        return
    first = 2 if name == "unflatten" else 1
    rest = new.args[first:] or tuple(v for k, v in new.kwargs.items() if k in ("shape", "size", "sizes"))
    sizes = list(rest[0]) if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else list(rest)
    offset = (new.args[1] % flow.labels[node.args[0]].value.dim()) if name == "unflatten" else 0
    changed = [
        i for i in range(len(sizes)) if old[i + offset] != left[i + offset] and not _is_minus_one(sizes[i])
    ]
    free = name != "expand" and not any(map(_is_minus_one, sizes)) and len(changed) == 1
    for i in changed:
        sizes[i] = -1 if free else left[i + offset]
    given = node.args[first:] or tuple(node.kwargs.values())
    given = list(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list)) else list(given)
    for i in set(range(len(sizes))) - set(changed):
        if isinstance(given[i], fx.Node) and _stale(flow, removed, given[i]):
            sizes[i] = left[i + offset]
    new.args, new.kwargs = (*new.args[:first], tuple(sizes)), {}


def _stale(flow: Flow, removed: Tensor, number: fx.Node) -> bool:
    """True if a number was computed from an axis that gets shorter."""
    source = number.args[0] if number.args else None
    axis = number.args[1] if len(number.args) > 1 else number.kwargs.get("dim")
    if number.target is operator.getitem and isinstance(source, fx.Node):
        source = source.args[0]  # x.shape[axis] or x.size()[axis]
    named = flow.labels.get(source) if isinstance(source, fx.Node) else None
    if isinstance(named, Named) and isinstance(axis, int):
        return named.value.size(axis) != _left(flow, removed, named)[axis]
    return any(_stale(flow, removed, other) for other in number.all_input_nodes)


def _is_minus_one(size: Any) -> bool:
    return isinstance(size, int) and size == -1


def _split(flow: Flow, removed: Tensor, node: fx.Node, new: fx.Node) -> None:
    """Pieces that changed are listed one by one."""
    pieces = [p for p in tree_flatten(flow.labels[node])[0] if isinstance(p, Named)]
    left = [_left(flow, removed, p) for p in pieces]
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    if all(list(p.value.shape) == size for p, size in zip(pieces, left, strict=True)):
        return
    new.op, new.target = "call_method", "split"
    new.args, new.kwargs = (new.args[0], [size[dim] for size in left]), {"dim": dim}


def _slice(flow: Flow, removed: Tensor, node: fx.Node, new: fx.Node, name: str, twin: dict) -> None:
    """Positions become how many indices before them are left."""
    source = flow.labels.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
    if not isinstance(source, Named):
        return
    indices, rank = survivors(flow, source.labels, removed), source.value.dim()

    def moved(position: Any, axis: int) -> Any:
        number = flow.values[position] if isinstance(position, fx.Node) else position
        size = source.value.size(axis)
        if len(indices[axis]) == size or not isinstance(number, int):
            return twin[position] if isinstance(position, fx.Node) else position
        return int((indices[axis] < (number % size if number < 0 else number)).sum())

    def moved_slice(item: Any, axis: int) -> Any:
        if isinstance(item, slice):
            return slice(moved(item.start, axis), moved(item.stop, axis), item.step)
        return moved(item, axis)

    if name in ("narrow", "select"):
        dim, start = node.args[1] % rank, node.args[2]
        new.args = (new.args[0], dim, moved(start, dim), *new.args[3:])
        if name == "narrow":
            new.args = (*new.args[:3], moved(start + node.args[3], dim) - new.args[2])
        return
    items = list(node.args[1]) if isinstance(node.args[1], tuple) else [node.args[1]]
    if any(isinstance(item, (Tensor, list)) for item in items):
        return
    copied, axis = list(items), 0
    for i, item in enumerate(items):
        if item is Ellipsis:
            axis = rank - sum(1 for rest in items[i + 1 :] if rest is not None)
        elif item is not None:
            copied[i] = moved_slice(copied[i], axis)
            axis += 1
    new.target, new.op = operator.getitem, "call_function"
    new.args, new.kwargs = (new.args[0], tuple(copied) if isinstance(node.args[1], tuple) else copied[0]), {}
