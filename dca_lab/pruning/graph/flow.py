"""Follow the channel names through a recorded forward pass.

`Flow` walks the graph once. For each node it looks up a *rule* (the `rules_*` files) that says what the
operation does to names, and it collects what the names mean for storage: which axis of which parameter they
index (`axes`), which tensors are indexed element by element (`elements`), which module attributes count
them (`sizes`), who makes them (`producers`) and who reads them (`consumers`). An operation without a rule
that meets a removable name is an error that says where.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_map

from .labels import Names, PruningError
from .rulebook import RULES, Axis, Call, Named, Size
from .trace import Tracer, describe, unused_nodes


class Flow:
    """The names in one forward pass of `model` on `inputs` (a tuple)."""

    def __init__(self, model: nn.Module, inputs: tuple, hidden: bool = False) -> None:
        self.model, self.names, self.hidden = model, Names(), hidden
        self.loose: set[fx.Node] = (
            set()
        )  # values whose labels may depend on two axes: the final states of a recurrent layer
        self.axes: dict[tuple[int, int], Axis] = {}
        self.elements: dict[int, Tensor] = {}
        self.sizes: list[Size] = []
        self.producers: list[Axis] = []  # layers that make channels
        self.followers: list[Axis] = []  # layers that hand channels on: batch-norm, depthwise convolution
        self.consumers: list[Axis] = []  # layers that read channels
        self.owners: dict[int, tuple[str, nn.Module, str]] = {}
        for path, module in model.named_modules():
            for name, tensor in [
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ]:
                self.owners.setdefault(id(tensor), (path, module, name))
        tracer = Tracer(inputs)
        self.graph = tracer.record(model)
        self.values = tracer.values
        self.labels: dict[fx.Node, Any] = {}
        unused = unused_nodes(self.graph)
        for node in self.graph.nodes:
            if node not in unused:
                self._step(node)
        self._settle()

    def _step(self, node: fx.Node) -> None:
        self.here, value = node, self.values[node]
        if node.op == "get_attr":
            stored = value if isinstance(value, Tensor) and id(value) in self.owners else None
            self.labels[node] = Named(
                self, value, None if stored is not None else self.unnamed(value), stored
            )
            return
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self.labels[n])
        named = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Named)]
        if node.op == "output":
            for argument in named:
                self.names.fix(argument.labels)
        if node.op in ("placeholder", "output") or not named or not self._holds_tensor(value):
            if node.target in ("item", "tolist", "numpy"):
                for argument in named:
                    self.names.fix(argument.labels)
            self.labels[node] = self._wrap(value, self.unnamed(value))
            return
        self.labels[node] = self._wrap(value, self._apply(node, value, args, kwargs, named))

    def _apply(self, node: fx.Node, value: Any, args: tuple, kwargs: dict, named: list[Named]) -> Any:
        module = self.model.get_submodule(node.target) if node.op == "call_module" else None
        kinds = type(module).__mro__ if module is not None else (node.target,)
        if (
            node.args
            and node.args[0] in self.loose
            and (not isinstance(value, Tensor) or value.shape == self.state_shape)
        ):
            self.loose.add(node)
        stack = list(node.meta.get("nn_module_stack") or {})
        layer = node.target if module is not None else (stack[-1] if stack else "")
        for kind in kinds:
            if kind in RULES:
                return RULES[kind](self, Call(node, module, value, layer), *args, **kwargs)
        if all(self.names.is_fixed(argument.labels) for argument in named if argument.stored is None):
            for argument in named:
                self.names.fix(argument.labels)
            return self.unnamed(value)
        raise PruningError(
            f"{describe(node)}: no rule says what this operation does to channels "
            f"({type(module).__name__ if module else node.target}), so the layers before it cannot be pruned. "
            "Rewrite it with supported operations, or prune the submodules around it."
        )

    @staticmethod
    def _holds_tensor(value: Any) -> bool:
        return any(isinstance(leaf, Tensor) for leaf in tree_flatten(value)[0])

    def _wrap(self, value: Any, labels: Any) -> Any:
        """The value with each tensor replaced by Named."""
        leaves, spec = tree_flatten(value)
        names = tree_flatten(labels)[0]
        if len(names) != len(leaves):
            raise PruningError(
                f"{describe(self.here)}: internal: {len(leaves)} results but {len(names)} labels"
            )
        for i, (leaf, name) in enumerate(zip(leaves, names, strict=True)):
            if isinstance(leaf, Tensor):
                if name.shape != leaf.shape:
                    raise PruningError(
                        f"{describe(self.here)}: internal: result {tuple(leaf.shape)}, labels {tuple(name.shape)}"
                    )
                leaves[i] = Named(self, leaf, name)
        return torch.utils._pytree.tree_unflatten(leaves, spec)

    @staticmethod
    def unnamed(value: Any) -> Any:
        """Labels that are all fixed, for a tensor or a structure of them."""
        return tree_map(
            lambda v: torch.zeros(v.shape, dtype=torch.int64) if isinstance(v, Tensor) else v, value
        )

    def refuse(self, why: str) -> PruningError:
        """The error for the node that is being followed."""
        return PruningError(f"{describe(self.here)}: {why}")

    def _settle(self) -> None:
        """Tie names until every value's labels depend on one axis only: then any removal leaves a
        rectangle.
        """
        while True:
            before = self.names.root
            tight = [found for node, found in self.labels.items() if node not in self.loose]
            for found in [*tight, *self.elements.values()]:
                for leaf in tree_flatten(found)[0]:
                    if isinstance(leaf, Named) and leaf._labels is not None:
                        self.names.settle(leaf.labels)
                    elif isinstance(leaf, Tensor):
                        self.names.settle(leaf)
            if self.names.root is before:
                return

    def element_names(self, stored: Tensor) -> Tensor:
        """Names for each element of a parameter used as it stands; integer and boolean buffers are
        constants.
        """
        taken = [axis for (key, _), axis in self.axes.items() if key == id(stored)]
        if taken or not stored.is_floating_point():
            for axis in taken:
                self.names.fix(axis.labels)
            return self.unnamed(stored)
        if id(stored) not in self.elements:
            self.elements[id(stored)] = self.names.fresh(stored.shape)
        return self.elements[id(stored)]

    def index(
        self, tensor: Tensor | None, axis: int, labels: Tensor, kind: list[Axis] | None = None
    ) -> Tensor:
        """Say that `labels` name the indices of an axis of a stored tensor; merge with what was said
        before.
        """
        if tensor is None:
            return labels
        if id(tensor) not in self.owners:
            raise self.refuse(
                "the weight is computed at each call (weight norm, a parametrization or a mask hook). "
                "Make it permanent first (remove_parametrizations, prune.remove, ...)."
            )
        if id(tensor) in self.elements:  # also used element by element: leave it whole
            self.names.fix(self.elements[id(tensor)])
            self.names.fix(labels)
        entry = self.axes.setdefault((id(tensor), axis), Axis(self._layer(tensor), tensor, axis, labels))
        self.names.merge(entry.labels, labels)
        if kind is not None and not any(entry is other for other in kind):
            kind.append(entry)
        return self.names.find(labels)

    def _layer(self, tensor: Tensor) -> str:
        """The layer that stores a tensor; the tensor's own name where it is not simply a layer's weight or
        bias.
        """
        path, module, name = self.owners[id(tensor)]
        simple = (
            path and name.startswith(("weight", "bias", "running")) and next(module.children(), None) is None
        )
        return path if simple else f"{path}.{name}".lstrip(".")

    def module_of(self, axis: Axis) -> nn.Module:
        """The module that stores the tensor."""
        return self.owners[id(axis.tensor)][1]

    def make(self, tensor: Tensor, axis: int) -> Tensor:
        """The names of the channels that a layer makes: new ones at its first call, the same at each later
        call.
        """
        entry = self.axes.get((id(tensor), axis))
        return self.index(
            tensor,
            axis,
            self.names.fresh(tensor.size(axis)) if entry is None else entry.labels,
            self.producers,
        )

    def bias_added(self, module: nn.Module, layer: str) -> None:
        """A layer got a bias after the pass: its indices are named like its weight's rows."""
        if id(module.bias) not in self.owners:
            self.owners[id(module.bias)] = (layer, module, "bias")
            rows = self.axes.get((id(module.weight), 0))
            if rows is not None:
                self.axes[id(module.bias), 0] = Axis(layer, module.bias, 0, rows.labels)

    def count(self, module: nn.Module | None, attribute: str, labels: Tensor) -> None:
        """Say that a module attribute counts these names."""
        if module is not None and hasattr(module, attribute):
            self.sizes.append(Size(module, attribute, labels.reshape(-1)))

    def name_sets(self) -> list[set[int]]:
        """The distinct names in each tensor and along each stored axis."""
        tensors = [a.labels for a in self.axes.values()] + [s.labels for s in self.sizes]
        for found in self.labels.values():
            tensors += [
                n.labels for n in tree_flatten(found)[0] if isinstance(n, Named) and n._labels is not None
            ]
        held = {frozenset(self.names.find(t).unique().tolist()) for t in tensors}
        return [set(h) for h in held if h and h != {0}]
