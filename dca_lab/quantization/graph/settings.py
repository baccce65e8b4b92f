"""The settings of each operation, read from a layer or from a call, and refused where integers have no such form.

One function an operation: it looks at the node (and its module, if it has one) and returns the operation's
name and its settings as `Step.attributes` names them. The name may differ from the one that was looked up: an
adaptive pool whose windows are equally large is a plain pool. It is *not* a check of shapes in general: the
network ran on an example before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from .errors import QuantizationError

_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def layer_name(node: fx.Node) -> str:
    """The node's layer as the user knows it: the module's path, or the call and the module that makes it.

    Examples
    --------
    >>> graph = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3)))
    >>> [layer_name(node) for node in graph.graph.nodes if node.op == "call_module"]
    ["'0'"]
    """
    if node.op == "call_module":
        return f"{node.target!r}"
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    inside = f" in {stack[-1][0]!r}" if stack and stack[-1][0] else ""
    return f"{node.name!r} ({getattr(node.target, '__name__', node.target)}){inside}"


def arguments(node: fx.Node, module: nn.Module | None, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings called `names`, from the module or from the call; those that are left out are missing."""
    if module is not None:
        return {name: getattr(module, name) for name in names if hasattr(module, name)}
    given = dict(zip(names, node.args[1:], strict=False))
    return given | {name: value for name, value in node.kwargs.items() if name in names}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _shape(node: fx.Node) -> torch.Size:
    return node.meta["tensor_meta"].shape


def _conv2d(node: fx.Node, conv: nn.Conv2d) -> tuple[str, dict[str, Any]]:
    if conv.padding_mode != "zeros":
        raise QuantizationError(
            f"layer {layer_name(node)} pads with {conv.padding_mode!r}: use padding_mode='zeros'"
        )
    left, right, top, bottom = conv._reversed_padding_repeated_twice  # resolves padding="same" as well
    padding = (top, bottom, left, right)
    settings = {"stride": conv.stride, "padding": padding, "dilation": conv.dilation, "groups": conv.groups}
    return "conv2d", settings


def _plain(op: str) -> Any:
    return lambda node, module: (op, {})


def _add(node: fx.Node, module: None) -> tuple[str, dict[str, Any]]:
    if len(node.all_input_nodes) == 0 or not all(isinstance(a, fx.Node) for a in node.args) or node.kwargs:
        raise QuantizationError(f"layer {layer_name(node)} adds a constant: only two tensors can be added")
    if _shape(node.args[0]) != _shape(node.args[1]):
        raise QuantizationError(f"layer {layer_name(node)} adds tensors of unequal shape: expand one of them")
    return "add", {}


def _cat(node: fx.Node, module: None) -> tuple[str, dict[str, Any]]:
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    dim %= len(_shape(node))
    if dim == 0:
        raise QuantizationError(f"layer {layer_name(node)} joins examples: join channels, dim=1")
    return "cat", {"dim": dim}


def _max_pool2d(node: fx.Node, module: nn.Module | None) -> tuple[str, dict[str, Any]]:
    given = arguments(node, module, _POOL)
    if given.get("ceil_mode") or given.get("return_indices"):
        raise QuantizationError(f"layer {layer_name(node)}: ceil_mode and return_indices are not supported")
    kernel = _pair(given["kernel_size"])
    return "max_pool2d", {
        "kernel_size": kernel,
        "stride": _pair(given.get("stride") or kernel),
        "padding": _pair(given.get("padding", 0)),
        "dilation": _pair(given.get("dilation", 1)),
    }


def _avg_pool2d(node: fx.Node, module: nn.Module | None) -> tuple[str, dict[str, Any]]:
    given = arguments(node, module, _AVERAGE)
    padding = _pair(given.get("padding", 0))
    uneven = padding != (0, 0) and not given.get("count_include_pad", True)
    if given.get("ceil_mode") or given.get("divisor_override") or uneven:
        raise QuantizationError(
            f"layer {layer_name(node)}: only averages over windows of one size are supported"
        )
    kernel = _pair(given["kernel_size"])
    stride = _pair(given.get("stride") or kernel)
    return "avg_pool2d", {"kernel_size": kernel, "stride": stride, "padding": padding}


def _adaptive(node: fx.Node, module: nn.Module | None) -> tuple[str, dict[str, Any]]:
    """An adaptive pool is a plain one when its windows are equally large, which the shapes decide."""
    average = isinstance(module, nn.AdaptiveAvgPool2d) or node.target is F.adaptive_avg_pool2d
    before, after = _shape(node.args[0])[-2:], _shape(node)[-2:]
    if average and tuple(after) == (1, 1):
        return "mean", {"keepdim": True, "count": before.numel()}
    if all(i % o == 0 for i, o in zip(before, after, strict=True)):
        kernel = (before[0] // after[0], before[1] // after[1])
        pool = {"kernel_size": kernel, "stride": kernel, "padding": (0, 0)}
        return ("avg_pool2d", pool) if average else ("max_pool2d", pool | {"dilation": (1, 1)})
    if average:
        raise QuantizationError(
            f"layer {layer_name(node)} averages windows of unequal size ({tuple(before)} to {tuple(after)}): "
            "choose an output size that divides the input"
        )
    return "adaptive_max_pool2d", {"output_size": tuple(after)}


def _mean(node: fx.Node, module: None) -> tuple[str, dict[str, Any]]:
    given = arguments(node, module, ("dim", "keepdim"))
    rank, dim = len(_shape(node.args[0])), given.get("dim")
    if rank != 4 or not isinstance(dim, (tuple, list)) or sorted(d % 4 for d in dim) != [2, 3]:
        raise QuantizationError(
            f"layer {layer_name(node)}: only a mean over height and width, dim=(2, 3), works"
        )
    keepdim, count = bool(given.get("keepdim", False)), _shape(node.args[0])[2:].numel()
    return "mean", {"keepdim": keepdim, "count": count}


def _flatten(node: fx.Node, module: nn.Module | None) -> tuple[str, dict[str, Any]]:
    if _shape(node) != torch.Size([_shape(node.args[0])[0], _shape(node.args[0])[1:].numel()]):
        raise QuantizationError(f"layer {layer_name(node)}: only a flattening to (B, values) is supported")
    return "flatten", {}


SETTINGS: dict[str, Any] = {
    "conv2d": _conv2d,
    "linear": _plain("linear"),
    "relu": _plain("relu"),
    "add": _add,
    "cat": _cat,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "mean": _mean,
    "flatten": _flatten,
}
