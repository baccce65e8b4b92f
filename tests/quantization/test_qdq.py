"""Oracle: the integer reference, step by step. 7-bit weights, so that every processor adds exactly."""

import tempfile

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_networks import SHAPES, network
from torch import nn

from dca_lab.deploy import Session
from dca_lab.measure import size_on_disk
from dca_lab.quantization.integer import integer_step
from dca_lab.quantization.qdq import qdq_model, write_qdq
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.steps import Step

FLOAT_NODES = {
    "Conv",
    "FusedConv",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "Relu",
    "HardSwish",
    "HardSigmoid",
    "Sigmoid",
}
FLOAT_NODES |= {
    "LeakyRelu",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "DequantizeLinear",
    "FusedMatMul",
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_tensor_is_that_of_the_integer_reference(name, tmp_path, record_property):
    model, x = network(name)
    static = quantize_static(model, x[:32], reduce_range=True, observer="minmax")
    grids = {key: grid for key, grid in static.grids.items() if grid is not None}
    result, *levels = Session(write_qdq(static, tmp_path / "all.onnx", every=True))(x)
    ran = dict(zip(grids, levels, strict=True))
    reference, simulated = static.integers(x, every=True), static.simulate(x, every=True)
    assert torch.equal(ran["input"], reference["input"])
    for step in static.steps:  # each step, from what ONNX Runtime gave it: no error is inherited
        inputs = [ran[source] for source in step.inputs]
        mine = integer_step(step, inputs, static.sources(step))
        if step.grid is not None:
            assert (mine.int() - ran[step.name].int()).abs().max() <= 1, step.name
        elif step is static.steps[-1]:
            torch.testing.assert_close(result, static.real(step.name, mine), rtol=1e-5, atol=1e-6)
    # from the input to the end: an early difference of one level travels, and stays rare
    pairs = {
        key: (ran[key].int(), reference[key].int(), grids[key].quantize(simulated[key]).int())
        for key in grids
    }
    total = sum(a.numel() for a, _, _ in pairs.values())
    by_runtime = sum(int((a != b).sum()) for a, b, _ in pairs.values()) / total
    by_simulation = sum(int((c != b).sum()) for _, b, c in pairs.values()) / total
    record_property("share that differs from the integers", (by_runtime, by_simulation))
    assert by_runtime < 0.01 and by_simulation < 0.01
    logits = static.integers(x)
    for other in (result, static.simulate(x)):
        assert (other - logits).norm() < 0.005 * logits.norm()


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("lenet-300", {"QGemm": 3}),
        ("lenet-5", {"QLinearConv": 2, "QGemm": 2}),
        ("small-cnn", {"QLinearConv": 2, "QGemm": 1}),
        ("resnet-18", {"QLinearConv": 20, "QLinearAdd": 8, "QLinearGlobalAveragePool": 1, "QGemm": 1}),
        ("hard-swish", {"QLinearConv": 3, "QLinearAdd": 1, "GatherElements": 3, "QGemm": 1}),
        ("branches", {"QLinearConv": 4, "QLinearAveragePool": 1, "QGemm": 1}),
        ("dense", {"QLinearConv": 1, "ConvInteger": 1}),
        ("tokens", {"QGemm": 2}),
    ],
)
def test_integer_kernels_run_and_float_ones_do_not(name, kernels, tmp_path):
    model, x = network(name)
    types = Session(
        write_qdq(quantize_static(model, x, observer="minmax"), tmp_path / "int8.onnx")
    ).node_types()
    assert {key: types.get(key, 0) for key in kernels} == kernels
    assert not FLOAT_NODES & set(types)
    assert types["QuantizeLinear"] == 1  # the input, and nothing else


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_narrow_grids(bits, tmp_path):
    """Fewer levels than a byte has: the clamp is a node of its own."""
    model, x = network("branches")
    static = quantize_static(model, x, activation_bits=bits, reduce_range=True, observer="minmax")
    grids = [key for key, grid in static.grids.items() if grid is not None]
    _, *levels = Session(write_qdq(static, tmp_path / "all.onnx", every=True))(x)
    reference = static.integers(x, every=True)
    for key, ran in zip(grids, levels, strict=True):
        assert ran.max() <= 2**bits - 1
        assert (ran.int() - reference[key].int()).abs().max() <= 1, key


@pytest.mark.parametrize("name", ["lenet-300", "lenet-5", "small-cnn"])
def test_the_file_is_a_quarter(name, tmp_path):
    model, x = network(name)
    static = quantize_static(model, x[:8], observer="minmax")
    assert Session(write_qdq(static, tmp_path / "int8.onnx")).bytes <= 0.27 * size_on_disk(model)


def test_weights_are_stored_as_bytes_and_activations_are_unsigned(tmp_path):
    model, x = network("branches")
    proto = qdq_model(quantize_static(model, x, observer="minmax"))
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    assert constants["a.weight"].data_type == onnx.TensorProto.INT8
    assert list(constants["a.weight_scale"].dims) == [6]
    assert constants["a.bias"].data_type == onnx.TensorProto.INT32
    quantizers = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert {constants[node.input[2]].data_type for node in quantizers} == {onnx.TensorProto.UINT8}


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([0, 1, (2, 1), "same"]),
    st.integers(1, 3),
)
def test_a_first_convolution_may_be_unfolded(kernel, stride, dilation, padding, channels):
    """One or two channels are unfolded into a 1 x 1 convolution, three are not; no element may tell."""
    stride = 1 if padding == "same" else stride
    conv = nn.Conv2d(channels, 4, kernel, stride=stride, dilation=dilation, padding=padding)
    x = torch.rand(6, channels, 9, 8) - 0.3
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(model(x).shape[1], 2))
    static = quantize_static(model, x, reduce_range=True, observer="minmax")
    with tempfile.TemporaryDirectory() as folder:
        session = Session(write_qdq(static, f"{folder}/all.onnx", every=True))
    ran, reference = (
        session(x)[2],
        static.integers(x, every=True)[static.steps[0].name],
    )  # result, input, conv, ...
    assert ran.shape == reference.shape
    difference = (ran.int() - reference.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.05
    assert ("Slice" in session.node_types()) == (channels < 3)


def test_any_batch(tmp_path):
    model, x = network("small-cnn")
    session = Session(
        write_qdq(quantize_static(model, x, reduce_range=True, observer="minmax"), tmp_path / "int8.onnx")
    )
    whole = session(x)
    for batch in (1, 3):
        torch.testing.assert_close(session(x[:batch]), whole[:batch], rtol=1e-6, atol=1e-6)


def test_bad_input(tmp_path):
    model, x = network("ends")
    static = quantize_static(model, x, observer="minmax")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        write_qdq(static, tmp_path / "absent" / "int8.onnx")
    last = static.steps[-1]
    static.steps[-1] = Step(last.name, "fourier", last.inputs, last.grid)
    static.simulate = lambda x, every: {"input": x, **{step.name: x for step in static.steps}}
    with pytest.raises(ValueError, match="no ONNX form of 'fourier'"):
        write_qdq(static, tmp_path / "int8.onnx")
    assert list(tmp_path.iterdir()) == []
