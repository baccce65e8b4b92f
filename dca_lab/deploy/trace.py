"""A model as an ONNX graph in memory: traced by ``torch.export``, translated by ``torch.onnx``.

Tracing runs the model once on symbols instead of numbers and notes every tensor operation; what Python did in
between (loops, conditions on shapes) is gone. The example has a batch of two, for ``torch.export`` takes a
size of 1 for a constant, and only the size of the batch stays a symbol. What this is *not*: a file; see
`export_onnx`.
"""

from __future__ import annotations

import copy

import onnx
import torch
from torch import Tensor, nn

from .quiet import quiet


def trace_onnx(model: nn.Module, example_input: Tensor | tuple[Tensor, ...]) -> onnx.ModelProto:
    """`model` in evaluation mode as an ONNX graph whose first dimension is open.

    Parameters
    ----------
    model : nn.Module
        Left as it was, mode included.
    example_input : Tensor or tuple of Tensor
        One valid input with the batch in front; a tuple for a model of several inputs.

    Returns
    -------
    onnx.ModelProto
        Weights inside, without names of source files.

    Raises
    ------
    ValueError
        If the arguments are no model and tensors, or the model cannot be traced with this input.

    Examples
    --------
    >>> [node.op_type for node in trace_onnx(nn.Linear(4, 3), torch.zeros(1, 4)).graph.node]
    ['Gemm']
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a torch.nn.Module, got {type(model).__name__}")
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    if not inputs or not all(isinstance(x, Tensor) and x.ndim and x.numel() for x in inputs):
        raise ValueError("example_input: give a tensor with a batch dimension, or a tuple of such tensors")
    # torch.export takes a size of 1 for a constant: an example of two keeps the batch open
    inputs = tuple(torch.cat([x[:1], x[:1]]).detach() for x in inputs)
    refusal = (
        f"{type(model).__name__} cannot be exported with inputs of shape {[tuple(x.shape) for x in inputs]}"
    )
    try:
        proto = _trace(model, inputs)
    except Exception as error:  # the exporter has no one class of errors
        cause = str(error.__cause__ or error).strip().splitlines()
        raise ValueError(f"{refusal}: {cause[0] if cause else type(error).__name__}") from error
    if fixed := [x.name for x in proto.graph.input if not x.type.tensor_type.shape.dim[0].dim_param]:
        raise ValueError(
            f"{refusal}: the size of the batch must stay open, and the model fixes that of {fixed}"
        )
    return proto


def _trace(model: nn.Module, inputs: tuple[Tensor, ...]) -> onnx.ModelProto:
    """The model as an ONNX graph without the exporter's notes."""
    frozen = copy.deepcopy(model).eval()  # tracing leaves marks in recurrent layers
    batch = torch.export.Dim("batch")
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            frozen,
            inputs,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )
    proto = program.model_proto
    graph = proto.graph
    for part in (
        proto,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.value_info,
    ):
        part.doc_string = ""  # names of source files and stack traces: a third of a small file
        del part.metadata_props[:]
    return proto
