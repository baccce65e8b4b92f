"""A real file: its bytes, and every bit of it read back."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dca_lab.measure import size_on_disk
from dca_lab.models import TransformerLM
from dca_lab.quantization.weight_file import load_quantized, save_quantized
from dca_lab.quantization.weight_only import quantize_groupwise, quantize_weights


def language_model(**options):
    return TransformerLM(
        **{"vocabulary": 80, "width": 128, "heads": 4, "layers": 4, "context": 128} | options
    ).eval()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("model", "rest"),
    [
        (nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)), torch.float32),
        (language_model(), torch.float16),
    ],
    ids=["linear layers", "language model"],
)
def test_int4_in_groups_of_64_takes_at_most_0_16_of_the_float_file(tmp_path, model, rest):
    small = quantize_weights(model, bits=4, group_size=64, rest=rest)
    path = tmp_path / "small.safetensors"
    size = save_quantized(small, path)
    assert size == path.stat().st_size
    assert size <= 0.16 * size_on_disk(model)
    assert same(load_quantized(path, model), small)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("rest", [torch.float16, torch.float32])
def test_what_is_read_back_is_bit_identical_and_computes_the_same(tmp_path, bits, rest):
    options = {"vocabulary": 20, "width": 32, "heads": 2, "layers": 2, "context": 8}
    small = quantize_weights(language_model(**options), bits=bits, group_size=24, rest=rest)
    save_quantized(small, tmp_path / "a")
    fresh = language_model(**options)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    loaded = load_quantized(tmp_path / "a", fresh)
    assert same(loaded, small)
    x = torch.randint(20, (3, 8))
    assert torch.equal(loaded(x), small(x))
    assert all(torch.equal(before[k], v) for k, v in fresh.state_dict().items())


def test_float32_scales_and_codes_of_a_part_of_the_layers_come_back(tmp_path):
    def single(weight, *, bits, group_size):
        return quantize_groupwise(weight, bits=bits, group_size=group_size, scale_dtype=torch.float32)

    model = nn.Sequential(nn.Linear(50, 30), nn.BatchNorm1d(30), nn.Linear(30, 7)).eval()
    small = quantize_weights(model, group_size=16, quantizer=single, layers=["2"])
    save_quantized(small, tmp_path / "a")
    assert same(load_quantized(tmp_path / "a", model), small)


def test_the_file_holds_the_codes_packed_and_opens_elsewhere(tmp_path):
    small = quantize_weights(nn.Sequential(nn.Linear(64, 16)), bits=3, group_size=32)
    save_quantized(small, tmp_path / "a")
    stored = load_file(tmp_path / "a")
    assert stored["0.packed"].dtype == torch.uint8 and stored["0.packed"].numel() == 64 * 16 * 3 // 8
    assert stored["0.scale"].dtype == torch.float16 and stored["0.bias"].dtype == torch.float32


def test_tied_tensors_are_stored_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Embedding(500, 32), nn.Embedding(500, 32), nn.Linear(32, 4)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.out(self.a(x) + self.b(x))

    model = Tied().eval()
    small = quantize_weights(model, group_size=16)
    assert save_quantized(small, tmp_path / "a") < 4 * 500 * 32 + 2000
    loaded = load_quantized(tmp_path / "a", Tied())
    assert same(loaded, small) and loaded.a.weight is loaded.b.weight


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    small = quantize_weights(nn.Linear(16, 4))
    path = tmp_path / "a"
    save_quantized(small, path)
    before = path.read_bytes()
    monkeypatch.setattr("dca_lab.files.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_quantized(quantize_weights(nn.Linear(16, 4)), path)
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["a"]


def test_bad_files_and_models_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(64, 16))
    path = tmp_path / "a"
    with pytest.raises(ValueError, match="no PackedLinear"):
        save_quantized(model, path)
    small = quantize_weights(model)
    with pytest.raises(FileNotFoundError, match="folder"):
        save_quantized(small, tmp_path / "none" / "a")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_quantized(path, model)
    save_quantized(small, path)
    with pytest.raises(ValueError, match="no nn.Linear of that name"):
        load_quantized(path, nn.Sequential(nn.ReLU()))
    for other in (nn.Sequential(nn.Linear(64, 17)), nn.Sequential(nn.Linear(64, 16), nn.Linear(16, 2))):
        with pytest.raises(ValueError, match="does not fit"):
            load_quantized(path, other)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="damaged"):
        load_quantized(path, model)
    save_file(model.state_dict(), path)
    with pytest.raises(ValueError, match="not a file of save_quantized"):
        load_quantized(path, model)
