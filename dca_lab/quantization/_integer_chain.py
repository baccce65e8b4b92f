"""The ONNX nodes of one product that quantizes its input when it runs.

    DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul (scales) -> Add (bias)

Written exactly in this order, for this is the chain that ONNX Runtime knows how to fuse. It is *not* a layer:
`dynamic_onnx` puts it where a product was, `_onnx_gru` inside a loop over time.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from .affine import quantize
from .granularity import weight_params

Parts = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


def quantize_input(name: str) -> tuple[onnx.NodeProto, list[str]]:
    """The node that finds levels, scale and zero point of the tensor `name`, and their names."""
    levels = [f"{name}.levels", f"{name}.scale", f"{name}.zero_point"]
    return helper.make_node("DynamicQuantizeLinear", [name], levels), levels


def integer_chain(
    levels: list[str],
    weight: np.ndarray,
    bias: np.ndarray | None,
    output: str,
    *,
    name: str,
    bits: int = 8,
) -> Parts:
    """Nodes and constants that compute ``output = x @ weight + bias`` from what `quantize_input` found of x.

    Parameters
    ----------
    levels : list of str
        Names of levels, scale and zero point.
    weight : ndarray
        float32, (I, O).
    bias : ndarray, optional
        float32, (O,).
    output : str
    name : str
        In front of all new names.
    bits : int
        Of the weights.
    """
    x, scale, zero_point = levels
    integers, weight_scale = integer_weight(weight, bits)
    constants = [
        numpy_helper.from_array(integers, f"{name}.int8"),
        numpy_helper.from_array(weight_scale, f"{name}.scale"),
    ]
    last = output if bias is None else f"{name}.product"
    nodes = [
        helper.make_node("MatMulInteger", [x, f"{name}.int8", zero_point], [f"{name}.sums"]),
        helper.make_node("Cast", [f"{name}.sums"], [f"{name}.real"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [scale, f"{name}.scale"], [f"{name}.scales"]),
        helper.make_node("Mul", [f"{name}.real", f"{name}.scales"], [last]),
    ]
    if bias is not None:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(bias), f"{name}.bias"))
        nodes.append(helper.make_node("Add", [last, f"{name}.bias"], [output]))
    return nodes, constants


def integer_weight(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (I, O) as int8 levels (I, O) and one scale a column, float32 (O,).

    Examples
    --------
    >>> levels, scale = integer_weight(np.array([[1.0, -2.0], [0.25, 2.0]], dtype=np.float32), 8)
    >>> levels.tolist(), scale.shape
    ([[127, -127], [32, 127]], (2,))
    """
    rows = torch.from_numpy(np.array(weight.T))  # (O, I)
    scale, zero_point = weight_params(rows, bits=bits, granularity="channel")
    levels = quantize(rows, scale, zero_point, bits=bits, symmetric=True)
    return np.ascontiguousarray(levels.to(torch.int8).numpy().T), scale.flatten().numpy()
