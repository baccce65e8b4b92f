"""The layers with weights in ONNX: convolution and linear, each between dequantized operands and levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from ._qdq_graph import Graph
from .steps import Step


def lowest_level(step: Step) -> int:
    """The lowest level that the step gives: a ReLU ends at zero."""
    return step.grid.zero_point if step.relu else 0


def _weights(graph: Graph, step: Step) -> list[str]:
    """The dequantized weight, one scale a row, and the dequantized bias."""
    name, scale = step.name, step.weight_scale.numpy()
    weight = [
        graph.constant(f"{name}.weight", step.weight.numpy(), "int8"),
        graph.constant(f"{name}.weight_scale", scale, "float32"),
        graph.constant(f"{name}.weight_zero_point", np.zeros(len(scale)), "int8"),
    ]
    found = [graph.node("DequantizeLinear", weight, f"{name}.weight_float", axis=0)]
    if step.bias is not None:
        bias = [
            graph.constant(f"{name}.bias", step.bias.numpy(), "int32"),
            graph.constant(f"{name}.bias_scale", scale * graph.grids[step.inputs[0]].scale, "float32"),
        ]
        found.append(graph.node("DequantizeLinear", bias, f"{name}.bias_float", axis=0))
    return found


def conv2d(graph: Graph, step: Step) -> None:
    """A convolution on dequantized operands, its result quantized: ``QLinearConv`` once it is loaded."""
    name, given = step.name, step.attributes
    top, bottom, left, right = given["padding"]
    attributes = {
        "strides": given["stride"],
        "dilations": given["dilation"],
        "pads": (top, left, bottom, right),
        "group": given["groups"],
        "kernel_shape": step.weight.shape[2:],
    }
    if step.grid is None:
        _integer_sums(graph, step, attributes)
        return
    if graph.shapes[step.inputs[0]][0] <= _FEW and given["groups"] == 1:
        unfolded, step = _unfold(graph, step)
        x, attributes = (
            graph.node("DequantizeLinear", unfolded, f"{name}.from.columns"),
            {"kernel_shape": (1, 1)},
        )
    else:
        x = graph.dequantize(step.inputs[0], name)
    graph.node("Conv", [x, *_weights(graph, step)], f"{name}.float", **attributes)
    graph.quantize(f"{name}.float", name, lowest=lowest_level(step))


_FEW = 2  # channels


def _unfold(graph: Graph, step: Step) -> tuple[list[str], Step]:
    """The first layer of a network for grey pictures: its windows as channels, and a convolution of 1 x 1 on them.

    The kernels gather the windows channel by channel, and one channel is one byte at a time: that took longer
    than the products. Slices of whole pictures, shifted, are the same numbers.
    """
    name, source, given = step.name, step.inputs[0], step.attributes
    top, bottom, left, right = given["padding"]
    scale, zero_point = graph.grid(source)
    if any(given["padding"]):
        pads = graph.constant(f"{name}.pads", [0, 0, top, left, 0, 0, bottom, right], "int64")
        source = graph.node("Pad", [source, pads, zero_point], f"{name}.padded")
    for axis in (3, 2):  # along the width, then along the height: the channels end as (kh, kw, C)
        stride, dilation = given["stride"][axis - 2], given["dilation"][axis - 2]
        at = [graph.index(axis), graph.index(stride)]
        last = (graph.shapes[name][axis - 1] - 1) * stride + 1
        parts = []
        for k in range(step.weight.shape[axis]):
            span = [graph.index(k * dilation), graph.index(k * dilation + last)]
            parts.append(graph.node("Slice", [source, *span, *at], f"{name}.{axis}.{k}"))
        source = graph.node("Concat", parts, f"{name}.{axis}", axis=1)
    weight = step.weight.permute(0, 2, 3, 1).flatten(1)[:, :, None, None].contiguous()
    return [source, scale, zero_point], replace(step, weight=weight)


def _integer_sums(graph: Graph, step: Step, attributes: dict) -> None:
    """A convolution that ends the network: no grid follows it, so its int32 sums are scaled by hand."""
    name, source = step.name, step.inputs[0]
    _, zero_point = graph.grid(source)
    weight = graph.constant(f"{name}.weight", step.weight.numpy(), "int8")
    sums = graph.node("ConvInteger", [source, weight, zero_point], f"{name}.sums", **attributes)
    if step.bias is not None:
        bias = graph.constant(f"{name}.bias", step.bias.numpy()[:, None, None], "int32")
        sums = graph.node("Add", [sums, bias], f"{name}.sums_bias")
    scale = (step.weight_scale.numpy() * np.float32(graph.grids[source].scale))[:, None, None]
    real = graph.node("Cast", [sums], f"{name}.real", to=onnx.TensorProto.FLOAT)
    scale = graph.constant(f"{name}.real_scale", scale, "float32")
    _end(graph, step, lambda output: graph.node("Mul", [real, scale], output))


def linear(graph: Graph, step: Step) -> None:
    """A linear layer likewise: ``QGemm``. The network's last one is left float, which QGemm can give as well."""
    name, source = step.name, step.inputs[0]
    inner, outer = graph.shapes[source], graph.shapes[name]
    if len(inner) == 1:
        x, after = graph.dequantize(source, name), None
    else:  # (B, ..., I): the integer product takes matrices only
        rows = graph.constant(f"{name}.rows", [-1, inner[-1]], "int64")
        after = graph.constant(f"{name}.shape", [-1, *outer], "int64")
        matrix = graph.node("Reshape", [source, rows], f"{name}.matrix")
        x = graph.node("DequantizeLinear", [matrix, *graph.grid(source)], f"{name}.from.{source}")
    inputs = [x, *_weights(graph, step)]

    def gemm(output: str) -> str:
        return graph.node("Gemm", inputs, output, transB=1)

    if step.grid is None:
        if after is None:
            _end(graph, step, gemm)
        else:
            product = gemm(f"{name}.product")
            _end(graph, step, lambda output: graph.node("Reshape", [product, after], output))
        return
    product = gemm(f"{name}.float")
    levels = graph.quantize(
        product, name, lowest=lowest_level(step), output=f"{name}.levels" if after else None
    )
    if after is not None:
        graph.node("Reshape", [levels, after], name)


def _end(graph: Graph, step: Step, write: Callable[[str], str]) -> None:
    """The network's result, float: "y"."""
    if step.relu:
        graph.node("Relu", [write(f"{step.name}.float")], "y")
    else:
        write("y")
