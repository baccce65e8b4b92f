"""Our round-to-nearest is that of the other libraries, where they are installed."""

import importlib.util
import sys

import pytest
import torch

from bench.quantization.peers_int4 import rtn_with_neural_compressor, rtn_with_nncf
from dca_lab.quantization.nearest import quantize_groupwise


def weight(seed=0, inputs=192):
    return 0.02 * torch.randn(96, inputs, generator=torch.Generator().manual_seed(seed))


def installed(name):
    return importlib.util.find_spec(name) is not None


@pytest.mark.skipif(not installed("neural_compressor"), reason="neural-compressor-pt is not installed")
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_weight_is_that_of_neural_compressor(bits, symmetric):
    for inputs, group_size in ((192, 64), (192, 192), (100, 32)):
        options = dict(bits=bits, group_size=group_size, symmetric=symmetric)
        ours = quantize_groupwise(weight(inputs=inputs), scale_dtype=torch.float32, **options).dequantize()
        assert (ours - rtn_with_neural_compressor(weight(inputs=inputs), **options)).abs().max() < 1e-4


@pytest.mark.skipif(not installed("nncf"), reason="nncf is not installed")
@pytest.mark.parametrize("bits", [4, 8])
def test_nncf_gives_the_same_but_for_weights_in_the_middle_of_two_levels(bits):
    found = quantize_groupwise(weight(), bits=bits, group_size=64, scale_dtype=torch.float32)
    step = found.scale.float().repeat_interleave(64, dim=1)
    middle = ((weight().double() / step) % 1 - 0.5).abs() < 1e-4
    apart = (found.dequantize() - rtn_with_nncf(weight(), bits=bits, group_size=64)).abs()
    assert apart[~middle].max() < 1e-4 and (apart <= 1.001 * step).all()
    with pytest.raises(ValueError, match="INT5"):
        rtn_with_nncf(weight(), bits=5)


@pytest.mark.parametrize(
    ("library", "call"), [("nncf", rtn_with_nncf), ("neural_compressor", rtn_with_neural_compressor)]
)
def test_without_the_library_the_error_says_how_to_get_it(monkeypatch, library, call):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match="pip install"):
        call(weight())
