"""SmoothQuant: the function stays, equation 4 holds, and int8 activations survive loud channels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language_networks import language_model
from torch import nn

from dca_lab.quantization.dynamic import quantize_dynamic
from dca_lab.quantization.smoothquant import plant_outliers, smooth


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_the_float_function_stays(alpha):
    model, tokens = language_model()
    with torch.no_grad():
        logits = model(tokens)
        found = smooth(model, tokens, alpha=alpha)(tokens)
    assert (found - logits).norm() <= 1e-5 * logits.norm()


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 1), st.integers(2, 8), st.integers(0, 99))
def test_equation_4_in_numbers(alpha, channels, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 3))
    nn.init.normal_(model[0].weight)
    x = torch.randn(20, channels)
    even = smooth(model, x, alpha=alpha)
    with torch.no_grad():
        a, w = model[0](x).abs().amax(0), model[1].weight.abs().amax(0)
        s = a**alpha / w ** (1 - alpha)
        assert torch.allclose(even[0](x).abs().amax(0), a / s, rtol=1e-3, atol=1e-6)
        assert torch.allclose(even[1].weight.abs().amax(0), w * s, rtol=1e-4)


def test_the_largest_weight_is_that_of_all_readers_and_silent_channels_keep_their_size():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.a, self.b = nn.LayerNorm(4), nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            x = self.norm(x)
            return self.a(x).sum() + self.b(x).sum()

    model, x = Two(), torch.randn(9, 4)
    with torch.no_grad():
        model.norm.weight[1], model.a.weight[:, 2], model.b.weight[:, 2] = 0, 0, 0
        activations = model.norm(x).abs().amax(0)
        even = smooth(model, x)
        both = torch.cat([model.a.weight, model.b.weight]).abs().amax(0)
    live = torch.tensor([0, 3])
    expected = (activations / both).sqrt()[live]
    assert torch.allclose(even.a.weight[:, live] / model.a.weight[:, live], expected.expand(2, 2), rtol=1e-4)
    assert torch.equal(even.norm.weight[[1, 2]], model.norm.weight[[1, 2]])
    assert torch.equal(even.b.weight[:, 1], model.b.weight[:, 1])


def test_planted_outliers_change_nothing_but_the_activations():
    model, tokens = language_model()
    loud = plant_outliers(model, channels=3, factor=100, generator=torch.Generator().manual_seed(0))
    ratio = loud.blocks[0].norm1.weight / model.blocks[0].norm1.weight
    assert sorted(ratio.round().int().tolist()) == [1] * 29 + [100] * 3
    with torch.no_grad():
        assert torch.allclose(loud(tokens), model(tokens), atol=1e-4)


def test_int8_activations_need_smoothing_where_a_few_channels_are_loud():
    model, tokens = language_model()
    loud = plant_outliers(model, channels=2, factor=100, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(tokens)
        hurt = (quantize_dynamic(loud)(tokens) - logits).norm()
        healed = (quantize_dynamic(smooth(loud, tokens))(tokens) - logits).norm()
    assert 5 * healed < hurt


def test_bad_inputs_are_refused_and_the_model_is_left_alone():
    model, tokens = language_model()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            smooth(model, tokens, alpha=alpha)
    with pytest.raises(ValueError, match="empty"):
        smooth(model, [])
    with pytest.raises(ValueError, match="factor"):
        plant_outliers(model, channels=1, factor=0, generator=generator)
    with pytest.raises(ValueError, match="has 32"):
        plant_outliers(model, channels=33, factor=2, generator=generator)
    for channels in (1.5, True):
        with pytest.raises(ValueError, match="whole number"):
            plant_outliers(model, channels=channels, factor=2, generator=generator)
    with pytest.raises(ValueError, match="calibration is NoneType"):
        smooth(model, None)
    smooth(model, tokens)
    plant_outliers(model, channels=1, factor=9, generator=generator)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
