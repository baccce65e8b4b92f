"""Which operation a node of the traced network is: the one table that decides what can be quantized.

`describe` turns the several spellings of one operation (``nn.ReLU()``, ``F.relu(x)``, ``x.relu()``) into one
name and its settings. What the table does not know is refused, with the layer's name and what to write
instead: a layer left in float by silence would make the integer model a lie. It is *not* a compiler's
operator set: about a dozen operations that image networks use.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .errors import QuantizationError
from .functions import ARGUMENTS, CALLS, MODULES
from .settings import SETTINGS, arguments, layer_name

_SPELLINGS: dict[str, tuple[Any, ...]] = {
    "conv2d": (nn.Conv2d,),
    "linear": (nn.Linear,),
    "relu": (nn.ReLU, F.relu, torch.relu, "relu"),
    "add": (operator.add, torch.add, "add"),
    "cat": (torch.cat, torch.concat),
    "max_pool2d": (nn.MaxPool2d, F.max_pool2d, torch.max_pool2d),
    "avg_pool2d": (nn.AvgPool2d, F.avg_pool2d),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d),
    "mean": (torch.mean, "mean"),
    "flatten": (nn.Flatten, torch.flatten, "flatten"),
}
_OP: dict[Any, str] = {spelling: op for op, spellings in _SPELLINGS.items() for spelling in spellings}
_ADVICE: dict[type[nn.Module] | Any, str] = {
    **dict.fromkeys(
        (nn.RNNBase, nn.RNNCellBase, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag),
        "use dynamic quantization, which keeps activations in float between the matrix products",
    ),
    **dict.fromkeys(
        (F.conv2d, F.linear, torch.matmul, operator.matmul), "use a layer, nn.Conv2d or nn.Linear"
    ),
    **dict.fromkeys((nn.Conv1d, nn.Conv3d), "write it as nn.Conv2d with a kernel of width 1"),
    **dict.fromkeys(
        (nn.Softmax, nn.LogSoftmax, F.softmax, torch.softmax, F.log_softmax), "return the logits"
    ),
}


def refuse_modules(model: nn.Module) -> None:
    """Raise QuantizationError for the first module that no static quantization here knows how to treat."""
    for name, module in model.named_modules():
        for kind, advice in _ADVICE.items():
            if isinstance(kind, type) and isinstance(module, kind):
                raise QuantizationError(
                    f"layer {name!r} ({type(module).__name__}) cannot be quantized statically: {advice}"
                )


def kind(node: fx.Node, graph: fx.GraphModule) -> str:
    """The operation of a node, named as in `Step.op`.

    Raises
    ------
    QuantizationError
        When it is none that can be quantized; names the layer.

    Examples
    --------
    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
    >>> [kind(node, graph) for node in graph.graph.nodes if node.op == "call_module"]
    ['linear', 'lookup']
    """
    return describe(node, graph)[0]


def describe(node: fx.Node, graph: fx.GraphModule) -> tuple[str, dict[str, Any]]:
    """The operation of a node and its settings, named as in `Step.op` and `Step.attributes`.

    Parameters
    ----------
    node : fx.Node
        Of a graph whose shapes are known (`prepare` notes them), as adaptive pools need.
    graph : fx.GraphModule

    Raises
    ------
    QuantizationError
        When it is none that can be quantized; names the layer.

    Examples
    --------
    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1)))
    >>> describe(list(graph.graph.nodes)[1], graph)[1]["padding"]
    (1, 1, 1, 1)
    """
    module = graph.get_submodule(node.target) if node.op == "call_module" else None
    spelling = type(module) if module is not None else node.target
    function = MODULES.get(spelling) if module is not None else CALLS.get(spelling)
    if function is not None:
        given = arguments(node, module, ARGUMENTS.get(function, ()))
        return "lookup", {"function": function, "arguments": given}
    if node.op == "get_attr":
        raise QuantizationError(
            f"the network reads the parameter or constant {node.target!r} outside of a layer: use a layer "
            "(nn.Conv2d, nn.Linear) instead of a function with weights"
        )
    op = _OP.get(spelling)
    if op is None:
        advice = _ADVICE.get(spelling, "rewrite it with layers and functions that have one")
        what = f" ({type(module).__name__})" if module is not None else ""
        raise QuantizationError(f"layer {layer_name(node)}{what} has no integer form here: {advice}")
    if not node.args:
        raise QuantizationError(f"layer {layer_name(node)} is called by keyword only: give its tensor first")
    return SETTINGS[op](node, module)
