"""Packed layers compute what float layers with the rounded weights compute; the model given is left alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.models import TransformerLM
from dca_lab.quantization.weight_only import (
    GroupWeights,
    PackedLinear,
    dequantize_weights,
    linear_names,
    quantize_groupwise,
    quantize_weights,
    replace_linears,
)


def mlp():
    return nn.Sequential(nn.Linear(100, 40), nn.ReLU(), nn.Linear(40, 8, bias=False)).eval()


def language_model():
    return TransformerLM(vocabulary=20, width=32, heads=2, layers=1, context=8).eval()


def by_hand(model, **options):
    """The oracle: the float model with every linear weight replaced by its rounded one."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for name in linear_names(model):
        state[f"{name}.weight"] = quantize_groupwise(model.get_submodule(name).weight, **options).dequantize()
    return state


@pytest.mark.parametrize("options", [{"bits": 4, "group_size": 32}, {"bits": 3, "group_size": None}])
@pytest.mark.parametrize("make", [mlp, language_model])
def test_outputs_equal_those_of_the_float_model_with_rounded_weights(make, options):
    model = make()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    small = quantize_weights(model, **options)
    x = torch.randn(5, 100) if make is mlp else torch.randint(20, (5, 8))
    oracle = make()
    oracle.load_state_dict(by_hand(model, **options))
    assert torch.equal(small(x), oracle(x))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert type(model.get_submodule(linear_names(model)[0])) is nn.Linear
    assert not linear_names(small)
    assert torch.equal(dequantize_weights(small)(x), small(x))
    assert linear_names(dequantize_weights(small)) == linear_names(model)


def test_the_layer_holds_bytes_and_no_float_weight():
    layer = PackedLinear(quantize_groupwise(torch.randn(8, 128), bits=3, group_size=64), torch.randn(8))
    sizes = {k: (v.dtype, tuple(v.shape)) for k, v in layer.state_dict().items()}
    assert sizes == {
        "bias": (torch.float32, (8,)),
        "packed": (torch.uint8, (8 * 128 * 3 // 8,)),
        "scale": (torch.float16, (8, 2)),
        "zero_point": (torch.uint8, (16 * 3 // 8,)),
    }


def test_packing_keeps_every_field():
    for bits in range(2, 9):
        given = quantize_groupwise(torch.randn(5, 33), bits=bits, group_size=8)
        found = PackedLinear(given).weights()
        for name in ("codes", "scale", "zero_point"):
            assert torch.equal(getattr(found, name), getattr(given, name))
        assert (found.bits, found.group_size) == (bits, 8)


def test_only_the_named_layers_are_packed_and_any_quantizer_serves():
    calls = []

    def zeros(weight, *, bits, group_size):
        calls.append((tuple(weight.shape), bits, group_size))
        return quantize_groupwise(torch.zeros_like(weight), bits=bits, group_size=group_size)

    model = mlp()
    small = quantize_weights(model, bits=5, group_size=10, quantizer=zeros, layers=["2"])
    assert calls == [((8, 40), 5, 10)]
    assert type(small[0]) is nn.Linear and isinstance(small[2], PackedLinear)
    assert not small(torch.randn(3, 100)).any()


def test_a_layer_with_two_names_stays_one_layer_and_the_root_can_be_a_layer():
    shared = nn.Linear(16, 16)
    small = quantize_weights(nn.Sequential(shared, nn.ReLU(), shared), group_size=8)
    assert small[0] is small[2] and isinstance(small[0], PackedLinear)
    root = quantize_weights(nn.Linear(16, 4), group_size=8)
    assert isinstance(root, PackedLinear) and type(dequantize_weights(root)) is nn.Linear


def test_attention_of_torch_reads_the_weight_itself():
    model = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval()
    small = quantize_weights(model, bits=8, group_size=16)
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        torch.testing.assert_close(small(x), dequantize_weights(small)(x))
    assert not isinstance(small.self_attn.out_proj, PackedLinear)  # a subclass of nn.Linear: left alone


def test_gradients_reach_the_input():
    layer = quantize_weights(nn.Linear(16, 4), group_size=8)
    x = torch.randn(2, 16, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(2, 16))


def test_the_rest_in_half_precision_stays_float32_on_the_float16_grid():
    model = language_model()
    small = quantize_weights(model, group_size=16, rest=torch.float16)
    for name, value in small.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, dict(model.named_parameters())[name].half().float())
    untouched = quantize_weights(model, group_size=16)
    assert torch.equal(untouched.token.weight, model.token.weight)
    model.token.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="token.weight holds values beyond float16"):
        quantize_weights(model, group_size=16, rest=torch.float16)


def test_training_mode_is_kept():
    assert quantize_weights(mlp().train()).training and not quantize_weights(mlp()).training


def test_refusals_name_the_layer():
    with pytest.raises(ValueError, match="no nn.Linear"):
        quantize_weights(nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="'1' is ReLU, not nn.Linear; there are: 0, 2"):
        quantize_weights(mlp(), layers=["1"])
    with pytest.raises(ValueError, match="'9' is no layer"):
        quantize_weights(mlp(), layers=["9"])
    broken = mlp()
    broken[2].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer '2': .*NaN"):
        quantize_weights(broken)
    with pytest.raises(ValueError, match="rest=torch.bfloat16"):
        quantize_weights(mlp(), rest=torch.bfloat16)
    with pytest.raises(ValueError, match=r"layer '2' has weights \(8, 40\)"):
        replace_linears(mlp(), {"2": quantize_groupwise(torch.zeros(8, 41))})


def test_a_forward_pass_in_bfloat16_takes_its_dtype():
    weights = quantize_groupwise(torch.randn(4, 16), group_size=8)
    assert isinstance(weights, GroupWeights)
    x = torch.randn(3, 16).bfloat16()
    y = PackedLinear(weights)(x)
    assert torch.equal(y, F.linear(x, weights.dequantize().bfloat16()))
