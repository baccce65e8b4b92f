"""Oracle: the same sums in 64-bit integers, and the error bound of rounding both factors."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.measure import size_on_disk
from dca_lab.models import LeNet300, TransformerLM, build, example_input
from dca_lab.quantization.affine import affine_params
from dca_lab.quantization.dynamic import DynamicLinear, quantize_dynamic
from dca_lab.quantization.dynamic_gru import DynamicGRU
from dca_lab.training import predict


def layer_and_input(inputs, outputs, rows, seed, *, bias=True, size=1.0):
    """A linear layer and a batch whose rows are of very unequal size."""
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(rows, inputs, generator=generator)
    return linear, size * x * torch.logspace(-2, 2, rows)[:, None]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(2, 8),
    st.sampled_from(["tensor", "row"]),
    st.booleans(),
    st.sampled_from([1e-3, 1.0, 1e4]),
    st.integers(0, 99),
)
def test_sums_are_those_of_integers(inputs, outputs, rows, bits, activations, bias, size, seed):
    linear, x = layer_and_input(inputs, outputs, rows, seed, bias=bias, size=size)
    layer = DynamicLinear(linear.weight.detach(), linear.bias, weight_bits=bits, activations=activations)
    low, high = (x.amin(1), x.amax(1)) if activations == "row" else (x.min(), x.max())
    scale, zero = (part.numpy().astype(np.float64) for part in affine_params(low, high))
    scale, zero = np.broadcast_to(scale, rows)[:, None], np.broadcast_to(zero, rows)[:, None]
    levels = np.clip(np.rint(x.numpy().astype(np.float64) / scale) + zero, 0, 255).astype(np.int64)
    sums = (levels - zero.astype(np.int64)) @ layer.weight.numpy().astype(np.int64).T
    want = sums * scale * layer.weight_scale.numpy() + (
        0 if linear.bias is None else linear.bias.detach().numpy()
    )
    np.testing.assert_allclose(layer(x).numpy(), want, rtol=1e-5, atol=1e-6 * size)
    # rounding moves a weight by half its scale at most, and an activation likewise
    assert layer.weight.abs().max() <= 2 ** (bits - 1) - 1
    error = (layer(x).double() - linear(x).detach().double()).abs().numpy()
    exact = np.abs(linear.weight.detach().double().numpy())
    moved = 0.5 * layer.weight_scale.double().numpy()
    bound = 0.5 * scale * exact.sum(1) + np.abs((levels - zero) * scale).sum(1, keepdims=True) * moved
    assert (error <= bound * (1 + 1e-4) + 1e-5 * size).all()


def test_rows_do_not_see_each_other_only_where_each_has_its_scale():
    linear, x = layer_and_input(32, 8, 4, 0)
    row = DynamicLinear(linear.weight.detach(), activations="row")
    assert torch.equal(row(x)[:1], row(x[:1]))
    tensor = DynamicLinear(linear.weight.detach())
    assert not torch.allclose(
        tensor(x)[:1], tensor(x[:1]), rtol=0.1
    )  # the small row lost its digits to the large
    y = linear(x).detach()[:1] - linear.bias.detach()
    assert (row(x)[:1] - y).norm() < 0.1 * (tensor(x)[:1] - y).norm()


@pytest.mark.parametrize("shape", [(16,), (3, 16), (2, 3, 16), (0, 16), (2, 0, 16)])
def test_any_number_of_axes(shape):
    layer = DynamicLinear(torch.randn(5, 16), torch.randn(5))
    assert layer(torch.randn(shape)).shape == (*shape[:-1], 5)


def test_zeros_and_constants():
    layer = DynamicLinear(torch.zeros(2, 4), torch.tensor([1.0, -2.0]))
    assert torch.equal(layer(torch.zeros(3, 4)), torch.tensor([[1.0, -2.0]] * 3))
    x = torch.full((1, 3), -7.0)  # the scale is rounded up to 16 bits
    torch.testing.assert_close(DynamicLinear(torch.eye(3))(x), x, rtol=2**-15, atol=0)


@pytest.mark.parametrize("name", ["lenet-300-100", "transformer-lm", "gru"])
def test_models_stay_close_and_are_a_quarter(name):
    model = build(name, seed=0)
    x = example_input(name, 4)
    small = quantize_dynamic(model, activations="row")
    y = predict(model, x)
    assert (predict(small, x) - y).norm() < 0.03 * y.norm()
    kinds = [type(module) for module in small.modules()]
    assert DynamicLinear in kinds and nn.Linear not in kinds and nn.GRU not in kinds
    assert kinds.count(nn.LayerNorm) == [type(module) for module in model.modules()].count(nn.LayerNorm)
    assert model.training and not small.training


def test_the_file_holds_bytes_and_reads_back():
    model = LeNet300()
    small, other = quantize_dynamic(model), quantize_dynamic(LeNet300())
    state = small.state_dict()
    assert state["fc1.weight"].dtype == torch.int8 and state["fc1.weight"].shape == (300, 784)
    assert size_on_disk(small) <= 0.27 * size_on_disk(model)
    x = torch.randn(3, 784)
    assert not torch.equal(other(x), small(x))
    other.load_state_dict(state)
    assert torch.equal(other(x), small(x))


def test_what_is_exchanged_and_what_is_left():
    both = nn.ModuleDict({"gru": nn.GRU(4, 3), "fc": nn.Linear(3, 2), "norm": nn.LayerNorm(2)})
    before = copy.deepcopy(both.state_dict())
    only = quantize_dynamic(both, layers=(nn.Linear,))
    assert isinstance(only["gru"], nn.GRU) and isinstance(only["fc"], DynamicLinear)
    only = quantize_dynamic(both, layers=[nn.GRU])
    assert isinstance(only["gru"], DynamicGRU) and isinstance(only["fc"], nn.Linear)
    assert all(torch.equal(value, before[key]) for key, value in both.state_dict().items())
    shared = nn.Linear(4, 4)
    twice = quantize_dynamic(nn.Sequential(shared, nn.ReLU(), shared))
    assert twice[0] is twice[2]
    assert isinstance(quantize_dynamic(shared), DynamicLinear)
    attention = quantize_dynamic(
        nn.TransformerEncoderLayer(8, 2, 16)
    )  # reads the weights of its own linear layer
    assert isinstance(attention.linear1, DynamicLinear)
    assert isinstance(attention.self_attn.out_proj, nn.Linear)
    assert isinstance(quantize_dynamic(nn.Sequential(nn.Linear(3, 2)), layers=nn.Linear)[0], DynamicLinear)
    masked = nn.Linear(4, 4)
    torch.nn.utils.parametrizations.weight_norm(masked)
    assert isinstance(quantize_dynamic(nn.Sequential(masked))[0], DynamicLinear)


def test_a_language_model_keeps_its_guess():
    model = build("transformer-lm", seed=1)
    x = example_input("transformer-lm", 4)
    guess, small = predict(model, x), predict(quantize_dynamic(model, activations="row"), x)
    assert (guess.argmax(-1) == small.argmax(-1)).float().mean() > 0.9


def test_bad_input():
    with pytest.raises(ValueError, match="none of the layers"):
        quantize_dynamic(nn.Sequential(nn.Conv2d(1, 2, 3)))
    for layers in ((nn.LSTM,), (), (nn.Linear, nn.Conv2d), nn.Conv2d, None):
        with pytest.raises(ValueError, match="knows nn.Linear and nn.GRU"):
            quantize_dynamic(TransformerLM(), layers=layers)
    broken = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        broken[1].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer '1'"):
        quantize_dynamic(broken)
    for bits in (1, 9, "8", 4.5, True):
        with pytest.raises(ValueError, match="^weight_bits"):
            quantize_dynamic(nn.Linear(3, 2), weight_bits=bits)
    with pytest.raises(ValueError, match="choose one of"):
        quantize_dynamic(nn.Linear(3, 2), activations="column")
    with pytest.raises(ValueError, match="a matrix"):
        DynamicLinear(torch.zeros(3))
    with pytest.raises(ValueError, match="bias"):
        DynamicLinear(torch.zeros(2, 3), torch.tensor([0.0, float("inf")]))
    layer = DynamicLinear(torch.ones(2, 3))
    with pytest.raises(ValueError, match="must hold 3 values"):
        layer(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="NaN|finite"):
        layer(torch.tensor([[0.0, 1.0, float("nan")]]))
    assert repr(layer) == "DynamicLinear(3, 2, activations='tensor')"
