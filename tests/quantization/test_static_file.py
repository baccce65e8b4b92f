"""A quantized network written to a file and read back: the same integers, the bytes that were promised."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from static_networks import MAKERS, network

from dca_lab.measure import size_on_disk
from dca_lab.models import ResNet18, SmallCNN
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.static_file import load_static, save_static


@pytest.mark.parametrize("name", MAKERS)
def test_read_back_gives_the_same_integers(name, tmp_path):
    model, x = network(name, count=2)
    bits = {"lenet300": {"fc1": 3, "fc2": 2}, "small-cnn": 4}.get(name, 8)
    static = quantize_static(model, x, observer="minmax", weight_bits=bits)
    static.save(tmp_path / "a.safetensors")
    again = load_static(tmp_path / "a.safetensors")
    assert again.grids == static.grids and again.weight_bits == static.weight_bits
    before, after = static.integers(x, every=True), again.integers(x, every=True)
    assert before.keys() == after.keys()
    for key, values in before.items():
        assert after[key].dtype == values.dtype and torch.equal(after[key], values)
    assert torch.equal(again.integers(x, saturate=True), static.integers(x, saturate=True))
    assert torch.equal(again(x), static(x))
    for mine, theirs in zip(static.steps, again.steps, strict=True):
        assert {k: v for k, v in mine.attributes.items() if k != "table"} == {
            k: v for k, v in theirs.attributes.items() if k != "table"
        }


@pytest.mark.parametrize("make", [SmallCNN, lambda: ResNet18(width=16)])
def test_an_int8_file_is_a_quarter_of_the_float_file(make, tmp_path):
    model, path = make(), tmp_path / "a.safetensors"
    size = save_static(quantize_static(model, torch.rand(2, 1, 28, 28), observer="minmax"), path)
    assert size == os.stat(path).st_size <= 0.27 * size_on_disk(model)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_take_their_bits(bits, tmp_path):
    model, x = network("lenet300")
    path = tmp_path / "a.safetensors"
    save_static(quantize_static(model, x, observer="minmax", weight_bits=bits), path)
    stored = load_file(path)
    assert stored["fc1.weight"].numel() == -(-784 * 300 * bits // 8)
    assert stored["fc1.weight"].element_size() == 1


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="no file"):
        load_static(path)
    path.write_bytes(b"not a file")
    with pytest.raises(ValueError, match="damaged"):
        load_static(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no statically quantized network"):
        load_static(path)
    static = quantize_static(*network("lenet300"), observer="minmax")
    save_static(static, path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="damaged"):
        load_static(path)
    with pytest.raises(OSError):
        save_static(static, tmp_path / "nowhere" / "a.safetensors")
