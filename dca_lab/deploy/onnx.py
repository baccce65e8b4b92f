"""A float model as one ONNX file: the graph, the weights, and nothing of Python.

ONNX (Open Neural Network Exchange) describes a network as a list of nodes, each with an operator from a public
standard, named inputs, outputs and attributes; the weights are named constants ("initializers") in the same
file. `trace_onnx` makes the graph of a torch model: the size of the batch stays open (dimension 0 is named
"batch"), every other size is that of the example.

A file is written beside its place and renamed into it: a failed export leaves no half of a file.

What this is *not*: an optimiser. The nodes are fused when a `Session` loads the file. A model whose path
depends on values (``if x.sum() > 0``) has no one graph, and is refused.

References
----------
ONNX, "Open Neural Network Exchange Intermediate Representation (ONNX IR) Specification", onnx.ai.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from torch import Tensor, nn

from dca_lab.files import replacing, require_folder

from .session import Session
from .trace import trace_onnx


def export_onnx(model: nn.Module, example_input: Tensor | tuple[Tensor, ...], path: str | Path) -> Session:
    """Write `model` in evaluation mode to an ONNX file, and load it.

    Parameters
    ----------
    model : nn.Module
        Left as it was, mode included.
    example_input : Tensor or tuple of Tensor
        One valid input with the batch in front; a tuple for a model of several inputs. Only shapes and dtypes
        matter. All sizes but that of the batch become part of the file.
    path : str or Path
        The file, ``.onnx`` by custom. Its folder must be there; an older file is replaced.

    Returns
    -------
    Session
        The file as ONNX Runtime runs it, on one thread.

    Raises
    ------
    ValueError
        If the arguments are no model and tensors, or the model cannot be traced with this input.
    FileNotFoundError
        If the folder of `path` does not exist.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = export_onnx(nn.Linear(4, 3), torch.zeros(1, 4), f"{folder}/linear.onnx")
    >>> session(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """
    path = require_folder(path)  # before the seconds that tracing takes
    return Session(save_onnx(trace_onnx(model, example_input), path))


def save_onnx(model: onnx.ModelProto, path: str | Path) -> Path:
    """Check an ONNX model and write it, whole or not at all.

    Parameters
    ----------
    model : onnx.ModelProto
        Weights inside; at most 2 GiB, the limit of the format.
    path : str or Path
        Its folder must be there; an older file is replaced.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If the model breaks the standard.
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> graph = onnx.parser.parse_model('''<ir_version: 10, opset_import: ["": 20]>
    ...     twice (float[batch, 3] x) => (float[batch, 3] y) { y = Add(x, x) }''')
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Session(save_onnx(graph, f"{folder}/twice.onnx"))(torch.ones(1, 3))
    tensor([[2., 2., 2.]])
    """
    path = require_folder(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"{path.name} would be no valid ONNX model: {error}") from error
    with replacing(path) as beside:
        beside.write_bytes(model.SerializeToString())
    return path
