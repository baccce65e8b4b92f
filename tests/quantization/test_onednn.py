"""Oracle: the integer reference for every step, and exact arithmetic for an addition that a convolution takes in."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_networks import SHAPES, network
from static_networks import MAKERS
from static_networks import network as other_network
from torch import nn
from torch.nn import functional as F

from dca_lab.quantization import _processor, onednn
from dca_lab.quantization._onednn_kernels import convolution_and_sum, kernel_of
from dca_lab.quantization.graph import QuantizationError
from dca_lab.quantization.integer import integer_step
from dca_lab.quantization.onednn import OneDnnModel, available
from dca_lab.quantization.static import quantize_static

pytestmark = pytest.mark.skipif(not available(), reason="this PyTorch has no int8 kernels of oneDNN")


NETWORKS = {name: (network, name) for name in SHAPES}
NETWORKS |= {f"{name}, other": (other_network, name) for name in MAKERS}


def quantized(name, **options):
    """A network, its input, and its integers with weights that every processor adds exactly."""
    make, key = NETWORKS[name]
    model, x = make(key)
    return model, x, quantize_static(model, x[:32], reduce_range=True, **options)


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_is_that_of_the_integer_reference(name, bits):
    _, x, static = quantized(name, activation_bits=bits)
    reference = static.integers(x, every=True)
    for step in static.steps:
        inputs = [reference[source].clone() for source in step.inputs]
        if inputs[0].dim() == 4:
            inputs = [levels.contiguous(memory_format=torch.channels_last) for levels in inputs]
        found = kernel_of(step, static.sources(step))(*inputs)
        wanted = integer_step(step, inputs, static.sources(step))
        if step.grid is None:
            torch.testing.assert_close(found, static.real(step.name, wanted), rtol=1e-5, atol=1e-6)
        else:
            apart = (found.int() - wanted.int()).abs()
            # half a level either way where a float32 sum lies between two levels
            assert found.dtype == torch.uint8 and apart.max() <= 1 and (apart > 0).double().mean() < 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_agree_and_lose_no_more_than_the_integers(name):
    model, x, static = quantized(name)
    fast, integers = OneDnnModel(static)(x), static.integers(x)
    assert fast.dtype == torch.float32 and fast.shape == integers.shape
    with torch.no_grad():
        true = model.eval()(x)
    assert (fast - integers).norm() < 0.02 * integers.norm()
    assert (fast - true).norm() < 1.1 * (integers - true).norm() + 1e-3 * true.norm()
    again = OneDnnModel(static)
    assert torch.equal(again(x), again(x)) and torch.equal(again(x), fast)  # nothing it keeps is written over
    for count in (1, 2, 3, 5, 2, 1):  # weights are packed anew for each shape, and those of two are kept
        torch.testing.assert_close(again(x[:count]), fast[:count], rtol=1e-4, atol=1e-5)


def test_a_residual_network_takes_all_its_additions_in():
    _, _, static = quantized("resnet-18")
    fused = onednn._fused(static)
    assert len(fused) == 8 and all(inner.op == "conv2d" for inner in fused.values())
    names = [name for name, _, _ in OneDnnModel(static)._program]
    assert len(names) == len(static.steps) - 8 and not {inner.name for inner in fused.values()} & set(names)


class Sum(nn.Module):
    """A convolution whose output is only added to what another one made; who reads that one too is a choice."""

    def __init__(self, channels, relu, twice):
        super().__init__()
        self.a, self.b = (nn.Conv2d(2, channels, 3, padding=1) for _ in range(2))
        self.relu, self.twice = relu, twice

    def forward(self, x):
        a = self.a(x)
        y = a + self.b(x)
        y = F.relu(y) if self.relu else y
        return (y + a if self.twice else y).flatten(1)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 20),
    relu=st.booleans(),
    twice=st.booleans(),
    bits=st.integers(3, 8),
)
def test_a_sum_is_rounded_once(seed, channels, relu, twice, bits):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, x = Sum(channels, relu, twice).eval(), torch.randn(4, 2, 6, 5)
    static = quantize_static(model, x, reduce_range=True, activation_bits=bits, observer="minmax")
    levels = static.integers(x, every=True)
    (add, *_) = [step for step in static.steps if step.op == "add"]
    # the fused convolution in exact arithmetic: its real values are not rounded before they are added
    inner = onednn._fused(static).get(add.name)
    assert (inner is not None) == (bits == 8)  # a narrow grid would have clamped the convolution's output
    if inner is None:
        torch.testing.assert_close(
            OneDnnModel(static)(x), static.integers(x), rtol=0, atol=2 * add.grid.scale
        )
        return
    source, (other,) = static.sources(inner)[0], [n for n in add.inputs if n != inner.name]
    sums = F.conv2d(
        (levels["input"].double() - source.zero_point),
        inner.weight.double(),
        inner.bias.double(),
        padding=1,
    )
    real = sums * source.scale * inner.weight_scale.double().reshape(-1, 1, 1)
    real = real + (levels[other].double() - static.grids[other].zero_point) * static.grids[other].scale
    real = real.clamp(min=0) if relu else real
    exact = real / add.grid.scale + add.grid.zero_point
    kernel = convolution_and_sum(inner, source, add, static.grids[other], keep=True)
    channels_last = {"memory_format": torch.channels_last}
    y = levels[other].contiguous(**channels_last)
    found = kernel(levels["input"].contiguous(**channels_last), y)
    assert torch.equal(y, levels[other])  # kept
    assert (found.double() - exact.clamp(0, 255)).abs().max() <= 0.5 + 1e-3
    # who is read again is not written over: the whole network agrees, whatever reads the other branch
    torch.testing.assert_close(OneDnnModel(static)(x), static.integers(x), rtol=0, atol=3 * add.grid.scale)


class Reused(nn.Module):
    """Convolutions that read, when their addition runs at last, what another addition would like to write over."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))

    def forward(self, x):
        t = self.a(x)
        t = t + self.b(t)  # reads and adds the same tensor
        w = self.c(t)
        late = self.d(t)  # computed by the last addition
        return (t + x) + (late + w)


