"""Integer matrix products and convolutions, against torch in float64 (exact for such integers) and Python integers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dca_lab.quantization.products import convolution, exact_product, windows
from dca_lab.quantization.saturation import HIGHEST, LOWEST, can_saturate, saturating_product


def _random(seed, low, high, shape, dtype):
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _brute_force(levels, weight):
    """vpmaddubsw as its manual describes it, in Python integers."""
    rows, channels = levels.tolist(), weight.tolist()
    total = []
    for q in rows:
        sums = []
        for w in channels:
            products = [a * b for a, b in zip(q, w, strict=True)] + [0] * (len(q) % 2)
            pairs = zip(products[::2], products[1::2], strict=True)
            sums.append(sum(min(max(a + b, -32768), 32767) for a, b in pairs))
        total.append(sums)
    return torch.tensor(total, dtype=torch.int32)


sizes = st.integers(1, 9)


@given(P=sizes, K=sizes, n=sizes, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_saturating_product_equals_brute_force(P, K, n, seed):
    levels = _random(seed, 0, 255, (P, K), torch.uint8)
    weight = _random(seed + 1, -127, 127, (n, K), torch.int8)
    result = saturating_product(levels, weight)
    assert result.dtype == torch.int32 and torch.equal(result, _brute_force(levels, weight))


@given(P=sizes, K=sizes, n=sizes, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_exact_product_equals_float64(P, K, n, seed):
    levels = _random(seed, 0, 255, (P, K), torch.uint8)
    weight = _random(seed + 1, -128, 127, (n, K), torch.int8)
    assert torch.equal(exact_product(levels, weight).double(), levels.double() @ weight.double().T)


def test_a_pair_of_extremes_saturates_with_8_bits_and_never_with_7():
    levels = torch.cartesian_prod(torch.tensor([0, 255]), torch.tensor([0, 255])).to(torch.uint8)
    for bits, fits in ((8, False), (7, True)):
        top = 2 ** (bits - 1) - 1
        values = torch.arange(-top, top + 1)
        weight = torch.cartesian_prod(values, values).to(torch.int8)  # every pair of weights there is
        exact, saturated = exact_product(levels, weight), saturating_product(levels, weight)
        assert torch.equal(saturated, exact.clamp(LOWEST, HIGHEST))
        assert torch.equal(saturated, exact) == fits
        # a pair's sum is linear in both levels: its extremes are at these four corners
        assert torch.equal(can_saturate(weight), (exact != saturated).any(0))
    assert 2 * 255 * 63 <= HIGHEST < 2 * 255 * 127


@given(seed=st.integers(0, 999), K=st.integers(1, 12))
@settings(deadline=None, max_examples=30)
def test_where_nothing_can_saturate_nothing_does(seed, K):
    levels = _random(seed, 0, 255, (20, K), torch.uint8)
    weight = _random(seed + 1, -80, 80, (6, K), torch.int8)
    safe = ~can_saturate(weight)
    exact, saturated = exact_product(levels, weight), saturating_product(levels, weight)
    assert torch.equal(saturated[:, safe], exact[:, safe])


@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_convolution_equals_torch(groups, kernel, stride, dilation, padding, seed):
    x = _random(seed, 0, 255, (2, 4, 7, 6), torch.uint8)
    weight = _random(seed + 1, -127, 127, (8, 4 // groups, *kernel), torch.int8)
    y = convolution(x, weight, stride=stride, dilation=dilation, padding=padding, groups=groups, fill=11)
    top, bottom, left, right = padding
    padded = F.pad(x.double(), (left, right, top, bottom), value=11.0)
    expected = F.conv2d(padded, weight.double(), stride=stride, dilation=dilation, groups=groups)
    assert y.dtype == torch.int32 and torch.equal(y.double(), expected)


def test_neighbours_of_a_convolution_are_channels():
    # one pixel of two channels at their highest: the pair is cut off; the same pixels in two columns are no pair
    x, weight = (
        torch.full((1, 2, 1, 2), 255, dtype=torch.uint8),
        torch.full((1, 2, 1, 2), 127, dtype=torch.int8),
    )
    options = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0), "fill": 0, "groups": 1}
    both = convolution(x, weight, **options, product=saturating_product)
    assert both.item() == 2 * HIGHEST
    weight[:, 1] = 0
    assert convolution(x, weight, **options, product=saturating_product).item() == 2 * 255 * 127


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3)])
def test_windows_equal_unfold(kernel):
    x = _random(0, 0, 255, (2, 3, 6, 7), torch.uint8)
    seen = windows(x, kernel, stride=(2, 1), dilation=(1, 2), padding=(1, 1, 0, 0), fill=0)
    unfolded = F.unfold(x.double(), kernel, stride=(2, 1), dilation=(1, 2), padding=(1, 0))  # (B, C kh kw, L)
    B, H, W = seen.shape[:3]
    assert torch.equal(seen.permute(0, 5, 3, 4, 1, 2).reshape(B, -1, H * W).double(), unfolded)
