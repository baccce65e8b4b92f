"""Scores from the weights alone, and the peers that define them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import nn

from dca_lab.pruning import batchnorm_scale, geometric_median, layerwise_masks, magnitude, random_scores


def convnet(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.Flatten(),
            nn.Linear(64, 5),
        )
        nn.init.normal_(model[1].weight)
    return model


@pytest.mark.parametrize("power", [1, 2, 0.5])
def test_magnitude_is_the_power_of_the_absolute_value(power):
    model = convnet()
    for name, score in magnitude(model, power=power).items():
        assert torch.allclose(score, model.get_parameter(name).abs() ** power) and not score.requires_grad
    assert list(magnitude(model, layers=["5.weight"])) == ["5.weight"]


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_masks_do_not_depend_on_the_scale_or_sign_of_a_layer(scale, seed):
    model = convnet(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-(2.0 ** round(scale)) if scale < 8 else 0.25)  # a power of two: exact
    for importance in (magnitude, geometric_median):
        first, second = (layerwise_masks(importance(m), 0.5) for m in (model, other))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_random_scores_come_from_the_generator_alone():
    model = convnet()
    state = torch.get_rng_state()
    a, b, c = (random_scores(model, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for name in a:
        assert torch.equal(a[name], b[name]) and not torch.equal(a[name], c[name])
        assert a[name].shape == model.get_parameter(name).shape and 0 <= a[name].min() and a[name].max() < 1


def test_geometric_median_is_the_sum_of_distances():
    model = convnet()
    for name, score in geometric_median(model).items():
        filters = model.get_parameter(name).detach().flatten(1)
        want = cdist(filters.numpy(), filters.numpy()).sum(1)
        for o, row in enumerate(score):
            assert row.unique().numel() == 1 and row.flatten()[0].item() == pytest.approx(want[o], rel=1e-5)


def test_geometric_median_ignores_a_shift_and_finds_the_redundant_filter():
    layer = nn.Conv2d(2, 6, 3)
    with torch.no_grad():
        layer.weight[3] = layer.weight[[0, 1, 2, 4, 5]].mean(0)
    lowest = geometric_median(layer)["weight"].flatten(1)[:, 0].argmin()
    with torch.no_grad():
        layer.weight.add_(5.0)
    moved = geometric_median(layer)["weight"].flatten(1)[:, 0]
    assert lowest == 3 and moved.argmin() == 3


def test_batchnorm_scale_is_the_size_of_gamma():
    model = convnet()
    scores = batchnorm_scale(model, torch.zeros(2, 1, 8, 8))
    assert list(scores) == ["0.weight"]
    assert scores["0.weight"].shape == (6, 1, 3, 3)
    assert torch.equal(scores["0.weight"][:, 0, 1, 2], model[1].weight.detach().abs())


def test_batchnorm_scale_follows_the_data_and_not_the_order_of_registration():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
            self.bn_of_2, self.bn_of_1 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            nn.init.constant_(self.bn_of_1.weight, -1)
            nn.init.constant_(self.bn_of_2.weight, 2)

        def forward(self, x):
            return self.bn_of_2(self.conv2(self.bn_of_1(self.conv1(x)).relu()))

    scores = batchnorm_scale(Crossed(), torch.zeros(1, 1, 8, 8))
    assert scores["conv1.weight"].unique().tolist() == [1.0]
    assert scores["conv2.weight"].unique().tolist() == [2.0]


def test_scores_leave_the_model_alone():
    model = convnet().train()
    model[1].eval()
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    state, grads = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()]
    x = torch.randn(4, 1, 8, 8)
    modes, rng = [m.training for m in model.modules()], torch.get_rng_state()
    magnitude(model), geometric_median(model), batchnorm_scale(model, x)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(grads, model.parameters(), strict=True))
    assert modes == [m.training for m in model.modules()] and torch.equal(rng, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_bad_inputs_are_refused():
    model = convnet()
    with pytest.raises(ValueError, match="power"):
        magnitude(model, power=0)
    with pytest.raises(ValueError, match="generator"):
        random_scores(model, generator=3)
    with pytest.raises(ValueError, match="no batch-norm follows '3.weight'"):
        batchnorm_scale(model, torch.zeros(1, 1, 8, 8), layers=["3.weight"])
    with pytest.raises(ValueError, match="straight into a batch-norm"):
        batchnorm_scale(nn.Linear(2, 2), torch.zeros(1, 2))
