"""A network as a graph of layers that quantization can walk: traced, folded, and every operation known.

    trace -> nothing in place, no dropout, no sharing -> shapes -> fold batch-norm -> know every operation

The result is a `torch.fx.GraphModule` whose leaves are plain ``nn.Conv2d``, ``nn.Linear``, ...: methods that
change weights (equalisation, bias correction, adaptive rounding) take one and give one back. J. K. Reed,
Z. DeVito, H. He, A. Ussery, J. Ansel, "torch.fx: Practical Program Capture and Transformation for Deep
Learning in Python", MLSys, 2022. Tracing runs ``forward`` once on a symbol, so a network that branches on its
data cannot be captured. It is *not* a quantized network yet: it computes what the model computed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from .errors import QuantizationError
from .fold import fold_all
from .ops import kind, refuse_modules
from .settings import layer_name
from .tidy import drop_identities, name_flattenings, out_of_place, unshare


def prepare(model: nn.Module, example_input: Tensor) -> fx.GraphModule:
    """A traced copy of `model` in evaluation mode, without batch-norm or dropout, ready to be quantized.

    Parameters
    ----------
    model : nn.Module
        One tensor in, one tensor out; not changed. A graph that was prepared before may be given again.
    example_input : Tensor
        (B, ...), float32, B at least 1: only its shape matters, and any batch size may follow.

    Returns
    -------
    fx.GraphModule
        Computes what ``model.eval()`` computes (within float32 rounding).

    Raises
    ------
    QuantizationError
        A ValueError: when the model cannot be traced, or holds an operation without an integer form.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout())
    >>> graph = prepare(model, torch.zeros(1, 1, 8, 8))
    >>> [node.name for node in graph.graph.nodes]
    ['input_1', '_0', '_2', 'output']
    """
    if not isinstance(model, nn.Module):
        raise QuantizationError(f"expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(example_input, Tensor) or example_input.dim() < 2 or len(example_input) == 0:
        raise QuantizationError("example_input must be a tensor (B, ...) with at least one example")
    refuse_modules(model)
    graph = _trace(copy.deepcopy(model).eval())
    out_of_place(graph)
    drop_identities(graph)
    unshare(graph)
    _note_shapes(graph, example_input)
    name_flattenings(graph)
    fold_all(graph)
    for node in graph.graph.nodes:
        if node.op not in ("placeholder", "output"):
            kind(node, graph)
    graph.graph.lint()
    graph.recompile()
    return graph


def _trace(model: nn.Module) -> fx.GraphModule:
    if isinstance(model, fx.GraphModule):
        graph = model
    else:
        if fx.Tracer().is_leaf_module(model, ""):  # a single layer would be opened, not kept as a layer
            model = nn.Sequential(model)
        try:
            graph = fx.symbolic_trace(model)
        except Exception as error:  # forward is the user's code: whatever it raises on a symbol ends here
            raise QuantizationError(
                f"{type(model).__name__}.forward cannot be traced ({error}): it must be a fixed sequence of "
                "operations, without branches or loops that depend on the values of its input"
            ) from error
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    result = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    if len(inputs) != 1 or not isinstance(result, fx.Node):
        raise QuantizationError("only networks with one input and one output tensor can be quantized")
    return graph


def _note_shapes(graph: fx.GraphModule, example_input: Tensor) -> None:
    """Run two copies of one example and note each node's shape: a batch of two tells B from a size of 1."""
    example = example_input[:1].detach()
    walk = _Walk(graph)
    with torch.no_grad():
        try:
            walk.run(torch.cat([example, example]))
        except Exception as error:  # a layer's own, which speaks of matrices
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise QuantizationError(
                f"the network does not accept an input of shape {tuple(example.shape)}, {example.dtype}: "
                f"{_wanted(walk.at, walk)}: {first}"
            ) from None
        ShapeProp(graph).propagate(torch.cat([example, example]))


class _Walk(fx.Interpreter):
    """Runs a graph and remembers where it is; `ShapeProp` would print a traceback of its own."""

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        return super().run_node(n)


def _wanted(node: fx.Node, walk: _Walk) -> str:
    """What the layer at which a walk ended wants, and what it was given."""
    if node.op != "call_module":
        return layer_name(node)
    layer = walk.module.get_submodule(node.target)
    sizes = walk.env[node.all_input_nodes[0]].shape[1:]
    size = {nn.Linear: "(..., {0.in_features})", nn.Conv2d: "(B, {0.in_channels}, H, W)"}.get(type(layer), "")
    wants = f" wants {size.format(layer)} and" if size else ""
    given = ", ".join(["B", *map(str, sizes)])
    return f"layer {node.target!r} ({type(layer).__name__}){wants} is given ({given})"
