"""Dynamic quantization that runs fast: the products of an exported network become integer products in ONNX.

    x -> DynamicQuantizeLinear -> MatMulInteger (int8 weights) -> Cast -> Mul (scales) -> Add (bias)

in the place of each ``MatMul`` or ``Gemm`` with a constant matrix. On loading, ONNX Runtime fuses the chain
(``MatMulIntegerToFloat``, or ``DynamicQuantizeMatMul`` where one product alone reads the levels). Layers that read the
same tensor, as q, k and v do, share its levels. The weights are those of `dynamic.quantize_dynamic`, one scale
an output; the activations' scale is ONNX's, one a tensor: DynamicQuantizeLinear, ONNX operator set 11.

ONNX Runtime has no GRU operator in int8. There is one for LSTM, `DynamicQuantizeLSTM`; a GRU is written as a
``Scan``, a loop over time whose body holds the chain above and the gates in float (`_onnx_gru`).

What this is *not*: static. Reading the range off each tensor costs a pass over it, so the products must be
large for this to pay, and convolutions stay in float.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from torch import Tensor, nn

from dca_lab.deploy import Session, save_onnx, trace_onnx
from dca_lab.files import require_folder

from . import _processor
from ._integer_chain import integer_chain, quantize_input
from ._onnx_gru import quantize_grus
from ._onnx_rewrite import drop_unused, products, replace


def export_dynamic(
    model: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    path: str | Path,
    *,
    recurrent: bool = True,
    reduce_range: bool | None = None,
    threads: int = 1,
) -> Session:
    """Write a float network as an ONNX file whose linear and recurrent layers multiply in int8, and open it.

    Parameters
    ----------
    model : nn.Module
        A float network; left untouched.
    example_input : Tensor or tuple of Tensor
        One valid input, the batch in front. No calibration data are needed.
    path : str or Path
        The file, in a folder that exists. It is there whole or not at all.
    recurrent : bool
        GRU layers too. They become a loop of small operators in the place of one float operator: with some
        hundred hidden units that is faster, with few of them and a batch of one it is several times slower.
    reduce_range : bool, optional
        Weights of 7 bits. By default only where the processor needs it: x86 without VNNI.
    threads : int
        Of the session.

    Returns
    -------
    Session

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If the model cannot be traced, has no linear layer, or has weights that are not finite.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session = export_dynamic(nn.Linear(64, 8), torch.zeros(1, 64), f"{folder}/int8.onnx")
    >>> session(torch.ones(5, 64)).shape, session.node_types()
    (torch.Size([5, 8]), {'DynamicQuantizeMatMul': 1})
    """
    path = require_folder(path)
    graph = trace_onnx(model, example_input)
    narrow = _processor.wants_reduced_range() if reduce_range is None else bool(reduce_range)
    bits = 7 if narrow else 8
    count = quantize_grus(graph, bits=bits) if recurrent else 0
    count += quantize_products(graph, bits=bits)
    if not count:
        raise ValueError(f"{type(model).__name__} has no linear or recurrent layer to quantize")
    return Session(save_onnx(graph, path), threads=threads)


def quantize_products(graph: onnx.ModelProto, *, bits: int = 8) -> int:
    """Exchange every product with a constant matrix for an integer one, in place.

    Parameters
    ----------
    graph : onnx.ModelProto
        float32.
    bits : int
        Of the weights, 2 to 8; they take a byte each.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    ValueError
        If a weight is not finite.

    Examples
    --------
    >>> import torch
    >>> graph = trace_onnx(nn.Linear(4, 3, bias=False), torch.zeros(1, 4))
    >>> quantize_products(graph), [node.op_type for node in graph.graph.node]
    (1, ['DynamicQuantizeLinear', 'MatMulInteger', 'Cast', 'Mul', 'Mul'])
    """
    found = products(graph)
    levels: dict[str, list[str]] = {}  # of the tensors that are quantized already
    for product in found:
        first = []
        if product.input not in levels:
            node, levels[product.input] = quantize_input(product.input)
            first = [node]
        chain, constants = integer_chain(
            levels[product.input], product.weight, product.bias, product.output, name=product.name, bits=bits
        )
        replace(graph, product, first + chain, constants)
    drop_unused(graph)
    return len(found)
