"""Oracle: the steps' integers; what a processor can do is injected."""

import pytest
import torch
from int8_networks import network
from torch import nn

from dca_lab import hardware
from dca_lab.measure import latency
from dca_lab.quantization import _processor
from dca_lab.quantization.export import export_int8
from dca_lab.quantization.graph import QuantizationError
from dca_lab.quantization.static import quantize_static
from dca_lab.training import evaluate


@pytest.fixture
def old(monkeypatch):
    """An x86 processor without VNNI."""
    monkeypatch.setattr(_processor, "has_vnni", lambda: False)
    monkeypatch.setattr(_processor, "is_x86", lambda: True)


@pytest.fixture
def new(monkeypatch):
    """A processor that adds in 32 bits."""
    monkeypatch.setattr(_processor, "has_vnni", lambda: True)


def largest(session):
    """The largest weight in the file."""
    import onnx

    constants = onnx.load(session.path).graph.initializer
    return max(
        abs(onnx.numpy_helper.to_array(t).astype(int)).max() for t in constants if t.name.endswith(".weight")
    )


def test_it_is_a_model_that_runs_in_integers(tmp_path):
    model, x = network("small-cnn")
    session = export_int8(model, x.split(8), tmp_path / "int8.onnx", reduce_range=True, observer="minmax")
    with torch.no_grad():
        y = model(x)
    assert (session(x) - y).norm() < 0.1 * y.norm()
    assert evaluate(session, x, session(x).argmax(1)) == 1.0
    assert latency({"int8": session, "float": model}, x[:1], repeats=2).median("int8") > 0
    assert session.node_types()["QLinearConv"] == 2 and session.threads == 1


def test_a_static_model_is_written_as_it_is(tmp_path, new):
    model, x = network("branches")
    static = quantize_static(model, x, reduce_range=True)
    session = export_int8(static, None, tmp_path / "int8.onnx", threads=2)
    torch.testing.assert_close(session(x), static.integers(x), rtol=0.01, atol=0.005)
    assert session.threads == 2
    with pytest.raises(ValueError, match="leave out observer, calibration"):
        export_int8(static, x, tmp_path / "other.onnx", observer="minmax")
    with pytest.raises(ValueError, match="'a' have 8 bits"):
        export_int8(quantize_static(model, x), None, tmp_path / "other.onnx", reduce_range=True)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_processor_decides_on_the_range(tmp_path, old, recwarn):
    model, x = network("tokens")
    assert largest(export_int8(model, x, tmp_path / "a.onnx")) == 63
    assert largest(export_int8(model, x, tmp_path / "b.onnx", reduce_range=False)) == 127
    assert not recwarn.list
    with pytest.warns(RuntimeWarning, match="saturate on this processor"):
        export_int8(quantize_static(model, x), None, tmp_path / "c.onnx")


def test_where_sums_are_exact_eight_bits_are_used(tmp_path, new, recwarn):
    model, x = network("tokens")
    assert largest(export_int8(model, x, tmp_path / "a.onnx")) == 127
    assert largest(export_int8(model, x, tmp_path / "b.onnx", reduce_range=True)) == 63
    export_int8(quantize_static(model, x), None, tmp_path / "c.onnx")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("sets", "exact"),
    [
        (("avx2", "fma"), False),
        (("avx512bw", "avx512f"), False),
        (("avx2", "avx_vnni"), True),
        (("avx512_vnni",), True),
        (("amx_int8",), True),
    ],
)
def test_vnni_is_detected(sets, exact, monkeypatch):
    monkeypatch.setattr(hardware, "instruction_sets", lambda: sets)
    assert _processor.has_vnni.__wrapped__() is exact


@pytest.mark.parametrize(
    ("x86", "vnni", "narrow"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_old_x86_needs_seven_bits(x86, vnni, narrow, monkeypatch):
    monkeypatch.setattr(_processor, "has_vnni", lambda: vnni)
    monkeypatch.setattr(_processor, "is_x86", lambda: x86)
    assert _processor.wants_reduced_range() is narrow


@pytest.mark.parametrize(
    ("model", "calibration", "path", "error", "message"),
    [
        (nn.Linear(3, 2), torch.zeros(0, 3), "m.onnx", QuantizationError, None),
        (nn.Linear(3, 2), [], "m.onnx", QuantizationError, None),
        (nn.Linear(3, 2), None, "m.onnx", QuantizationError, "calibration is None"),
        (nn.Linear(3, 2), torch.full((4, 3), float("nan")), "m.onnx", QuantizationError, None),
        (
            nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)),
            torch.ones(4, 3),
            "m.onnx",
            QuantizationError,
            "'1'",
        ),
        (nn.Linear(3, 2), torch.ones(4, 3), "absent/m.onnx", FileNotFoundError, "absent does not exist"),
    ],
)
def test_bad_input_leaves_no_file(model, calibration, path, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_int8(model, calibration, tmp_path / path)
    assert list(tmp_path.iterdir()) == []
