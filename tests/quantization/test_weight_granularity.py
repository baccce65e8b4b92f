"""Granularity: each part has the extremes that a loop finds, and the bound of its own scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.affine import affine_params, fake_quantize
from dca_lab.quantization.granularity import grouped, ranges, weight_params


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channel_ranges_are_those_of_a_loop(axis):
    x = normal(3, 4, 5)
    low, high = ranges(x, granularity="channel", axis=axis)
    assert (low <= x).all() and (high >= x).all() and low.shape == high.shape
    assert low.dim() == 3 and low.numel() == x.shape[axis]
    for index in range(x.shape[axis]):
        part = x.select(axis, index)
        assert low.flatten()[index] == part.min() and high.flatten()[index] == part.max()


def test_tensor_ranges_have_no_axis_and_a_vector_has_one_channel_an_entry():
    x = normal(6)
    assert [end.shape for end in ranges(x)] == [(), ()]
    low, high = ranges(x, granularity="channel")
    assert torch.equal(low, x) and torch.equal(high, x)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 4), groups=st.integers(1, 4), size=st.integers(1, 5), seed=st.integers(0, 99))
def test_groups_are_neighbours_in_a_row_and_lead_back(rows, groups, size, seed):
    weight = normal(rows, groups * size, seed=seed)
    parts = grouped(weight, size)
    low, high = ranges(weight, granularity="group", group_size=size)
    assert parts.shape == (rows, groups, size) and low.shape == high.shape == (rows, groups, 1)
    for row in range(rows):
        for group in range(groups):
            neighbours = weight[row, group * size : (group + 1) * size]
            assert torch.equal(parts[row, group], neighbours)
            assert low[row, group, 0] == neighbours.min() and high[row, group, 0] == neighbours.max()
    assert torch.equal(parts.reshape(weight.shape), weight)


def test_groups_of_a_convolution_run_along_its_flattened_filters():
    weight = normal(4, 2, 3, 3)
    assert torch.equal(grouped(weight, 9), weight.flatten(1).reshape(4, 2, 9))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_weight_params_are_the_affine_params_of_each_part_and_finer_parts_have_smaller_scales(
    bits, symmetric
):
    weight = normal(6, 32) * torch.logspace(-2, 2, 6)[:, None]
    options = {"bits": bits, "symmetric": symmetric}
    whole, _ = weight_params(weight, granularity="tensor", **options)
    channel, channel_zero = weight_params(weight, **options)
    group, group_zero = weight_params(weight, granularity="group", group_size=8, **options)
    assert whole.shape == () and channel.shape == (6, 1) and group.shape == (6, 4, 1)
    assert (group <= channel[:, None]).all() and (channel <= whole).all()
    for row in range(6):
        wanted = affine_params(weight[row].min(), weight[row].max(), bits, symmetric)
        assert channel[row, 0] == wanted[0] and channel_zero[row, 0] == wanted[1]
    parts = grouped(weight, 8)
    for x, scale, zero_point in ((weight, channel, channel_zero), (parts, group, group_zero)):
        assert ((x - fake_quantize(x, scale, zero_point, **options)).abs() <= scale / 2).all()


def test_transposed_convolutions_have_their_channels_on_axis_1():
    weight = normal(3, 5, 2, 2)
    scale, _ = weight_params(weight, bits=8, axis=1)
    assert scale.shape == (1, 5, 1, 1)
    for channel in range(5):
        alone, _ = weight_params(weight[:, channel], bits=8, granularity="tensor")
        assert scale[0, channel] == alone


def test_one_large_filter_takes_the_levels_of_its_neighbours_unless_channels_have_their_own():
    weight = normal(8, 64)
    weight[0] *= 300
    errors = {}
    for granularity in ("tensor", "channel"):
        scale, zero_point = weight_params(weight, bits=8, granularity=granularity)
        wrong = fake_quantize(weight, scale, zero_point, symmetric=True) - weight
        errors[granularity] = (wrong[1:].norm() / weight[1:].norm()).item()
    assert errors["tensor"] > 0.5 and errors["channel"] < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ranges(torch.ones(3), granularity="row"), "granularity must be one of"),
        (lambda: ranges(torch.ones(0, 3)), "has no range"),
        (lambda: ranges(torch.ones(3, 3), granularity="channel", axis=2), "axis 2 is not an axis"),
        (lambda: ranges(torch.ones(3, 3), granularity="group"), "group_size goes with"),
        (lambda: ranges(torch.ones(3, 3), granularity="channel", group_size=3), "group_size goes with"),
        (lambda: grouped(torch.ones(3, 10), 4), r"4 does not divide a row of 10 weights; \[1, 2, 5, 10\] do"),
        (lambda: grouped(torch.ones(12), 4), "rows of a weight"),
        (lambda: grouped(torch.ones(3, 10), 0), "positive integer"),
        (lambda: weight_params(torch.tensor([[1.0, float("nan")]]), bits=8), "must be finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
