"""Learned steps against torch's learnable fake-quantization, finite differences and the paper's formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.affine import levels
from dca_lab.quantization.lsq import LearnedStep, gradient_scale, initial_step, scaled_gradient
from dca_lab.quantization.ste import fake_quantize_ste


def values(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def no_ties(x, scale):
    return torch.where(((x / scale) % 1 - 0.5).abs() > 1e-3, x, x + 0.1 * scale)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), step=st.floats(0.02, 1.5))
def test_weights_a_tensor_value_and_both_gradients_are_torch_s(seed, bits, step):
    q_min, q_max = levels(bits, signed=True, symmetric=True)
    v, cotangent = no_ties(values(seed, 12, 20), step), values(seed + 1, 12, 20)
    grid = LearnedStep(torch.tensor(step), bits=bits, signed=True, symmetric=True)
    ours, theirs = v.clone().requires_grad_(), v.clone().requires_grad_()
    scale, zero = torch.tensor([step], requires_grad=True), torch.zeros(1)
    factor = 1 / math.sqrt(v.numel() * q_max)
    expected = torch._fake_quantize_learnable_per_tensor_affine(theirs, scale, zero, q_min, q_max, factor)
    y = grid(ours)
    y.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(grid.step.grad, scale.grad[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_step_a_channel_is_torch_s_per_channel_operator(bits):
    q_min, q_max = levels(bits, signed=True, symmetric=True)
    steps = torch.linspace(0.1, 0.8, 6)
    v, cotangent = no_ties(values(0, 6, 3, 5, 5), steps.reshape(6, 1, 1, 1)), values(1, 6, 3, 5, 5)
    grid = LearnedStep(steps.reshape(6, 1, 1, 1), bits=bits, signed=True, symmetric=True)
    ours, theirs = v.clone().requires_grad_(), v.clone().requires_grad_()
    scale = steps.clone().requires_grad_()
    factor = 1 / math.sqrt(75 * q_max)  # 3 * 5 * 5 weights share a step
    expected = torch._fake_quantize_learnable_per_channel_affine(
        theirs, scale, torch.zeros(6), 0, q_min, q_max, factor
    )
    y = grid(ours)
    y.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(grid.step.grad.flatten(), scale.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("zero_point", [0, 1, 2])
def test_activations_count_the_features_of_one_example(zero_point):
    v, cotangent = no_ties(values(2, 7, 4, 3), 0.4), values(3, 7, 4, 3)
    grid = LearnedStep(torch.tensor(0.4), bits=2, zero_point=zero_point, batched=True)
    grid(v).backward(cotangent)
    scale, zero = torch.tensor([0.4], requires_grad=True), torch.tensor([float(zero_point)])
    factor = 1 / math.sqrt(4 * 3 * (3 - zero_point))
    torch._fake_quantize_learnable_per_tensor_affine(v, scale, zero, 0, 3, factor).backward(cotangent)
    torch.testing.assert_close(grid.step.grad, scale.grad[0], rtol=1e-4, atol=1e-6)


def test_the_paper_s_cases():
    # v / s of -9, -1.2, 0.4, 2.4 on levels -2..1 (Q_N = 2, Q_P = 1): equation 3
    v, step = torch.tensor([-9.0, -1.2, 0.4, 2.4]), torch.ones(4, requires_grad=True)
    fake_quantize_ste(v, step, bits=2, signed=True).sum().backward()
    torch.testing.assert_close(step.grad, torch.tensor([-2.0, -1 + 1.2, 0 - 0.4, 1.0]))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), step=st.floats(0.1, 1.0))
def test_gradient_is_the_derivative_of_the_surrogate(seed, step):
    """With the rounding error of each quotient held fixed, the line is smooth: central differences see it."""
    v = values(seed, 300).double()
    v = v[torch.round(v / step).abs() != 3]  # on the last level the clamp has its kink
    error = torch.round(v / step) - v / step

    def surrogate(s):
        return float((torch.clamp(v / s + error, -3, 3) * s).sin().sum())

    s = torch.tensor(step, dtype=torch.float64, requires_grad=True)
    fake_quantize_ste(v, s, bits=3, signed=True, symmetric=True).sin().sum().backward()
    slope = (surrogate(step + 1e-6) - surrogate(step - 1e-6)) / 2e-6
    assert float(s.grad) == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_first_step_is_twice_the_mean_over_the_root_of_the_highest_level():
    w = values(4, 8, 3, 5, 5)
    by_hand = torch.stack([2 * row.abs().mean() / math.sqrt(7) for row in w])
    torch.testing.assert_close(initial_step(w, q_max=7, axis=0).flatten(), by_hand)
    torch.testing.assert_close(initial_step(w, q_max=7), 2 * w.abs().mean() / math.sqrt(7))
    assert initial_step(w, q_max=7, axis=0).shape == (8, 1, 1, 1)
    assert initial_step(w, q_max=7, axis=-1).shape == (1, 1, 1, 5)
    assert float(initial_step(torch.zeros(4), q_max=1)) > 0


def test_scaled_gradient_keeps_the_value_to_the_bit():
    step = values(5, 50).requires_grad_()
    y = scaled_gradient(step, 0.3)
    y.backward(torch.ones(50))
    assert torch.equal(y, step) and torch.equal(step.grad, torch.full((50,), 0.3))
    assert gradient_scale(1000, q_max=10) == pytest.approx(0.01)


def test_a_step_below_zero_is_reflected_and_keeps_learning():
    grid = LearnedStep(torch.tensor(0.5), bits=4, signed=True, symmetric=True)
    with torch.no_grad():
        grid.step.fill_(-0.5)
    y = grid(values(6, 100))
    y.sum().backward()
    assert float(grid.scale.detach()) == 0.5 and float(grid.step.grad) != 0


def test_a_step_that_is_not_learned_has_no_gradient():
    grid = LearnedStep(torch.tensor(0.5), bits=4, learned=False)
    assert not [p for p in grid.parameters() if p.requires_grad] and list(grid.state_dict()) == ["step"]


def test_learning_finds_the_step_that_loses_least():
    """The task is the squared error itself: then a brute-force scan over steps is the oracle."""
    v = values(7, 4000)
    scan = torch.linspace(0.2, 2.0, 400)
    errors = torch.stack([(fake_quantize_ste(v, s, bits=3, signed=True) - v).square().mean() for s in scan])
    grid = LearnedStep(initial_step(v, q_max=3), bits=3, signed=True)
    optimizer = torch.optim.SGD(grid.parameters(), lr=20.0)
    for _ in range(200):
        loss = (grid(v) - v).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((grid(v) - v).square().mean().detach()) <= 1.03 * float(errors.min())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="positive"):
        LearnedStep(torch.tensor(0.0), bits=4)
    with pytest.raises(ValueError, match="bits"):
        LearnedStep(torch.tensor(1.0), bits=1)
    with pytest.raises(ValueError, match="finite"):
        initial_step(torch.tensor([1.0, float("nan")]), q_max=7)
    with pytest.raises(ValueError, match="finite"):
        initial_step(torch.zeros(0), q_max=7)
    with pytest.raises(ValueError, match="highest level"):
        initial_step(torch.ones(3), q_max=0)
    with pytest.raises(ValueError, match="at least 1"):
        gradient_scale(0, q_max=7)
