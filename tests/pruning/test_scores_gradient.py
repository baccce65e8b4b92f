"""Taylor and OBS scores: the predicted change of the loss against the measured one."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from dca_lab.pruning import magnitude, obs_diagonal, snip_scores, synflow_scores, taylor


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def data(rows=12, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=g, dtype=torch.float64), torch.randint(0, 3, (rows,), generator=g)


def least_squares(seed=0, outputs=2):
    """A linear model at the minimum of its mean squared error: the gradient is zero, the loss quadratic."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(30, 4, generator=g, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.2, 1.0])
    y = torch.randn(30, outputs, generator=g, dtype=torch.float64)
    layer = nn.Linear(4, outputs, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return layer, x, y


def without(model, name, index):
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        pruned.get_parameter(name)[index] = 0
    return pruned


def test_taylor_is_the_squared_gradient_times_weight():
    model, (x, y) = network(), data()
    F.cross_entropy(model(x), y).backward()
    for name, score in taylor(model, x, y, batch_size=5).items():
        parameter = model.get_parameter(name)
        assert torch.allclose(score, (parameter.grad * parameter).detach() ** 2, atol=1e-15)


def test_taylor_predicts_the_change_for_a_loss_that_is_linear_in_the_weight():
    layer, x = nn.Linear(3, 2, bias=False).double(), torch.randn(6, 3).double()

    def linear(outputs, targets):
        return (outputs * targets).mean()

    y = torch.randn(6, 2).double()
    score = taylor(layer, x, y, loss=linear)["weight"]
    for o in range(2):
        for i in range(3):
            change = linear(without(layer, "weight", (o, i))(x), y) - linear(layer(x), y)
            assert torch.allclose(score[o, i], change.detach() ** 2, atol=1e-14)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_saliency_is_the_measured_increase_of_a_quadratic_loss(seed):
    layer, x, y = least_squares(seed)
    scores = obs_diagonal(layer, x, y, loss=F.mse_loss, hessian="exact")["weight"]
    base = F.mse_loss(layer(x), y)
    for o in range(2):
        for i in range(4):
            increase = F.mse_loss(without(layer, "weight", (o, i))(x), y) - base
            assert torch.allclose(scores[o, i], increase.detach(), rtol=1e-9, atol=1e-12)
    # in closed form: the Hessian of the mean over rows and outputs is 2 X^T X / (rows * outputs)
    assert torch.allclose(scores, layer.weight.detach() ** 2 * (x.T @ x).diagonal() / (len(x) * 2))


def test_exact_diagonal_is_torch_hessian_of_a_network():
    model, (x, y) = network(), data()
    scores = obs_diagonal(model, x, y, hessian="exact")
    for name, score in scores.items():

        def loss(weight, name=name):
            return F.cross_entropy(torch.func.functional_call(model, {name: weight}, (x,)), y)

        weight = model.get_parameter(name).detach()
        hessian = torch.autograd.functional.hessian(loss, weight).reshape(weight.numel(), -1)
        assert torch.allclose(score, hessian.diagonal().reshape(weight.shape) * weight**2 / 2, atol=1e-12)


def test_hutchinson_converges_to_the_exact_diagonal():
    model, (x, y) = network(), data()
    exact = obs_diagonal(model, x, y, hessian="exact")
    errors = []
    for probes in (4, 400):
        generator = torch.Generator().manual_seed(0)
        estimate = obs_diagonal(model, x, y, hessian="hutchinson", probes=probes, generator=generator)
        errors.append(max((estimate[name] - exact[name]).norm() / exact[name].norm() for name in exact))
    # the error falls as 1 / sqrt(probes): by 10 here; half of that is left as the margin
    assert errors[1] < errors[0] / 5


def test_hutchinson_is_exact_with_one_probe_where_the_hessian_is_diagonal():
    layer = nn.Linear(3, 1, bias=False).double()
    x, y = torch.diag(torch.tensor([1.0, 2.0, 3.0])).double(), torch.ones(3, 1).double()
    generator = torch.Generator().manual_seed(0)
    random = {"hessian": "hutchinson", "probes": 1, "generator": generator}
    one = obs_diagonal(layer, x, y, loss=F.mse_loss, **random)
    exact = obs_diagonal(layer, x, y, loss=F.mse_loss, hessian="exact")
    assert torch.allclose(one["weight"], exact["weight"])


def test_fisher_is_the_mean_squared_gradient_of_single_rows():
    model, (x, y) = network(), data()
    scores = obs_diagonal(model, x, y)
    want = {name: torch.zeros_like(score) for name, score in scores.items()}
    for row in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[row : row + 1]), y[row : row + 1]).backward()
        for name in want:
            want[name] += model.get_parameter(name).grad ** 2 / len(x)
    for name, score in scores.items():
        assert torch.allclose(score, want[name] * model.get_parameter(name).detach() ** 2 / 2, atol=1e-15)


