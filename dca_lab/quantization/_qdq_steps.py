"""One function a kind of step: it adds to the graph what computes the step's levels."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from ._qdq_graph import Graph
from ._qdq_layers import conv2d, linear, lowest_level
from .steps import Step


def _sandwich(op: str, **attributes: int) -> Callable[[Graph, Step], None]:
    """A float operation between levels: ONNX Runtime has an integer operator for the whole."""

    def write(graph: Graph, step: Step) -> None:
        inputs = [graph.dequantize(source, f"{step.name}.{i}") for i, source in enumerate(step.inputs)]
        graph.node(op, inputs, f"{step.name}.float", **attributes)
        graph.quantize(f"{step.name}.float", step.name, lowest=lowest_level(step))

    return write


def _cat(graph: Graph, step: Step) -> None:
    dim = step.attributes["dim"]
    if all(graph.grids[source] == step.grid for source in step.inputs):
        graph.node("Concat", list(step.inputs), step.name, axis=dim)
    else:
        _sandwich("Concat", axis=dim)(graph, step)


def _max_pool2d(graph: Graph, step: Step) -> None:
    rows, columns = step.attributes["padding"]
    graph.node(
        "MaxPool",
        [step.inputs[0]],
        step.name,
        kernel_shape=step.attributes["kernel_size"],
        strides=step.attributes["stride"],
        dilations=step.attributes["dilation"],
        pads=(rows, columns, rows, columns),
    )


def _adaptive_max_pool2d(graph: Graph, step: Step) -> None:
    """Window i of n covers positions floor(i H / n) up to ceil((i + 1) H / n): a slice each, its largest level."""
    name, source = step.name, step.inputs[0]
    for axis, n in zip((2, 3), step.attributes["output_size"], strict=True):
        H = graph.shapes[step.inputs[0]][axis - 1]
        at = graph.index(axis)
        parts = []
        for i in range(n):
            part = f"{name}.axis{axis}.{i}"
            span = [graph.index(i * H // n), graph.index(-(-(i + 1) * H // n))]
            window = graph.node("Slice", [source, *span, at], f"{part}.window")
            parts.append(graph.node("ReduceMax", [window, at], part, keepdims=1))
        source = graph.node("Concat", parts, name if axis == 3 else f"{name}.rows", axis=axis)


def _avg_pool2d(graph: Graph, step: Step) -> None:
    rows, columns = step.attributes["padding"]
    _sandwich(
        "AveragePool",
        kernel_shape=step.attributes["kernel_size"],
        strides=step.attributes["stride"],
        pads=(rows, columns, rows, columns),
        count_include_pad=1,
    )(graph, step)


def _mean(graph: Graph, step: Step) -> None:
    name = step.name
    source = graph.dequantize(step.inputs[0], name)
    graph.node("GlobalAveragePool", [source], f"{name}.float")
    keep = step.attributes["keepdim"]
    levels = graph.quantize(f"{name}.float", name, output=None if keep else f"{name}.levels")
    if not keep:
        graph.node("Flatten", [levels], name, axis=1)


def _lookup(graph: Graph, step: Step) -> None:
    """The function's table, asked with the levels as indices: exact, whatever the function is."""
    name = step.name
    table = graph.constant(f"{name}.table", step.attributes["table"].numpy(), "uint8")
    flat = graph.constant(f"{name}.flat", [-1], "int64")
    back = graph.constant(f"{name}.shape", [-1, *graph.shapes[name]], "int64")
    levels = graph.node("Reshape", [step.inputs[0], flat], f"{name}.levels")
    index = graph.node("Cast", [levels], f"{name}.index", to=onnx.TensorProto.INT32)
    # not Gather: it copies slices, here of one byte each, and took five times as long
    found = graph.node("GatherElements", [table, index], f"{name}.found")
    graph.node("Reshape", [found, back], name)


def _flatten(graph: Graph, step: Step) -> None:
    graph.node("Flatten", [step.inputs[0]], step.name, axis=1)


WRITERS: dict[str, Callable[[Graph, Step], None]] = {
    "conv2d": conv2d,
    "linear": linear,
    "add": _sandwich("Add"),
    "cat": _cat,
    "max_pool2d": _max_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "mean": _mean,
    "lookup": _lookup,
    "flatten": _flatten,
    "relu": _sandwich("Relu"),
}
