"""Equalisation: nothing changes in float, whatever the graph; and grids serve all channels afterwards."""

import pytest
import torch
from equalize_networks import ENDS, PARTS, network
from hypothesis import example, given, settings
from hypothesis import strategies as st
from int8_networks import SHAPES
from int8_networks import network as int8_network
from torch import nn
from torch.nn import functional as F

from dca_lab.quantization.equalize import equalize
from dca_lab.quantization.graph import QuantizationError, prepare
from dca_lab.quantization.static import quantize_static


@settings(deadline=None, max_examples=30)
@given(
    parts=st.lists(st.sampled_from(sorted(PARTS)), max_size=4),
    end=st.sampled_from(sorted(ENDS)),
    strength=st.sampled_from([None, 0.0, 0.5, 1.0]),
    seed=st.integers(0, 999),
)
@example(parts=["relu6"], end="mean", strength=0.5, seed=0)
@example(parts=["hard-swish", "cat"], end="mean", strength=0.5, seed=0)
@example(parts=["linear residual", "cat", "depthwise"], end="flatten", strength=None, seed=0)
def test_the_float_network_computes_the_same(parts, end, strength, seed):
    model, x = network(parts, end, seed)
    with torch.no_grad():
        expected = model.double()(x.double())
    model.float()
    equal = equalize(prepare(model, x)) if strength is None else equalize(model, x, strength=strength)
    with torch.no_grad():
        found = equal.double()(x.double())  # in float64: only the rounding of the new weights is left
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def unchanged(model, x, strength):
    """Whether the equalized network computes what the model computes, but for the rounding of new weights."""
    equal = equalize(prepare(model, x)) if strength is None else equalize(model, x, strength=strength)
    with torch.no_grad():
        expected, found = model.double()(x.double()), equal.double()(x.double())
    return (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("strength", [None, 0.5])
@pytest.mark.parametrize("name", ["tokens", "dense", "ends"])
def test_networks_whose_channels_lie_on_other_axes(name, strength):
    assert name in SHAPES and unchanged(*int8_network(name), strength)


class Mixer(nn.Module):
    """Linear layers on (B, T, I): a residual, both kinds of concatenation, and a flattening with channels last."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(12, 3)
        self.head = nn.Linear(2 * 5 * 3, 2)

    def forward(self, x):
        y = torch.relu(self.a(x))
        y = torch.relu(y + self.b(y))
        y = torch.relu(self.c(torch.cat([y, y], dim=2)))
        return self.head(torch.cat([y, y], dim=1).flatten(1))


class Rows(nn.Module):
    """Linear layers that mix the columns of pictures: what a convolution writes or reads has no factor there."""

    def __init__(self):
        super().__init__()
        self.first, self.mix, self.last = nn.Conv2d(1, 3, 3), nn.Linear(6, 4), nn.Conv2d(3, 2, 1)
        self.again = nn.Linear(4, 4)

    def forward(self, x):
        y = torch.relu(self.mix(torch.relu(self.first(x))))
        y = torch.relu(self.again(F.max_pool2d(y, 1)))
        return self.last(y).mean((2, 3))


@pytest.mark.parametrize("strength", [None, 0.0, 1.0])
@pytest.mark.parametrize(("make", "shape"), [(Mixer, (5, 4)), (Rows, (1, 8, 8))])
def test_channels_that_change_their_axis(make, shape, strength):
    assert unchanged(make().eval(), torch.randn(20, *shape), strength)


def test_planted_factors_are_undone_where_the_channels_are_last():
    model, x = Mixer().eval(), torch.randn(64, 5, 4)
    factors = torch.tensor([1.0, 128.0, 16.0])
    with torch.no_grad():
        expected = model(x)
        model.c.weight.mul_(factors[:, None])
        model.c.bias.mul_(factors)
        model.head.weight.div_(factors.repeat(10))
        assert torch.allclose(model(x), expected, rtol=1e-4)
    plain, equal = (quantize_static(m, x)(x) for m in (model, equalize(model, x)))
    assert (equal - expected).norm() < (plain - expected).norm() / 5


def chain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def test_without_data_both_ranges_become_the_geometric_mean():
    model = chain()
    r1, r2 = model[0].weight.abs().amax(1), model[2].weight.abs().amax(0)
    equal = equalize(prepare(model, torch.zeros(1, 4)))
    for name, axis in (("0", 1), ("2", 0)):
        assert torch.allclose(equal.get_submodule(name).weight.abs().amax(axis), (r1 * r2).sqrt(), rtol=1e-5)


def test_with_strength_one_every_channel_has_the_range_of_the_largest():
    model, x = chain(), torch.randn(64, 4)
    with torch.no_grad():
        size = model[1](model[0](x)).amax(0)
        equal = equalize(model, x, strength=1.0)
        after = torch.relu(equal.get_submodule("0")(x)).amax(0)
    assert bool((size > 0).all())
    assert torch.allclose(after, size.max().expand(6), rtol=1e-5)


def test_a_dead_channel_keeps_its_factor():
    model = chain()
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0, 0
    for equal in (equalize(prepare(model, torch.zeros(1, 4))), equalize(model, torch.randn(9, 4))):
        assert torch.equal(equal.get_submodule("2").weight[:, 2], model[2].weight[:, 2])


@pytest.mark.parametrize("stop", [nn.ReLU6(), nn.Hardswish(), nn.Sigmoid()])
def test_nothing_is_scaled_where_no_factor_passes(stop):
    model, x = nn.Sequential(nn.Linear(4, 6), stop, nn.Linear(6, 3)).eval(), torch.randn(20, 4)
    for equal in (equalize(prepare(model, x)), equalize(model, x)):
        assert torch.equal(equal.get_submodule("0").weight, model[0].weight)
        assert torch.equal(equal.get_submodule("2").weight, model[2].weight)


class Paths(nn.Module):
    """Through a sum and a concatenation: the first three channels are added, and read beside three others."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.out(torch.cat([torch.relu(self.a(x) + self.b(x)), torch.relu(self.c(x))], dim=1)).mean(
            (2, 3)
        )


def test_planted_factors_are_undone_through_sums_and_concatenations():
    torch.manual_seed(0)
    model, factors = Paths().eval(), torch.tensor([1.0, 16.0, 128.0])
    x = torch.randn(64, 1, 6, 6)
    with torch.no_grad():
        expected = model(x)
        for layer in (model.a, model.b):
            layer.weight.mul_(factors[:, None, None, None])
            layer.bias.mul_(factors)
        model.out.weight[:, :3].div_(factors[:, None, None])
        assert torch.equal(model(x), expected)
    plain, equal = (quantize_static(m, x)(x) for m in (model, equalize(model, x)))
    assert (equal - expected).norm() < (plain - expected).norm() / 5


def test_the_model_is_left_alone_and_bad_input_is_refused():
    model, x = chain(), torch.randn(9, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = prepare(model, x)
    equalize(model, x)
    equalize(graph)
    equalize(graph, [x, x])
    for network_ in (model, graph):
        assert all(torch.equal(value, before[name]) for name, value in network_.state_dict().items())
    with pytest.raises(QuantizationError, match="needs calibration data"):
        equalize(model)
    with pytest.raises(QuantizationError, match="empty"):
        equalize(model, [])
    with pytest.raises(ValueError, match="strength"):
        equalize(model, x, strength=1.5)
