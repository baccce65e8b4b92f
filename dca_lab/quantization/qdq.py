"""A quantized network as an ONNX file that ONNX Runtime executes in integers: the QDQ form.

ONNX has no integer convolution with everything around it. Instead the file says: *dequantize* the levels, do
the float operation, *quantize* the result.

    uint8 -> DequantizeLinear -> Conv (int8 weights, int32 bias, dequantized as well) -> QuantizeLinear -> uint8

On loading, ONNX Runtime replaces each such sandwich by one operator that computes in integers (``QLinearConv``,
``QGemm``, ``QLinearAdd``); `Session.node_types` shows which. What needs no arithmetic is written on the levels
themselves: max-pooling, flattening, joining what lies on one grid, ReLU as the clamp of a level. Where a grid's
zero point is 0, even that clamp is the one that quantization does anyway.

A first convolution on one or two channels is unfolded (`_qdq_layers`), which ONNX Runtime's own quantizer does not do.

Levels are uint8: int8 levels would be correct too, and several times slower in ONNX Runtime, whose kernels
multiply unsigned by signed bytes. The format: ONNX operators QuantizeLinear and DequantizeLinear; "Quantize
ONNX models", ONNX Runtime documentation, onnxruntime.ai. What this is *not*: a quantizer, and no promise: an
element may differ by one level from `StaticModel.integers`, as ONNX Runtime rescales sums in float32.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from dca_lab.deploy import save_onnx
from dca_lab.files import require_folder

from ._qdq_graph import Graph
from ._qdq_steps import WRITERS
from .model import StaticModel

OPSET, IR = 20, 10


def write_qdq(static: StaticModel, path: str | Path, *, every: bool = False) -> Path:
    """Write a statically quantized network as an ONNX file.

    Parameters
    ----------
    static : StaticModel
        From `quantize_static`.
    path : str or Path
        Its folder must exist. The file is there whole or not at all.
    every : bool
        Give the levels of every step (uint8), and of "input", as further outputs of the graph, in the order of
        the steps behind the result: for comparisons, not for use.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If a step has an operation that this writer does not know.

    Examples
    --------
    >>> import tempfile, torch
    >>> from dca_lab.deploy import Session
    >>> from dca_lab.quantization.static import quantize_static
    >>> model, x = torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.rand(9, 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = Session(write_qdq(quantize_static(model, x), f"{folder}/int8.onnx"))
    >>> session(x).shape, session.node_types()
    (torch.Size([9, 3]), {'QGemm': 1, 'QuantizeLinear': 1})
    """
    path = require_folder(path)
    return save_onnx(qdq_model(static, every=every), path)


def qdq_model(static: StaticModel, *, every: bool = False) -> onnx.ModelProto:
    """The ONNX graph that `write_qdq` writes.

    Examples
    --------
    >>> import torch
    >>> from dca_lab.quantization.static import quantize_static
    >>> model = qdq_model(quantize_static(torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.rand(9, 4)))
    >>> [node.op_type for node in model.graph.node]
    ['QuantizeLinear', 'DequantizeLinear', 'DequantizeLinear', 'DequantizeLinear', 'Gemm']
    """
    graph = Graph(static)
    graph.quantize("x", "input")
    for step in static.steps:
        if step.op not in WRITERS:
            raise ValueError(f"step {step.name!r}: no ONNX form of {step.op!r}; known: {', '.join(WRITERS)}")
        WRITERS[step.op](graph, step)
    last = static.steps[-1]
    if last.grid is not None:
        graph.node("DequantizeLinear", [last.name, *graph.grid(last.name)], "y")
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *graph.shapes[last.name]])]
    if every:
        outputs += [
            helper.make_tensor_value_info(name, TensorProto.UINT8, ["batch", *graph.shapes[name]])
            for name, grid in static.grids.items()
            if grid is not None
        ]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *static.input_shape])
    proto = helper.make_graph(graph.nodes, "int8", [source], outputs, list(graph.constants.values()))
    return helper.make_model(proto, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)])
