"""Equalisation: nothing changes in float, whatever the graph; and grids serve all channels afterwards."""

import pytest
import torch
from equalize_networks import ENDS, PARTS, network
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

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