class SelfSum(Reused):
    """x + f(x) with one convolution, twice."""

    def forward(self, x):
        t = self.a(x)
        t = t + self.b(t)
        return t + self.c(t)


class Crossed(Reused):
    """An addition between a convolution and the addition that takes it in, over the tensor that both read."""

    def forward(self, x):
        w, t = self.a(x), self.b(x)
        late = self.c(t)
        middle = self.d(x) + t
        return (late + w).flatten(1) + middle.flatten(1)


@pytest.mark.parametrize("make", [Reused, SelfSum, Crossed])
def test_nothing_is_written_over_that_is_still_read(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = make().eval(), torch.randn(3, 4, 7, 6)
    static = quantize_static(model, x, reduce_range=True, observer="minmax")
    assert onednn._fused(static)
    fast, exact = OneDnnModel(static)(x), static.integers(x)
    assert (fast - exact).norm() < 0.02 * exact.norm()


class Wired(nn.Module):
    """Any wiring of convolutions and additions: each step names what it reads among the tensors so far."""

    def __init__(self, wiring):
        super().__init__()
        self.wiring = wiring
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in wiring)

    def forward(self, x):
        made = [x]
        for (first, second), convolution in zip(self.wiring, self.convolutions, strict=True):
            first = made[first % len(made)]
            made.append(convolution(first) if second is None else first + made[second % len(made)])
        unread = made[-3:]
        return torch.cat([part.flatten(1) for part in unread], 1)


@settings(deadline=None, max_examples=100)
@given(
    wiring=st.lists(
        st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9)), min_size=4, max_size=10
    ).filter(lambda wiring: any(second is None for _, second in wiring)),
    seed=st.integers(0, 2**31),
)
def test_any_wiring_of_convolutions_and_additions(wiring, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, x = Wired(wiring).eval(), torch.randn(2, 3, 6, 5)
    static = quantize_static(model, x, reduce_range=True, observer="minmax")
    fast, exact = OneDnnModel(static)(x), static.integers(x)
    with torch.no_grad():
        true = model(x)
    # a tensor that was written over is wrong by as much as it is large
    assert (fast - exact).norm() < 0.03 * exact.norm() + 2 * (exact - true).norm()


def test_errors_and_warnings(monkeypatch):
    model, x = network("lenet-300")
    wide = quantize_static(model, x[:32])
    with pytest.raises(QuantizationError, match="do not fit"):
        OneDnnModel(wide)(x[:, :, :3])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(QuantizationError, match="NaN or infinite"):
            OneDnnModel(wide)(torch.full_like(x[:2], bad))
    monkeypatch.setattr(_processor, "wants_reduced_range", lambda: True)
    with pytest.warns(RuntimeWarning, match="reduce_range"):
        OneDnnModel(wide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OneDnnModel(quantize_static(model, x[:32], reduce_range=True))
    monkeypatch.setattr(_processor, "is_x86", lambda: False)
    with pytest.raises(QuantizationError, match="export_int8"):
        OneDnnModel(wide)
