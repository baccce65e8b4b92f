"""A scale for each input, stored with the weights: in the layer, in the file, in ONNX Runtime, and in AWQ."""

from dataclasses import replace

import pytest
import torch
from language_networks import language_model
from torch import nn

from dca_lab.quantization._calibration import input_statistics
from dca_lab.quantization.awq import clip_weights, quantize_awq, scale_awq
from dca_lab.quantization.int4_onnx import export_int4
from dca_lab.quantization.nearest import quantize_groupwise
from dca_lab.quantization.packed_linear import PackedLinear
from dca_lab.quantization.weight_file import load_quantized, save_quantized
from dca_lab.quantization.weight_only import dequantize_weights, quantize_weights, replace_linears


def scaled(*, bits=4, outputs=7, inputs=48):
    g = torch.Generator().manual_seed(0)
    scale = (torch.rand(inputs, generator=g) * 4 + 0.1).half()
    weights = quantize_groupwise(torch.randn(outputs, inputs, generator=g), bits=bits, group_size=16)
    return replace(weights, input_scale=scale)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_the_layer_divides_its_inputs():
    weights, x = scaled(), torch.randn(5, 48, dtype=torch.float64)
    plain = replace(weights, input_scale=None)
    layer = PackedLinear(weights)
    oracle = (x / weights.input_scale.double()) @ plain.dequantize().double().T
    assert torch.allclose(layer(x.float()).double(), oracle, atol=1e-4)
    again = layer.weights()
    assert torch.equal(again.input_scale, weights.input_scale) and torch.equal(again.codes, weights.codes)
    assert weights.nbytes() - plain.nbytes() == 2 * 48
    float_layer = dequantize_weights(nn.Sequential(layer))[0]
    assert type(float_layer) is nn.Linear
    assert torch.allclose(float_layer(x.float()).double(), oracle, atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(47).half(),
        torch.ones(48).double(),
        torch.zeros(48).half(),
        torch.full((48,), torch.inf).half(),
    ],
    ids=["length", "dtype", "zero", "infinite"],
)
def test_scales_that_cannot_divide_are_refused(wrong):
    with pytest.raises(ValueError, match="input_scale must be"):
        replace(scaled(), input_scale=wrong)


def test_the_file_keeps_it(tmp_path):
    model = nn.Sequential(nn.Linear(48, 7), nn.Linear(7, 2))
    small = replace_linears(model, {"0": scaled(bits=3), "1": quantize_groupwise(model[1].weight)})
    save_quantized(small, tmp_path / "a")
    loaded = load_quantized(tmp_path / "a", model)
    assert same(loaded, small.eval()) and loaded[0].input_scale.dtype == torch.float16
    assert loaded[1].input_scale is None


def test_onnx_runtime_divides_too(tmp_path):
    model = nn.Sequential(nn.Linear(48, 48, bias=False), nn.Linear(48, 7)).eval()
    small = replace_linears(model, {"0": scaled(outputs=48), "1": scaled()})
    session = export_int4(small, torch.zeros(1, 48), tmp_path / "a.onnx", accuracy_level=0)
    assert session.node_types()["MatMulNBits"] == 2
    x = torch.randn(6, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert float((session(x) - small(x)).norm() / small(x).norm()) < 1e-5


# AWQ


def test_only_the_layer_behind_gelu_stores_a_scale():
    model, tokens = language_model()
    found = quantize_awq(model, tokens, bits=3, group_size=16)
    layers = {name: each for name, each in found.named_modules() if isinstance(each, PackedLinear)}
    assert [name for name, each in layers.items() if each.input_scale is not None] == [
        "blocks.0.fc2",
        "blocks.1.fc2",
    ]
    assert all(
        each.input_scale is None for each in _packed(quantize_awq(model, tokens, bits=3, store_scales=False))
    )


def test_each_half_alone_is_what_its_function_says():
    model, tokens = language_model()
    options = {"bits": 3, "group_size": 16}
    scale_only = quantize_awq(model, tokens, clip=False, store_scales=False, **options)
    assert same(scale_only, quantize_weights(scale_awq(model, tokens, **options), **options))
    clip_only = quantize_awq(model, tokens, scale=False, **options)
    for name, seen in input_statistics(model, tokens).items():
        clipped = clip_weights(model.get_submodule(name).weight, seen.hessian, **options)
        oracle = quantize_groupwise(clipped, **options)
        assert torch.equal(clip_only.get_submodule(name).weights().codes, oracle.codes)
    neither = quantize_awq(model, tokens, scale=False, clip=False, **options)
    assert same(neither, quantize_weights(model, **options))


def test_each_step_lowers_the_error_of_a_layer_that_reads_unequal_inputs():
    """On the calibration data and with one group a row, where neither search can lose."""
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 8))
    x = torch.randn(400, 32, generator=g)
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(32, 32, generator=g) / 6)
        model[1].bias.copy_(torch.linspace(-2, 5, 32))  # what gelu gives is then unequal
        model[3].weight.copy_(torch.randn(8, 32, generator=g))
        read = model[2](model[1](model[0](x)))
        target = model[3](read)

    def error(**options):
        found = quantize_awq(model, x, bits=3, group_size=32, **options)
        with torch.no_grad():
            return float((found[3](read) - target).square().sum())

    nearest, scales, clipped = error(scale=False, clip=False), error(clip=False), error(scale=False)
    # With both, the second search starts from what the first has found, so it need not beat clipping alone.
    assert error() < scales < nearest and clipped < nearest


def test_a_dead_input_takes_a_scale_that_float16_can_hold():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[1].weight.mul_(1e-3)
        model[1].bias.copy_(torch.tensor([-12.0] * 8 + [50.0] * 8))  # gelu(-12) is 0, or about -1e-32
    found = quantize_awq(model, torch.randn(50, 4), bits=3, group_size=16)[3]
    assert torch.isfinite(found.weight).all() and (found.input_scale > 0).all()


def test_a_layer_that_is_never_called_and_batches_that_come_once():
    model, tokens = language_model()
    once = (batch for batch in tokens.split(8))
    found = quantize_awq(model, once, bits=3, group_size=16)
    # batches of another size: sums in another order, the same codes but for rounding
    oracle = quantize_awq(model, list(tokens.split(8)), bits=3, group_size=16)
    assert same(found, oracle)
    model.unused = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="never called.*unused"):
        quantize_awq(model, tokens, bits=3)


def _packed(model):
    return [each for each in model.modules() if isinstance(each, PackedLinear)]
