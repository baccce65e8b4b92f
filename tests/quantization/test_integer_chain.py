"""Oracle: the standard's reference implementation of each node, 64-bit integers, and torch's GRU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from dca_lab.deploy import Session, save_onnx
from dca_lab.quantization._integer_chain import integer_chain, integer_weight, quantize_input
from dca_lab.quantization._onnx_gru import quantize_grus


def chain_model(weight, bias, bits):
    """y = x @ weight + bias as a graph of its own."""
    node, levels = quantize_input("x")
    nodes, constants = integer_chain(levels, weight, bias, "y", name="fc", bits=bits)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in zip("xy", weight.shape, strict=True)
    ]
    graph = helper.make_graph([node, *nodes], "chain", values[:1], values[1:], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(2, 8),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_chain_is_a_product_of_rounded_factors(inputs, outputs, rows, bits, bias, seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(inputs, outputs)).astype(np.float32)
    b = rng.normal(size=outputs).astype(np.float32) if bias else None
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    got = ReferenceEvaluator(chain_model(weight, b, bits)).run(None, {"x": x})[0]
    levels, scale = integer_weight(weight, bits)
    assert levels.dtype == np.int8 and abs(levels.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert (np.abs(levels * scale - weight) <= 0.5 * scale * (1 + 1e-6)).all()
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255  # x moves by half a step, or a whole one at the ends
    want = x @ (levels * scale).astype(np.float32) + (0 if b is None else b)
    assert (np.abs(got - want) <= step * np.abs(levels * scale).sum(0) * 1.001 + 1e-5).all()


@pytest.mark.parametrize("bias", [True, False])
def test_the_runtime_computes_what_the_standard_says(bias, tmp_path):
    rng = np.random.default_rng(1)
    model = chain_model(
        rng.normal(size=(64, 16)).astype(np.float32),
        rng.normal(size=16).astype(np.float32) if bias else None,
        7,
    )
    x = rng.normal(size=(8, 64)).astype(np.float32)
    session = Session(save_onnx(model, tmp_path / "chain.onnx"))
    assert session.node_types() == {"DynamicQuantizeMatMul": 1}  # all of it in one kernel
    want = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(session(torch.from_numpy(x)).numpy(), want, rtol=1e-5, atol=1e-5)


def gru_model(direction, inputs=3, hidden=8, **settings):
    """One GRU node, and the weights it has."""
    rng = np.random.default_rng(0)
    D = 2 if direction == "bidirectional" else 1
    shapes = {"W": (D, 3 * hidden, inputs), "R": (D, 3 * hidden, hidden), "B": (D, 6 * hidden)}
    constants = [
        helper.make_tensor(
            name, TensorProto.FLOAT, shape, rng.normal(size=shape).astype(np.float32).tobytes(), raw=True
        )
        for name, shape in shapes.items()
    ]
    given_settings = {"hidden_size": hidden, "linear_before_reset": 1, "direction": direction} | settings
    node = helper.make_node("GRU", ["x", "W", "R", "B", "", "h"], ["states", "last"], **given_settings)
    make = helper.make_tensor_value_info
    values = [make("x", 1, ["T", "B", inputs]), make("h", 1, [D, "B", hidden])]
    results = [make("states", 1, ["T", D, "B", hidden]), make("last", 1, [D, "B", hidden])]
    graph = helper.make_graph([node], "gru", values, results, constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), D


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_the_loop_is_the_gru_node_of_the_standard(direction, tmp_path):
    model, D = gru_model(direction)
    x, h = torch.randn(5, 2, 3), torch.randn(D, 2, 8)
    plain = Session(save_onnx(model, tmp_path / "float.onnx"))(x, h)
    assert quantize_grus(model) == 1
    loop = Session(save_onnx(model, tmp_path / "int8.onnx"))
    assert loop.node_types()["Scan"] == D and "GRU" not in loop.node_types()
    for mine, want in zip(loop(x, h), plain, strict=True):
        assert mine.shape == want.shape and (mine - want).norm() < 0.05 * want.norm()


@pytest.mark.parametrize("settings", [{"linear_before_reset": 0}, {"clip": 3.0}])
def test_other_grus_are_left_alone(settings):
    model, _ = gru_model("forward", **settings)
    assert quantize_grus(model) == 0 and [node.op_type for node in model.graph.node] == ["GRU"]
