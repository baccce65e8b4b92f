"""Find the products with a constant matrix in an ONNX graph, and put other nodes in their place.

A linear layer leaves torch as ``Gemm`` (two axes) or as ``MatMul`` and ``Add`` (three). `products` gives both
in one form, y = x @ weight + bias, and `replace` exchanges one of them for nodes of the caller's choice that
read the same input and write the same output. It is *not* a pattern matcher: products of two activations, as
in attention, are left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator


@dataclass(frozen=True, eq=False)
class Product:
    """One linear layer of the graph.

    Attributes
    ----------
    name : str
        Name of the constant that holds the matrix, unique among the products: for new names.
    input, output : str
        Names of the tensors read and written, (..., I) and (..., O).
    weight : ndarray
        float32, (I, O): y = x @ weight + bias.
    bias : ndarray, optional
        float32, (O,).
    nodes : tuple of NodeProto
        What `replace` removes.
    """

    name: str
    input: str
    output: str
    weight: np.ndarray
    bias: np.ndarray | None
    nodes: tuple[onnx.NodeProto, ...]


def products(model: onnx.ModelProto) -> list[Product]:
    """All products of an activation and a constant float32 matrix, in the order of the graph."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    uses: Counter[str] = Counter()
    found = []
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[0] in constants:
            continue
        matrix = constants.get(node.input[1])
        if matrix is None or len(matrix.dims) != 2 or matrix.data_type != onnx.TensorProto.FLOAT:
            continue
        weight, bias, nodes = numpy_helper.to_array(matrix), None, (node,)
        if node.op_type == "Gemm":
            setting = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if setting.get("transA", 0) or setting.get("alpha", 1) != 1 or setting.get("beta", 1) != 1:
                continue
            weight = weight.T if setting.get("transB", 0) else weight
            if len(node.input) > 2 and node.input[2]:
                bias = _vector(constants.get(node.input[2]), weight.shape[1])
                if bias is None:
                    continue
        elif readers[node.output[0]] == 1:
            add = next((n for n in graph.node if node.output[0] in n.input), None)
            if add is not None and add.op_type == "Add":
                other = next((name for name in add.input if name != node.output[0]), None)
                bias = _vector(constants.get(other), weight.shape[1])
                nodes = (node, add) if bias is not None else nodes
        name, uses[matrix.name] = matrix.name, uses[matrix.name] + 1
        name = name if uses[name] == 1 else f"{name}_use{uses[name]}"
        found.append(Product(name, node.input[0], nodes[-1].output[0], weight, bias, nodes))
    return found


def _vector(tensor: onnx.TensorProto | None, length: int) -> np.ndarray | None:
    """The constant as a vector of this length, or None where it is none."""
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or list(tensor.dims) != [length]:
        return None
    return numpy_helper.to_array(tensor)


def replace(
    model: onnx.ModelProto,
    product: Product,
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> None:
    """Put `nodes` where the product was, in place; they must write ``product.output``."""
    exchange(model, product.nodes, nodes, constants)


def exchange(
    model: onnx.ModelProto,
    old: Sequence[onnx.NodeProto],
    new: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> None:
    """Put the nodes `new`, which read what the first of `old` reads, in the place of it; all of `old` goes."""
    graph = model.graph
    outputs = {
        name for node in old for name in node.output if name
    }  # a name is written once: it tells its node
    at = next(i for i, node in enumerate(graph.node) if outputs & set(node.output))
    kept = [node for node in graph.node if not outputs & set(node.output)]
    nodes = [*kept[:at], *new, *kept[at:]]
    del graph.node[:]
    graph.node.extend(nodes)
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in constants if tensor.name not in known)


def fold_constants(model: onnx.ModelProto) -> None:
    """Compute what depends on constants alone and becomes constants by it, in place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type not in _FOLDABLE or not all(name in constants for name in node.input if name):
            kept.append(node)
            continue
        given = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
        ((output, value),) = zip(node.output, _compute(node, given, model.opset_import), strict=True)
        constants[output] = numpy_helper.from_array(np.ascontiguousarray(value), output)
        graph.initializer.append(constants[output])
    nodes = list(kept)
    del graph.node[:]
    graph.node.extend(nodes)


_FOLDABLE = ("Concat", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def _compute(node: onnx.NodeProto, given: dict[str, np.ndarray], opsets: Sequence) -> list[np.ndarray]:
    """What the node makes of its inputs, by the standard's own reference implementation."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in given.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=list(opsets))).run(None, given)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove constants that no node reads and notes on tensors that are gone, in place."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
