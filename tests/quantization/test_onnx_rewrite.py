"""Oracle: the standard's reference implementation runs the graph before and after."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dca_lab.quantization._onnx_rewrite import drop_unused, exchange, fold_constants, products, replace

GRAPH = """<ir_version: 10, opset_import: ["": 20]>
g (float[batch, 2, 3] x, float[2, 2] u) => (float[batch, 2, 2] y, float[batch, 2, 2] v, float[2, 2] s)
<float[3, 2] W = {1, 2, 3, 4, 5, 6}, float[2] b = {10, 20}, float[1] k = {2}>
{
    a = MatMul(x, W)
    y = Add(b, a)
    c = MatMul(x, W)
    v = Mul(c, k)
    s = Gemm<transB = 1>(u, u)
}"""


@pytest.fixture
def graph():
    """A bias in front of the sum, one matrix used twice, and a product of two activations."""
    return onnx.parser.parse_model(GRAPH)


def run(model):
    """The outputs on fixed inputs."""
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    return ReferenceEvaluator(model).run(None, {"x": x, "u": x[0, :, :2]})


def test_products_are_found_in_one_form(graph):
    first, second = products(graph)
    assert (first.input, first.output, first.weight.shape, first.bias.tolist()) == (
        "x",
        "y",
        (3, 2),
        [10, 20],
    )
    assert (second.output, second.bias) == ("c", None)
    assert first.name == "W" and second.name != "W"


def test_replaced_products_leave_the_rest_as_it_was(graph):
    before = run(graph)
    for product in products(graph):
        weight = numpy_helper.from_array(product.weight, f"{product.name}.new")
        last = product.output if product.bias is None else f"{product.name}.sum"
        nodes = [helper.make_node("MatMul", [product.input, weight.name], [last])]
        constants = [weight]
        if product.bias is not None:
            constants.append(numpy_helper.from_array(product.bias, "bias.new"))
            nodes.append(helper.make_node("Add", [last, "bias.new"], [product.output]))
        replace(graph, product, nodes, constants)
    drop_unused(graph)
    onnx.checker.check_model(graph, full_check=True)
    assert {tensor.name for tensor in graph.graph.initializer} & {"W", "b"} == set()
    for a, b in zip(run(graph), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "found"),
    [("transB = 1", 1), ("transB = 0", 1), ("transA = 1", 0), ("alpha = 2.0", 0), ("beta = 0.5", 0)],
)
def test_gemm(settings, found):
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 20]>
        g (float[2, 2] u) => (float[2, 2] y) <float[2, 2] W = {{1, 2, 3, 4}}, float[2] b = {{5, 6}}>
        {{ y = Gemm<{settings}>(u, W, b) }}""")
    products_found = products(model)
    assert len(products_found) == found
    for product in products_found:
        u = np.array([[1, 2], [3, 4]], dtype=np.float32)
        np.testing.assert_array_equal(
            u @ product.weight + product.bias, ReferenceEvaluator(model).run(None, {"u": u})[0]
        )


def test_constants_are_folded(graph):
    constants = [numpy_helper.from_array(np.array([1, 0]), "turned")]
    turn = helper.make_node("Transpose", ["W"], ["W_T"], perm=[1, 0])
    back = helper.make_node("Transpose", ["W_T"], ["W_TT"], perm=[1, 0])
    product = helper.make_node("MatMul", ["x", "W_TT"], ["c"])
    old = next(node for node in graph.graph.node if node.output[0] == "c")
    before = run(graph)
    exchange(graph, [old], [turn, back, product], constants)
    assert len(products(graph)) == 1
    fold_constants(graph)
    drop_unused(graph)
    assert "Transpose" not in {node.op_type for node in graph.graph.node} and len(products(graph)) == 2
    for a, b in zip(run(graph), before, strict=True):
        np.testing.assert_array_equal(a, b)