def test_fisher_is_the_hessian_when_labels_follow_the_model():
    """The squared gradient, averaged over labels drawn from the model, is the Hessian of a linear softmax."""
    layer = nn.Linear(2, 2, bias=False).double()
    x = torch.randn(1, 2).double()
    probability = layer(x).softmax(-1)[0].detach()
    each = [obs_diagonal(layer, x, torch.tensor([c]))["weight"] for c in range(2)]
    expected = probability[0] * each[0] + probability[1] * each[1]
    exact = obs_diagonal(layer, x, torch.tensor([0]), hessian="exact")["weight"]
    assert torch.allclose(expected, exact, rtol=1e-9)


def test_second_order_scores_of_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()

        def forward(self, x):  # (B, heads, T, 4): four axes, as the fused kernel wants them
            return F.scaled_dot_product_attention(self.q(x), self.k(x), x).sum((1, 2))

    model, x, y = Attention(), torch.randn(3, 2, 5, 4).double(), torch.tensor([0, 1, 2])
    scores = obs_diagonal(model, x, y, hessian="exact")["q.weight"]
    weight, step = model.q.weight, 1e-4
    losses = []
    for shift in (-step, 0, step):
        moved = weight.detach().clone()
        moved[1, 2] += shift
        losses.append(F.cross_entropy(torch.func.functional_call(model, {"q.weight": moved}, (x,)), y).item())
    second = (losses[0] - 2 * losses[1] + losses[2]) / step**2
    assert scores[1, 2].item() == pytest.approx(second * weight[1, 2].item() ** 2 / 2, rel=1e-3, abs=1e-9)


def test_the_model_is_left_alone():
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.ReLU(), nn.Linear(6, 3)]
    model = nn.Sequential(*layers).train()
    model[4].weight.requires_grad_(False)
    x, y = data()
    x = x.float()
    F.cross_entropy(model(x), y).backward()
    state = copy.deepcopy(model.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    rng = torch.get_rng_state()
    with torch.no_grad():
        taylor(model, x, y)
        for hessian in ("fisher", "exact", "hutchinson"):
            obs_diagonal(model, x, y, hessian=hessian, generator=torch.Generator(), probes=2)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    for grad, parameter in zip(grads, model.parameters(), strict=True):
        assert (grad is None and parameter.grad is None) or torch.equal(grad, parameter.grad)
    assert model.training and model[1].training and not model[4].weight.requires_grad
    assert torch.equal(rng, torch.get_rng_state())


def test_a_shared_weight_is_scored_once_with_its_whole_gradient():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x).tanh())

    model = Tied().double()
    x, y = data()
    F.cross_entropy(model(x), y).backward()
    scores = taylor(model, x, y)
    assert list(scores) == ["a.weight"]
    want = (model.a.weight.grad * model.a.weight).detach() ** 2
    assert torch.allclose(scores["a.weight"], want, atol=1e-15)


@settings(deadline=None, max_examples=20)
@given(factor=st.floats(0.05, 20), seed=st.integers(0, 99))
def test_scores_of_the_loss_do_not_see_a_rescaling_that_leaves_the_function_alone(factor, seed):
    """Weights times a before a ReLU and divided by a after it: the same function, and the same g w."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)).double()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(factor)
        other[2].weight.div_(factor)
    x, y = data()
    example = torch.zeros(1, 4)
    for importance in (
        lambda m: taylor(m, x, y),
        lambda m: obs_diagonal(m, x, y),
        lambda m: snip_scores(m, x, y),
        lambda m: synflow_scores(m, example, layers=["0.weight"]),
    ):
        first, second = importance(model), importance(other)
        for name in first:
            assert torch.allclose(first[name], second[name], rtol=1e-6, atol=1e-12)
    assert magnitude(model)["0.weight"].sum() != magnitude(other)["0.weight"].sum() or factor == 1


def test_bad_inputs_are_refused():
    model, (x, y) = network(), data()
    with pytest.raises(ValueError, match="hessian must be"):
        obs_diagonal(model, x, y, hessian="diagonal")
    with pytest.raises(ValueError, match="generator"):
        obs_diagonal(model, x, y, hessian="hutchinson")
    with pytest.raises(ValueError, match="hutchinson"):
        obs_diagonal(nn.Linear(300, 100), torch.rand(2, 300), torch.zeros(2).long(), hessian="exact")
    with pytest.raises(ValueError, match="Hessian is zero"):
        obs_diagonal(nn.Linear(4, 1), x.float(), y, loss=lambda outputs, _: outputs.mean(), hessian="exact")
    for function in (taylor, obs_diagonal):
        with pytest.raises(ValueError, match="as many rows"):
            function(model, x, y[:-1])
        with pytest.raises(ValueError, match="no prunable weight"):
            function(model, x, y, layers=["nothing"])
