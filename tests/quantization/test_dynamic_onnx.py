"""Oracle: the integer reference in torch, and ONNX Runtime's own dynamic quantization."""

import copy
import logging

import onnx
import pytest
import torch
from onnxruntime.quantization import QuantType
from onnxruntime.quantization import quantize_dynamic as peer_quantize
from torch import nn

from dca_lab.deploy import Session, save_onnx, trace_onnx
from dca_lab.models import TransformerLM
from dca_lab.quantization import _processor, dynamic_onnx
from dca_lab.quantization.dynamic import quantize_dynamic
from dca_lab.quantization.dynamic_onnx import export_dynamic, quantize_products


@pytest.fixture(scope="module")
def language_model():
    """A small transformer, tokens for it, and its float graph."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = TransformerLM(width=32, heads=2, layers=1, context=12).eval()
        tokens = torch.randint(128, (4, 12))
    return model, tokens


@pytest.fixture
def traced(monkeypatch):
    """Tracing takes seconds: each model is traced once, and each export gets a copy of the graph."""
    known = {}

    def once(model, x):
        if model not in known:
            known[model] = trace_onnx(model, x)
        return copy.deepcopy(known[model])

    monkeypatch.setattr(dynamic_onnx, "trace_onnx", once)
    return once


def relative(y, reference):
    """||y - reference|| / ||reference||."""
    return float((y - reference).norm() / reference.norm())


def test_a_transformer_runs_in_int8(language_model, tmp_path, traced):
    model, tokens = language_model
    full = Session(save_onnx(traced(model, tokens), tmp_path / "float.onnx"))
    session = export_dynamic(model, tokens, tmp_path / "int8.onnx", reduce_range=True)
    types = session.node_types()
    # six linear layers and the head; q, k and v read the same levels
    assert types["DynamicQuantizeMatMul"] + types["MatMulIntegerToFloat"] == 7
    assert types["MatMulIntegerToFloat"] == 3 and types["DynamicQuantizeLinear"] == 1
    assert full.node_types()["MatMul"] == types.get("MatMul", 0) + 7  # what stays multiplies two activations
    with torch.no_grad():
        y = model(tokens)
        reference = quantize_dynamic(model, weight_bits=7)(tokens)
    assert relative(session(tokens), y) < 0.03
    # after seven layers the two differ as two roundings do: a value near the middle of two levels went elsewhere
    assert relative(session(tokens), reference) < relative(reference, y)
    assert session.bytes < 0.6 * full.bytes  # embedding, position and norms stay float

    logging.disable(logging.WARNING)  # the peer asks for a pre-processing step that changes nothing here
    peer_quantize(
        tmp_path / "float.onnx",
        tmp_path / "peer.onnx",
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    logging.disable(logging.NOTSET)
    peer = Session(tmp_path / "peer.onnx")
    kernels = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLinear")
    assert [types[key] for key in kernels] == [peer.node_types().get(key, 0) for key in kernels]
    assert relative(session(tokens), y) < 1.5 * relative(peer(tokens), y)


def test_matrices_on_two_axes(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 3, bias=False)).eval()
        x = torch.randn(6, 32)
    session = export_dynamic(model, x, tmp_path / "int8.onnx", reduce_range=True)
    assert session.node_types()["DynamicQuantizeMatMul"] == 2 and "Gemm" not in session.node_types()
    with torch.no_grad():
        reference = quantize_dynamic(model, weight_bits=7)(x)
    assert relative(session(x), reference) < 5e-3


class Recurrent(nn.Module):
    """Gives the states of every step and the last one."""

    def __init__(self, **settings):
        super().__init__()
        self.gru = nn.GRU(5, 16, **settings)

    def forward(self, x):
        return self.gru(x)


@pytest.mark.parametrize(
    "settings",
    [{"batch_first": True}, {"batch_first": True, "bidirectional": True, "num_layers": 2, "bias": False}],
)
def test_a_gru_is_a_loop_of_integer_products(settings, tmp_path, traced):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Recurrent(**settings).eval(), torch.randn(3, 9, 5)
    session = export_dynamic(model, x, tmp_path / "int8.onnx", reduce_range=True)
    types = session.node_types()
    runs = model.gru.num_layers * (1 + model.gru.bidirectional)
    assert types["Scan"] == runs and "GRU" not in types and "MatMul" not in types
    assert types.get("DynamicQuantizeMatMul", 0) + types.get("MatMulIntegerToFloat", 0) == 2 * runs
    with torch.no_grad():
        exact, reference = model(x), quantize_dynamic(model, weight_bits=7)(x)
    for mine, want, plain in zip(session(x), reference, exact, strict=True):
        assert mine.shape == want.shape
        torch.testing.assert_close(
            mine, want, rtol=0, atol=5e-3
        )  # a tie between two levels may fall either way
        assert relative(mine, plain) < 0.03
    with pytest.raises(ValueError, match="no linear or recurrent layer"):
        export_dynamic(model, x, tmp_path / "float.onnx", recurrent=False)


def test_the_processor_decides_on_the_range(monkeypatch, tmp_path, traced):
    layer, x = nn.Linear(8, 4), torch.zeros(1, 8)
    for narrow, largest in ((True, 63), (False, 127)):
        monkeypatch.setattr(_processor, "wants_reduced_range", lambda narrow=narrow: narrow)
        session = export_dynamic(layer, x, tmp_path / "int8.onnx")
        (weight,) = (t for t in onnx.load(session.path).graph.initializer if t.name.endswith(".int8"))
        assert abs(onnx.numpy_helper.to_array(weight).astype(int)).max() == largest


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="ReLU has no linear or recurrent layer"):
        export_dynamic(nn.ReLU(), torch.zeros(1, 3), tmp_path / "m.onnx")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        export_dynamic(nn.Linear(3, 2), torch.zeros(1, 3), tmp_path / "absent" / "m.onnx")
    broken = nn.Linear(3, 2)
    with torch.no_grad():
        broken.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN|finite"):
        export_dynamic(broken, torch.zeros(1, 3), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_other_layers_has_no_product():
    graph = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[b, 2] x, float[2, 2] u) => (float[b, 2] y) { a = MatMul(x, u) y = Relu(a) }""")
    assert quantize_products(graph) == 0 and [node.op_type for node in graph.graph.node] == ["MatMul", "Relu"]
