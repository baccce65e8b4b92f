"""Refit against least squares by torch.linalg.lstsq, and what it buys where activations are coarse."""

import pytest
import torch
from torch import nn

from dca_lab.quantization.bias_correction import bias_correction
from dca_lab.quantization.refine import quantize_best
from dca_lab.quantization.refit import refit
from dca_lab.quantization.static import quantize_static


def test_one_layer_is_the_ridge_solution():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 3)).eval(), torch.randn(80, 5)
    static = quantize_static(model, x, activation_bits=2)
    rows = static.input_grid.fake_quantize(x).double()
    centred, damping = rows - rows.mean(0), 0.01
    weight = model[0].weight.detach().double()
    with torch.no_grad():
        target = model(x).double()
    error = target - rows @ weight.T
    # ridge regression as ordinary least squares with five more rows
    extra = (damping * centred.square().mean(0).mean() * len(x)).sqrt() * torch.eye(5).double()
    error = torch.cat([error - error.mean(0), torch.zeros(5, 3).double()])
    expected = weight + torch.linalg.lstsq(torch.cat([centred, extra]), error).solution.T
    found = refit(model, x, damping=damping, activation_bits=2).get_submodule("0").weight
    assert torch.allclose(found.double(), expected, atol=1e-5)


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 6, 3, stride=2, bias=False), nn.Hardswish(), nn.Conv2d(6, 6, 3, groups=3), nn.ReLU()]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(24, 5)).eval()
    x = torch.rand(96, 1, 10, 10)
    return model, (x * (x > 0.5)).round(decimals=1)  # half of it is background


def test_it_beats_bias_correction_on_the_data_it_saw():
    model, x = network()
    static = quantize_static(model, x, activation_bits=4, weight_bits=4)
    options = {"activation_bits": 4, "weight_bits": 4, "grids": {n: g for n, g in static.grids.items() if g}}
    with torch.no_grad():
        expected = model(x)
    errors = [(static(x) - expected).norm()]
    for correct in (bias_correction, refit):
        errors.append((quantize_static(correct(model, x, **options), x, **options)(x) - expected).norm())
    assert errors[2] < errors[1] and errors[2] < 0.9 * errors[0]


def test_damping_trades_the_examples_that_were_seen_for_others():
    """Fifty examples and forty inputs: nearly undamped, the fit follows the examples and not the network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)).eval()
    seen, others = torch.randn(50, 40), torch.randn(1000, 40)
    static = quantize_static(model, seen, activation_bits=4)
    options = {"activation_bits": 4, "grids": {n: g for n, g in static.grids.items() if g}}

    def errors(**damping):
        fitted = quantize_static(refit(model, seen, **damping, **options), seen, **options)
        with torch.no_grad():
            return [float((fitted(x) - model(x)).norm() / model(x).norm()) for x in (seen, others)]

    free, damped = errors(damping=1e-4), errors()
    assert free[0] < damped[0] and damped[1] < 0.8 * free[1]


@pytest.mark.parametrize("correction", ["refit", "bias", None])
def test_quantize_best_is_better_than_plain(correction):
    model, x = network()
    with torch.no_grad():
        expected = model(x)
    plain = quantize_static(model, x, weight_bits=3)
    best = quantize_best(model, x, correction=correction, iterations=50, weight_bits=3)
    assert (best(x) - expected).norm() < 0.8 * (plain(x) - expected).norm()
    assert torch.allclose(best.integers(x), best(x), rtol=0.05, atol=0.05 * float(expected.abs().max()))


def test_everything_left_out_is_plain_and_bad_input_is_refused():
    model, x = network()
    nothing = quantize_best(model, x, equalized=False, correction=None, iterations=0)
    assert torch.equal(nothing(x), quantize_static(model, x)(x))
    with pytest.raises(ValueError, match="correction"):
        quantize_best(model, x, correction="luck")
    with pytest.raises(ValueError, match="damping"):
        refit(model, x, damping=0.0)
