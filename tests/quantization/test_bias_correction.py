"""Bias correction against its definition: no mean error is left, layer after layer."""

import pytest
import torch
from int8_networks import network as int8_network
from torch import nn

from dca_lab.quantization.bias_correction import bias_correction
from dca_lab.quantization.graph import QuantizationError, prepare
from dca_lab.quantization.static import quantize_static


def problem(bias=True):
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 6, 3, bias=bias), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=bias), nn.Hardswish()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(96, 5, bias=bias)).eval(), torch.rand(64, 1, 8, 8)


@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_error_of_the_logits_is_gone(bias):
    model, x = problem(bias)
    options = {"weight_bits": 3, "activation_bits": 5}
    static = quantize_static(model, x, **options)
    options["grids"] = {name: grid for name, grid in static.grids.items() if grid}
    corrected = quantize_static(bias_correction(model, x, **options), x, **options)
    with torch.no_grad():
        before, after = ((s(x) - model(x)).mean(0) for s in (static, corrected))
    unit = corrected.steps[-1].weight_scale * corrected.grids[corrected.steps[-1].inputs[0]].scale
    assert bool((after.abs() <= unit / 2 + 1e-5).all())  # what is left is the rounding of the bias itself
    assert after.norm() < before.norm() / 5
    assert (corrected(x) - model(x)).norm() < (static(x) - model(x)).norm()


def test_the_first_layer_by_hand():
    model, x = problem()
    model = model[:2].append(nn.Flatten()).append(nn.Linear(216, 3)).eval()
    options = {"weight_bits": 2}
    static = quantize_static(model, x, **options)
    step, conv = static.steps[0], model[0]
    weight = step.weight * step.weight_scale[:, None, None, None]
    with torch.no_grad():
        quantized = nn.functional.conv2d(static.input_grid.fake_quantize(x), weight, conv.bias)
        expected = conv.bias - (quantized - conv(x)).mean((0, 2, 3))
    found = bias_correction(model, x, **options).get_submodule("0").bias
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "axes", "positions"), [("tokens", (0, 1), 5), ("tokens", (0, 1), 3), ("dense", (0, 2, 3), 1)]
)
def test_the_mean_is_over_all_axes_but_that_of_the_channels(name, axes, positions):
    """Tokens (B, T, O) have their channels last; with as many positions as channels, 3, no shape would tell."""
    model, x = int8_network(name)
    x = x[:, :positions]
    options = {"weight_bits": 3, "activation_bits": 5}
    static = quantize_static(model, x, **options)
    options["grids"] = {name: grid for name, grid in static.grids.items() if grid}
    corrected = quantize_static(bias_correction(model, x, **options), x, **options)
    with torch.no_grad():
        before, after = ((s(x) - model(x)).mean(axes) for s in (static, corrected))
    unit = corrected.steps[-1].weight_scale * corrected.grids[corrected.steps[-1].inputs[0]].scale
    assert bool((after.abs() <= unit / 2 + 1e-5).all()) and after.norm() < before.norm()


def test_weights_stay_and_the_model_is_left_alone():
    model, x = problem()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = prepare(model, x)
    corrected = bias_correction(graph, x.split(20), weight_bits=4)
    for network in (model, graph):
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(corrected.get_submodule("0").weight, model[0].weight)
    with pytest.raises(QuantizationError, match="empty"):
        bias_correction(model, [])
