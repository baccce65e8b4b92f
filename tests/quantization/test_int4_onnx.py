"""ONNX Runtime on the packed codes against `PackedLinear`, which multiplies the unpacked weights in float."""

import onnx
import pytest
import torch
from torch import nn

from dca_lab.models import TransformerLM
from dca_lab.quantization.int4_onnx import export_int4
from dca_lab.quantization.weight_only import quantize_groupwise, quantize_weights, replace_linears

CASES = [
    (bits, group_size, symmetric)
    for bits in (2, 4, 8)
    for group_size in (16, 32, 64, 128, None)
    for symmetric in (False, True)
]


def off(ours, oracle):
    """||y - y'|| / ||y'||."""
    return float((ours - oracle).norm() / oracle.norm())


class Side(nn.Module):
    """Many layers on one input, side by side: (B, 96) -> (B, cases, 7). One export serves them all."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(96, 7, bias=i % 3 > 0) for i in range(len(CASES)))

    def forward(self, x):
        return torch.stack([layer(x) for layer in self.layers], dim=1)


@pytest.fixture(scope="module")
def side():
    model = Side().eval()
    weights = {
        f"layers.{i}": quantize_groupwise(
            model.layers[i].weight, bits=bits, group_size=group_size, symmetric=symmetric
        )
        for i, (bits, group_size, symmetric) in enumerate(CASES)
    }
    return replace_linears(model, weights)


@pytest.mark.parametrize(("accuracy_level", "bound"), [(0, 1e-5), (1, 1e-5), (4, 0.05)])
def test_each_width_group_and_kind_of_grid_equals_the_packed_layer(tmp_path, side, accuracy_level, bound):
    session = export_int4(side, torch.zeros(1, 96), tmp_path / "a.onnx", accuracy_level=accuracy_level)
    assert session.node_types()["MatMulNBits"] == len(CASES)
    for batch in (1, 64):
        x = torch.randn(batch, 96, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours, oracle = session(x), side(x)
        wrong = [case for i, case in enumerate(CASES) if off(ours[:, i], oracle[:, i]) > bound]
        assert not wrong


def test_a_language_model_runs_with_all_its_linear_layers_packed(tmp_path):
    model = TransformerLM(vocabulary=24, width=32, heads=2, layers=1, context=8).eval()
    model = quantize_weights(model, group_size=16)
    x = torch.randint(24, (3, 8))
    session = export_int4(model, x, tmp_path / "a.onnx", accuracy_level=0)
    assert session.node_types()["MatMulNBits"] == 6 + 1
    assert session.bytes == (tmp_path / "a.onnx").stat().st_size
    with torch.no_grad():
        assert off(session(x), model(x)) < 1e-5


def test_the_file_has_the_layer_s_own_bytes_and_layers_not_packed_in_float(tmp_path):
    model = nn.Sequential(nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    model = quantize_weights(model, group_size=64, layers=["0"])
    session = export_int4(model, torch.zeros(1, 128), tmp_path / "a.onnx", accuracy_level=0)
    graph = onnx.load(tmp_path / "a.onnx").graph
    (node,) = (n for n in graph.node if n.op_type == "MatMulNBits")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    assert stored[node.input[1]].tobytes() == model[0].packed.numpy().tobytes()
    assert stored[node.input[2]].tolist() == model[0].scale.float().flatten().tolist()
    assert stored[node.input[3]].tobytes() == model[0].zero_point.numpy().tobytes()
    assert not any(t.size == 128 * 8 for t in stored.values())  # no float copy is left
    x = torch.randn(4, 128)
    with torch.no_grad():
        assert off(session(x), model(x)) < 1e-5


def test_a_shared_layer_and_equal_layers_run_in_every_place(tmp_path):
    shared = nn.Linear(32, 32)
    twin = nn.Linear(32, 32)
    twin.load_state_dict({"weight": shared.weight, "bias": torch.zeros(32)})
    model = quantize_weights(nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), twin).eval(), group_size=16)
    session = export_int4(model, torch.zeros(1, 32), tmp_path / "a.onnx", accuracy_level=0)
    assert session.node_types()["MatMulNBits"] == 3
    x = torch.randn(4, 32)
    with torch.no_grad():
        assert off(session(x), model(x)) < 1e-5


def test_what_onnx_runtime_cannot_is_refused_before_anything_is_written(tmp_path):
    def mlp():
        return nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10, bias=False)).eval()

    x, path = torch.zeros(1, 96), tmp_path / "a.onnx"
    with pytest.raises(ValueError, match="no PackedLinear"):
        export_int4(mlp(), x, path)
    for bits in (3, 5, 6, 7):
        with pytest.raises(ValueError, match=f"layer '0' has {bits} bits"):
            export_int4(quantize_weights(mlp(), bits=bits, group_size=32), x, path)
    for group_size in (8, 48):
        with pytest.raises(ValueError, match=f"layer '0' has groups of {group_size}"):
            export_int4(quantize_weights(mlp(), group_size=group_size), x, path)
    for level in (2, 5, "4"):
        with pytest.raises(ValueError, match="accuracy_level"):
            export_int4(quantize_weights(mlp(), group_size=32), x, path, accuracy_level=level)
    with pytest.raises(FileNotFoundError, match="folder"):
        export_int4(quantize_weights(mlp(), group_size=32), x, tmp_path / "none" / "a.onnx")

    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(96, 4), nn.Linear(96, 5)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="unused"):
        export_int4(quantize_weights(Unused().eval(), group_size=32), x, path)
    assert not path.exists()
