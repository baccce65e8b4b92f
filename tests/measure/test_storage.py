"""Bytes against the file system, and against what can be read back."""

import os
import zlib

import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import nn

from dca_lab import models
from dca_lab.measure import size_compressed, size_on_disk


@pytest.mark.parametrize("name", ["lenet-300-100", "small-cnn", "gru"])
def test_size_is_what_stat_says_and_the_file_gives_the_model_back(tmp_path, name):
    model = models.build(name, seed=1)
    path = tmp_path / "model.safetensors"
    assert size_on_disk(model, path) == os.stat(path).st_size == size_on_disk(model)
    again = models.build(name, seed=2)
    load_model(again, path)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_size_is_header_plus_raw_numbers(tmp_path):
    model = nn.Linear(10, 7)
    path = tmp_path / "file"
    size = size_on_disk(model, path)
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert size == 8 + header + 4 * (70 + 7)


def test_half_precision_and_buffers_are_in_the_file():
    layer = nn.Linear(100, 100, bias=False)
    assert size_on_disk(layer) - size_on_disk(layer.half()) == 2 * 100 * 100
    assert set(load_keys(nn.BatchNorm2d(3))) >= {"running_mean", "running_var"}


def load_keys(model):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        size_on_disk(model, path)
        return load_file(path)


def test_shared_weights_are_stored_once():
    one = nn.Linear(200, 200)
    tied = nn.ModuleList([one, nn.Linear(200, 200)])
    apart = size_on_disk(tied)
    tied[1].weight = tied[0].weight
    assert apart - size_on_disk(tied) >= 4 * 200 * 200


def test_channels_last_weights_can_be_written():
    model = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    assert size_on_disk(model) == size_on_disk(nn.Conv2d(3, 8, 3))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_sparse_tensors_go_into_torchs_own_format(tmp_path):
    model = nn.Module()
    dense = torch.zeros(400, 400)
    dense[0, :7] = 1.0
    model.register_buffer("weight", dense.to_sparse_csr())
    path = tmp_path / "sparse.pt"
    size = size_on_disk(model, path)
    assert size == os.stat(path).st_size < dense.numel()
    assert torch.equal(torch.load(path, weights_only=True)["weight"].to_dense(), dense)


def test_zeros_take_room_in_the_file_but_not_compressed(tmp_path):
    layer = nn.Linear(300, 300, bias=False)
    full, squeezed = size_on_disk(layer), size_compressed(layer)
    with torch.no_grad():
        layer.weight[torch.rand(300, 300, generator=torch.Generator().manual_seed(0)) < 0.9] = 0.0
    path = tmp_path / "m"
    assert size_on_disk(layer, path) == full
    assert size_compressed(layer) == len(zlib.compress(path.read_bytes(), 9))
    assert size_compressed(layer) < 0.35 * squeezed


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="torch.nn.Module"):
        size_on_disk({"weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="1 .fast. to 9"):
        size_compressed(nn.Linear(2, 2), level=0)
    with pytest.raises(OSError):
        size_on_disk(nn.Linear(2, 2), tmp_path / "no such folder" / "m")
