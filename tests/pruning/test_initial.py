"""SNIP and SynFlow: the derivative they are, the flow that is conserved, the layers that do not collapse."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from dca_lab.pruning import (
    emptied_layers,
    global_masks,
    mask_sparsity,
    snip,
    snip_scores,
    synflow,
    synflow_scores,
)


def mlp(widths, *, bias=False, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convnet(bias=True):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=bias),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 3, bias=bias),
    )


def test_snip_is_the_derivative_with_respect_to_the_connection():
    """The sensitivity is |dL / dc| at c = 1 of the loss with weights c * w: finite differences in c."""
    model, x, y = mlp([4, 5, 3]).double(), torch.randn(9, 4).double(), torch.arange(9) % 3
    scores = snip_scores(model, x, y)
    raw, step = {}, 1e-5
    for name, score in scores.items():
        raw[name] = torch.zeros_like(score)
        weight = model.get_parameter(name)
        for index in torch.cartesian_prod(*map(torch.arange, weight.shape)).tolist():
            losses = []
            for c in (1 + step, 1 - step):
                moved = weight.detach().clone()
                moved[tuple(index)] *= c
                losses.append(F.cross_entropy(torch.func.functional_call(model, {name: moved}, (x,)), y))
            raw[name][tuple(index)] = abs(losses[0].item() - losses[1].item()) / (2 * step)
    total = sum(value.sum() for value in raw.values())
    for name, score in scores.items():
        assert torch.allclose(score, raw[name] / total, atol=1e-8)


def test_snip_uses_batch_statistics_and_leaves_no_trace():
    model = convnet().eval()
    model[1].running_mean.fill_(1e3)  # running statistics that would kill every ReLU
    x, y = torch.randn(12, 1, 8, 8), torch.arange(12) % 3
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert snip_scores(model, x, y)["0.weight"].any()
    assert mask_sparsity(snip(model, x, y, sparsity=0.5)) == pytest.approx(0.5, abs=0.005)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert not model.training and torch.equal(rng, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_snip_drops_what_the_data_never_reaches():
    model, x = mlp([6, 8, 3]), torch.randn(20, 6)
    x[:, :3] = 0  # dead pixels
    masks = snip(model, x, torch.arange(20) % 3, sparsity=0.5)
    assert not masks["0.weight"][:, :3].any()
    with pytest.raises(ValueError, match="does not reach"):
        snip_scores(mlp([6, 3]), torch.zeros(4, 6), torch.zeros(4).long())


@settings(deadline=None, max_examples=25)
@given(widths=st.lists(st.integers(1, 7), min_size=3, max_size=6), bias=st.booleans(), seed=st.integers(0, 9))
def test_flow_into_every_hidden_unit_is_the_flow_out_of_it(widths, bias, seed):
    model = mlp(widths, bias=bias, seed=seed)
    scores = list(synflow_scores(model, torch.zeros(1, widths[0])).values())
    positive = copy.deepcopy(model).double()
    for parameter in positive.parameters():
        parameter.data.abs_()
    positive(torch.ones(1, widths[0]).double()).sum().backward()
    biases = [m.bias for m in positive if isinstance(m, nn.Linear)]
    for into, out, b in zip(scores, scores[1:], biases, strict=False):
        through_bias = (b.grad * b).detach() if bias else 0
        assert torch.allclose(into.sum(1) + through_bias, out.sum(0), rtol=1e-9)
    if not bias:  # and so every layer carries the whole flow
        flow = positive(torch.ones(1, widths[0]).double()).sum()
        assert all(torch.allclose(score.sum(), flow.detach(), rtol=1e-9) for score in scores)


def test_flow_is_conserved_through_convolution_batchnorm_and_pooling():
    model = convnet(bias=False)
    model[1].eps = 0.0
    first, second, last = synflow_scores(model, torch.zeros(5, 1, 8, 8)).values()
    assert torch.allclose(first.sum((1, 2, 3)), second.sum((0, 2, 3)))
    assert torch.allclose(second.sum(), last.sum())


def test_flow_of_a_chain_is_the_sum_over_paths():
    model = mlp([2, 3, 2])
    a, b = (model[i].weight.detach().double().abs() for i in (0, 2))
    scores = synflow_scores(model, torch.zeros(1, 2))
    for unit in range(3):
        for i in range(2):
            paths = [(b[o, unit] * a[unit, i]).item() for o in range(2)]
            assert scores["0.weight"][unit, i].item() == pytest.approx(sum(paths))


@pytest.mark.filterwarnings("ignore:nothing is kept")
def test_rounds_prevent_the_collapse_that_magnitude_causes():
    model = mlp([20, 400, 20, 400, 10], seed=3)
    with torch.no_grad():
        model[2].weight.mul_(0.01)  # one layer with small weights
    sparsity = 0.99
    by_size = global_masks({n: p.detach().abs() for n, p in model.named_parameters()}, sparsity)
    masks = synflow(model, torch.zeros(1, 20), sparsity=sparsity, rounds=50)
    assert "2.weight" in emptied_layers(by_size) and emptied_layers(masks) == []
    assert mask_sparsity(masks) == pytest.approx(sparsity, abs=1e-4)
    flow = synflow_scores(model, torch.zeros(1, 20), masks=masks)
    assert all(score.sum() > 0 for score in flow.values())  # a path from input to output is left


def test_synflow_is_data_free_and_leaves_no_trace():
    model = convnet().train()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    one = synflow(model, torch.zeros(1, 1, 8, 8), sparsity=0.8, rounds=5)
    two = synflow(model, torch.full((7, 1, 8, 8), float("nan")), sparsity=0.8, rounds=5)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert model.training and model[0].weight.dtype == torch.float32
    assert torch.equal(rng, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bad_inputs_are_refused():
    model, x = mlp([4, 3]), torch.rand(2, 4)
    with pytest.raises(ValueError, match="sparsity"):
        snip(model, x, torch.zeros(2).long(), sparsity=1.5)
    with pytest.raises(ValueError, match="sparsity"):
        synflow(model, x, sparsity=1.0)
    with pytest.raises(ValueError, match="rounds"):
        synflow(model, x, sparsity=0.5, rounds=0)
    with pytest.raises(ValueError, match="floating-point"):
        synflow_scores(model, torch.zeros(1, 4, dtype=torch.long))
