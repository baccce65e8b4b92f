"""Packed weights multiplied as they are: a model with int4 layers as an ONNX file for ONNX Runtime.

    y[o] = sum_groups scale[o, g] * sum_{i in g} x[i] (code[o, i] - zero_point[o, g])

ONNX has no matrix product with 4-bit weights in groups; ONNX Runtime has one of its own, ``MatMulNBits`` in the
domain ``com.microsoft``. It reads the same bytes that `packing.pack` writes, so at batch 1, where reading the weights
is the work, it has an eighth of it to do. `accuracy_level` says in what the products are computed:

    0, 1   float32: the codes are unpacked in registers; equal to `PackedLinear` up to the order of the sums
    4      int8: each group of activations is rounded to int8 first, then integers are multiplied; faster,
           and the rounding of x (half a percent, typically) is added to that of the weights

Bits: 2, 4 and 8; groups of 16, 32, 64, ... inputs. Not every pair has a fast kernel: ONNX Runtime 1.32 runs 2 bits fast
at level 4 in groups of 32, 64 or 128 only, and elsewhere more slowly than float. There is no kernel for 3 bits: int3 is
a format for the file here, and runs unpacked. Long inputs (many rows of x for one weight) gain little or nothing, for
the weights are then read once and used many times. It is *not* portable ONNX: few other run-times know the operator.

ONNX Runtime, "Contrib Operators: com.microsoft.MatMulNBits" (docs/ContribOperators.md).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from dca_lab.deploy import Session, export_onnx, save_onnx

from ._onnx_rewrite import Product, drop_unused, products, replace
from .group_weights import GroupWeights
from .packed_linear import PackedLinear
from .packing import pack
from .weight_only import dequantize_weights

_DOMAIN = "com.microsoft"


def export_int4(
    model: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    path: str | Path,
    *,
    accuracy_level: int = 4,
    threads: int = 1,
) -> Session:
    """Write a model with packed layers as an ONNX file whose products read the packed codes.

    Parameters
    ----------
    model : nn.Module
        What `weight_only.quantize_weights` returned; layers of 2, 4 or 8 bits. Not changed. Layers that are
        not packed stay float.
    example_input : Tensor or tuple of Tensor
        One valid input, the batch in front; its size stays open.
    path : str or Path
        The file; an older one is replaced.
    accuracy_level : int
        4 for int8 products, 0 or 1 for float32.
    threads : int
        Threads of the returned session.

    Returns
    -------
    Session

    Raises
    ------
    ValueError
        When the model has no packed layer, ONNX Runtime has no kernel for a layer's bits or group size (the text
        names the layer), or the model cannot be exported.
    FileNotFoundError
        When the folder of `path` does not exist.

    Examples
    --------
    >>> from dca_lab.quantization.weight_only import quantize_weights
    >>> model = quantize_weights(nn.Sequential(nn.Linear(128, 8), nn.ReLU()), bits=4, group_size=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = export_int4(model, torch.zeros(1, 128), f"{folder}/int4.onnx")
    >>> session(torch.zeros(5, 128)).shape, session.node_types()["MatMulNBits"]
    (torch.Size([5, 8]), 1)
    """
    if accuracy_level not in (0, 1, 4):
        raise ValueError(f"accuracy_level={accuracy_level!r}: 0 or 1 for float32 products, 4 for int8")
    layers = {name: each for name, each in model.named_modules() if isinstance(each, PackedLinear)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no PackedLinear: call quantize_weights first")
    for name, layer in layers.items():
        _check(name, layer)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        export_onnx(dequantize_weights(model), example_input, file)
        proto = onnx.load(file)
    # The exporter renames and transposes weights, but it does not change them: their values tell which is which.
    floats = {name: layer.weight.numpy() for name, layer in layers.items()}
    replaced = set()
    for product in products(proto):
        same = [name for name, weight in floats.items() if np.array_equal(weight.T, product.weight)]
        if same:
            nodes, constants = _node(product, layers[same[0]].weights(), accuracy_level)
            replace(proto, product, nodes, constants)
            replaced.update(same)
    if lost := sorted(layers.keys() - replaced):
        raise ValueError(f"no product of the exported graph has the weights of {lost}: are the layers used?")
    drop_unused(proto)
    proto.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return Session(save_onnx(proto, path), threads=threads)


def _check(name: str, layer: PackedLinear) -> None:
    if layer.bits not in (2, 4, 8):
        raise ValueError(
            f"layer {name!r} has {layer.bits} bits: ONNX Runtime multiplies weights of 2, 4 and 8 bits; "
            "PackedLinear runs the others"
        )
    size = layer.group_size
    if size < layer.in_features and (size < 16 or size & (size - 1)):
        raise ValueError(
            f"layer {name!r} has groups of {size}: ONNX Runtime wants a power of two from 16, or a whole row"
        )


def _node(
    product: Product,
    weights: GroupWeights,
    accuracy_level: int,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes and constants that compute the product from packed codes."""
    rows, inputs = weights.codes.shape
    # A single group of any length is a block that ends beyond the row.
    block = weights.group_size
    block = block if block < inputs else max(16, 1 << (inputs - 1).bit_length())
    codes = F.pad(weights.codes, (0, -inputs % block)).view(rows, -1, block)  # (O, G, g)
    packed = pack(codes, weights.bits).view(rows, codes.shape[1], -1)
    zeros = torch.cat(
        [pack(row, weights.bits) for row in weights.zero_point]
    )  # each row ends with a whole byte
    tensors = {"codes": packed, "scale": weights.scale.float().flatten(), "zero_point": zeros}
    constants = [numpy_helper.from_array(t.numpy(), f"{product.name}.{key}") for key, t in tensors.items()]
    nodes, x = [], product.input
    if weights.input_scale is not None:  # the kernel knows no scale of the inputs: they are divided before
        constants.append(
            numpy_helper.from_array(weights.input_scale.float().numpy(), f"{product.name}.input_scale")
        )
        x = f"{product.name}.scaled_input"
        nodes.append(helper.make_node("Div", [product.input, constants[-1].name], [x]))
    given = [x, *(f"{product.name}.{key}" for key in tensors)]
    if product.bias is not None:
        constants.append(numpy_helper.from_array(product.bias, f"{product.name}.bias"))
        given += ["", constants[-1].name]  # the empty name is an optional input that is not used
    node = helper.make_node(
        "MatMulNBits",
        given,
        [product.output],
        domain=_DOMAIN,
        K=inputs,
        N=rows,
        bits=weights.bits,
        block_size=block,
        accuracy_level=accuracy_level,
    )
    return [*nodes, node], constants
