"""A GRU in int8 for ONNX Runtime, which has no such operator: a ``Scan`` over time around two integer products.

    gates_x = x @ W + b             one product for the whole sequence, before the loop
    loop: gates_h = h @ R + c       quantized at each step
          z, r = sigmoid(gates_x + gates_h),   n = tanh(n_x + r * n_h),   h = n + z * (h - n)

What is saved is the reading of R, three matrices a step; what is lost is the fusion of the gates, about ten
small operators a step now. It is *not* the ``GRU`` operator unrolled: the body exists once, and the file does
not grow with the sequence.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ._integer_chain import Parts, integer_chain, quantize_input
from ._onnx_rewrite import drop_unused, exchange, fold_constants


def quantize_grus(model: onnx.ModelProto, *, bits: int = 8) -> int:
    """Exchange every GRU with constant weights for a loop of integer products, in place; returns how many."""
    fold_constants(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = [node for node in model.graph.node if _is_ours(node, constants)]
    for node in found:
        exchange(model, [node], *_loops(node, constants, bits))
    drop_unused(model)
    return len(found)


def _is_ours(node: onnx.NodeProto, constants: dict) -> bool:
    """A GRU as torch exports it: reset after the product, a first state, no lengths."""
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    inputs = [*node.input, *[""] * (6 - len(node.input))]
    return (
        node.op_type == "GRU"
        and all(name in constants for name in inputs[1:3])
        and (not inputs[3] or inputs[3] in constants)
        and not inputs[4]
        and bool(inputs[5])
        and settings.get("linear_before_reset", 0) == 1
        and not settings.get("layout", 0)
        and not {"activations", "clip"} & set(settings)
    )


def _loops(node: onnx.NodeProto, constants: dict, bits: int) -> Parts:
    """The nodes and constants in the place of one GRU node: a loop for each direction."""
    x, W, R, B, _, first = node.input
    weights = constants[W], constants[R]  # (directions, 3 H, I) and (directions, 3 H, H), gates z, r, n
    biases = constants.get(B, np.zeros((len(weights[0]), 2 * weights[0].shape[1]), np.float32))
    direction = next((a.s.decode() for a in node.attribute if a.name == "direction"), "forward")
    name = f"gru.{next(output for output in node.output if output)}"
    quantizer, levels = quantize_input(x)
    nodes, new, states, last = [quantizer], [], [], []
    for d in range(len(weights[0])):
        mine = f"{name}.{d}"
        b, c = np.split(biases[d], 2)
        products = integer_chain(levels, weights[0][d].T, b, f"{mine}.gates_x", name=f"{mine}.W", bits=bits)
        index = numpy_helper.from_array(np.array(d), f"{mine}.index")
        backward = int(direction == "reverse" or d == 1)
        nodes += products[0]
        nodes.append(helper.make_node("Gather", [first, f"{mine}.index"], [f"{mine}.first"], axis=0))
        loop = helper.make_node(
            "Scan",
            [f"{mine}.first", f"{mine}.gates_x"],
            [f"{mine}.last", f"{mine}.states"],
            body=_body(weights[1][d].T, c, mine, bits),
            num_scan_inputs=1,
            scan_input_directions=[backward],
            scan_output_directions=[backward],
        )
        nodes.append(loop)
        new += [*products[1], index]
        states.append(f"{mine}.states")  # (T, B, H)
        last.append(f"{mine}.last")  # (B, H)
    for names, axis, output in zip((states, last), (1, 0), node.output, strict=False):
        if output:  # the standard puts the directions in front of the batch
            at = numpy_helper.from_array(np.array([axis]), f"{name}.axis{axis}")
            new.append(at)
            parts = [f"{each}.one" for each in names]
            for each, part in zip(names, parts, strict=True):
                nodes.append(helper.make_node("Unsqueeze", [each, at.name], [part]))
            nodes.append(helper.make_node("Concat", parts, [output], axis=axis))
    return nodes, new


def _body(R: np.ndarray, bias: np.ndarray, name: str, bits: int) -> onnx.GraphProto:
    """One step of time: (h, gates_x) -> (h, h)."""
    H = len(R)
    quantizer, levels = quantize_input("h")
    chain, constants = integer_chain(levels, R, bias, "gates_h", name="R", bits=bits)
    constants.append(numpy_helper.from_array(np.array([2 * H, H]), "parts"))
    make = helper.make_node
    nodes = [
        quantizer,
        *chain,
        make("Split", ["gates_x", "parts"], ["zr_x", "n_x"], axis=1),
        make("Split", ["gates_h", "parts"], ["zr_h", "n_h"], axis=1),
        make("Add", ["zr_x", "zr_h"], ["zr_sum"]),
        make("Sigmoid", ["zr_sum"], ["zr"]),
        make("Split", ["zr"], ["z", "r"], axis=1, num_outputs=2),
        make("Mul", ["r", "n_h"], ["n_reset"]),
        make("Add", ["n_x", "n_reset"], ["n_sum"]),
        make("Tanh", ["n_sum"], ["n"]),
        make("Sub", ["h", "n"], ["old"]),
        make("Mul", ["z", "old"], ["kept"]),
        make("Add", ["n", "kept"], ["next"]),
        make("Identity", ["next"], ["state"]),
    ]

    def value(key: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(key, TensorProto.FLOAT, ["batch", size])

    inputs, outputs = [value("h", H), value("gates_x", 3 * H)], [value("next", H), value("state", H)]
    for node in nodes:  # a body shares the names of the graph around it: keep them apart
        node.input[:] = [f"{name}.{key}" for key in node.input]
        node.output[:] = [f"{name}.{key}" for key in node.output]
    for part in (*inputs, *outputs, *constants):
        part.name = f"{name}.{part.name}"
    return helper.make_graph(nodes, name, inputs, outputs, constants)
