"""The straight-through estimator against torch's own fake-quantization operators, value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.affine import affine_params, fake_quantize, levels
from dca_lab.quantization.ste import fake_quantize_ste, round_ste


def values(seed, *shape, spread=2.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def away_from_ties(x, scale):
    """Values whose quotient is no rounding accident: torch multiplies by 1 / scale, we divide."""
    return ((x / scale) % 1 - 0.5).abs() > 1e-4


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-20, 20))
def test_rounding_is_torch_round_to_the_bit_and_passes_the_gradient(seed, exponent):
    x = (values(seed, 200) * 2.0**exponent).requires_grad_()
    y, cotangent = round_ste(x), values(seed + 1, 200)
    y.backward(cotangent)
    assert torch.equal(y, torch.round(x)) and torch.equal(x.grad, cotangent)


def test_ties_go_to_even_as_in_torch():
    x = torch.arange(-8, 9) / 2
    assert torch.equal(round_ste(x), torch.round(x))


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 8),
    signed=st.booleans(),
    scale=st.floats(0.01, 2.0),
    share=st.floats(0, 1),
)
def test_one_scale_is_torch_fake_quantize(seed, bits, signed, scale, share):
    q_min, q_max = levels(bits, signed=signed)
    zero_point = round(q_min + share * (q_max - q_min))
    x = values(seed, 300, spread=scale * (q_max - q_min))
    x = x[away_from_ties(x, scale)]
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = fake_quantize_ste(ours, scale, zero_point, bits=bits, signed=signed)
    expected = torch.fake_quantize_per_tensor_affine(theirs, scale, zero_point, q_min, q_max)
    cotangent = values(seed + 1, len(x))
    y.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_scale_a_channel_is_torch_fake_quantize_per_channel(bits):
    q_min, q_max = levels(bits, signed=True, symmetric=True)
    x, scale = values(0, 5, 3, 4, 4), torch.linspace(0.05, 0.9, 5)
    column = scale.reshape(5, 1, 1, 1)
    x = torch.where(away_from_ties(x, column), x, x + 0.1 * column)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = fake_quantize_ste(ours, column, bits=bits, signed=True, symmetric=True)
    zeros = torch.zeros(5, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(theirs, scale, zeros, 0, q_min, q_max)
    cotangent = values(1, *x.shape)
    y.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8))
def test_forward_is_the_affine_map_and_a_second_pass_changes_nothing(seed, bits):
    x = values(seed, 400)
    scale, zero_point = affine_params(x.min(), x.max(), bits)
    x = x[away_from_ties(x, scale)]
    y = fake_quantize_ste(x, scale, zero_point, bits=bits)
    torch.testing.assert_close(y, fake_quantize(x, scale, zero_point, bits=bits), rtol=1e-6, atol=1e-7)
    assert torch.equal(fake_quantize_ste(y, scale, zero_point, bits=bits), y)
    assert len(y.unique()) <= 2**bits


def test_gradient_is_one_inside_and_zero_where_the_value_is_clipped():
    x = torch.tensor([-1.6, -1.4, 0.2, 1.9, 2.4, 2.6], requires_grad=True)
    y = fake_quantize_ste(x, 1.0, 1, bits=2)  # levels 0..3 around 1: values -1, 0, 1, 2
    y.sum().backward()
    assert y.tolist() == [-1.0, -1.0, 0.0, 2.0, 2.0, 2.0]
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_a_network_with_rounded_weights_learns_only_through_the_estimator():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    y = x @ torch.tensor([1.0, -1.0, 0.0, 1.0, 0.0])

    def loss_after(rounding):
        w = torch.full((5,), 0.3, requires_grad=True)
        for _ in range(60):
            loss = (x @ rounding(w) - y).square().mean()
            gradient = torch.autograd.grad(loss, w, allow_unused=True)[0]
            w.data -= 0.05 * gradient
        return float((x @ rounding(w) - y).square().mean().detach())

    assert loss_after(lambda w: torch.round(w)) == pytest.approx(float(y.square().mean()))  # never moved
    assert loss_after(round_ste) == 0.0


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), torch.tensor([1.0, 0.0])])
def test_a_bad_scale_is_refused(scale):
    with pytest.raises(ValueError, match="positive and finite"):
        fake_quantize_ste(torch.ones(2), scale, bits=4)


def test_bad_bits_are_refused():
    with pytest.raises(ValueError, match="bits"):
        fake_quantize_ste(torch.ones(2), 1.0, bits=1)
