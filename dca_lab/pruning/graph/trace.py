"""Record the operations of a forward pass, with every value they had.

`torch.fx` records a program by running it on placeholders. Here each placeholder also carries the real
value that the example input gave it, so that a branch on a *shape* (`if x.dim() == 3`) is decided, while a
branch on *data* is refused: another input could take the other side, and the recorded program would be
wrong for it.
"""

from __future__ import annotations

import inspect
import operator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn

from .labels import PruningError

# torch's own composite layers: looked into, so that what they are made of can be pruned
_COMPOSITE = (
    nn.Sequential,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
    nn.Transformer,
)
# functions that make a tensor from sizes alone: fx does not see these by itself
_FACTORIES = ("arange", "zeros", "ones", "full", "empty", "eye", "linspace")


def describe(node: fx.Node) -> str:
    """Where a node is, in words: its name, what it calls, and the module whose `forward` calls it."""
    target = (
        node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    )
    stack = list(node.meta.get("nn_module_stack") or {})
    inside = f" in module '{stack[-1]}'" if stack and stack[-1] else ""
    return f"node '{node.name}' ({node.op} {target}{inside})"


class _Proxy(fx.Proxy):
    """A placeholder that can be used as a number where its value is one."""

    _is_param = _is_buffer = False  # torch asks for these when it checks for nn.Parameter

    def _number(self, what: str) -> Any:
        value = self.tracer.values[self.node]
        if isinstance(value, Tensor):
            raise PruningError(
                f"{describe(self.node)}: {what} turns data into a Python number; the recorded program would "
                "hold for this one input only. Keep it a tensor, or prune the submodules around it."
            )
        return value

    @property
    def __class__(self) -> type:
        """So that `isinstance(x, tuple)` in a forward pass is answered as for the real value (torch's C
        code must not be told so).
        """
        value = self.tracer.values.get(self.node)
        return type(value) if isinstance(value, (tuple, list, dict)) else _Proxy

    def __index__(self) -> int:
        return operator.index(self._number("int(...)"))

    def __int__(self) -> int:
        return int(self._number("int(...)"))

    def __float__(self) -> float:
        return float(self._number("float(...)"))

    def __len__(self) -> int:
        return len(self.tracer.values[self.node])

    def __getattr__(self, name: str) -> fx.Proxy:
        return _Shape(self, name) if name in ("shape", "ndim") else super().__getattr__(name)


class _Shape(fx.proxy.Attribute, _Proxy):
    """`x.shape` and `x.ndim`: recorded when first used."""


class Tracer(fx.Tracer):
    """Symbolic tracing in which `values[node]` is the real value of each node."""

    proxy_buffer_attributes = True

    def __init__(self, inputs: tuple) -> None:
        super().__init__()
        self.inputs = inputs
        self.values: dict[fx.Node, Any] = {}
        self._running = False

    def record(self, model: nn.Module) -> fx.Graph:
        """Run `model` on the inputs and return its graph; raises PruningError with the reason when that
        fails.
        """
        try:
            with ExitStack() as stack:
                for name in _FACTORIES:
                    stack.enter_context(mock.patch.object(torch, name, self._factory(getattr(torch, name))))
                graph = self.trace(model)
        except PruningError:
            raise
        except Exception as error:
            raise PruningError(
                f"{type(model).__name__} could not be traced by torch.fx on the example input: "
                f"{type(error).__name__}: {error}"
            ) from error
        output = next(node for node in graph.nodes if node.op == "output")
        self.values[output] = fx.node.map_arg(output.args[0], self.values.__getitem__)
        return graph

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.nn") and not isinstance(m, _COMPOSITE)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a):
        return a.node if issubclass(type(a), fx.Proxy) else super().create_arg(a)

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        names = [
            n
            for n, p in inspect.signature(root_fn).parameters.items()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ][1:]
        names += [f"input_{i}" for i in range(len(names), len(self.inputs))]
        places = [self.create_proxy("placeholder", names[i], (), {}) for i in range(len(self.inputs))]
        return root_fn, [self.root, *places]

    def create_proxy(self, kind, target, args, kwargs, *rest, **more):
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        self.values[proxy.node] = self._evaluate(proxy.node)
        return proxy

    def call_module(self, m, forward, args, kwargs):
        return forward(*args, **kwargs) if self._running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise PruningError(
                f"{describe(obj.node)}: the forward pass branches on data, so one recorded program does not "
                "hold for every input. Prune the submodules on each side of the branch instead."
            )
        return bool(value)

    def iter(self, obj: fx.Proxy):
        return iter([obj[i] for i in range(len(self.values[obj.node]))])

    def _factory(self, function):
        def make(*args, **kwargs):
            found = [a for a in [*args, *kwargs.values()] if isinstance(a, _Proxy)]
            found += [b for a in args if isinstance(a, (tuple, list)) for b in a if isinstance(b, _Proxy)]
            if found and not self._running:
                return self.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return make

    def _evaluate(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.inputs[sum(n.op == "placeholder" for n in self.values)]
        args = fx.node.map_arg(node.args, self.values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
        self._running = True
        try:
            if node.op == "call_module":
                return self.root.get_submodule(node.target)(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], node.target)(*args[1:], **kwargs)
            if node.op == "get_attr":
                return operator.attrgetter(node.target)(self.root)
            return node.target(*args, **kwargs)
        finally:
            self._running = False


def unused_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Averages that nobody reads, such as attention weights returned and dropped: they ask nothing of the
    channels.
    """
    unused: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        read = any(user not in unused for user in node.users)
        if (
            node.op in ("call_function", "call_method")
            and not read
            and _name(node) in ("mean", "sum", "div", "truediv", "getitem")
        ):
            unused.add(node)
    return unused


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
