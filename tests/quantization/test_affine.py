"""The affine map: exact fractions and all levels by brute force, torch's fake quantization as the peer."""

from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dca_lab.quantization.affine import affine_params, dequantize, fake_quantize, levels, quantize

LARGEST = torch.finfo(torch.float32).max
FLOATS = st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=True)
ORDINARY = st.floats(-100, 100, width=32)
GRIDS = st.sampled_from(
    [
        (bits, sym, signed)
        for bits in (2, 3, 4, 5, 7, 8, 12, 16)
        for sym in (False, True)
        for signed in {sym, True}
    ]
)


def grid_of(grid):
    bits, symmetric, signed = grid
    return {"bits": bits, "symmetric": symmetric, "signed": signed}


def params(low, high, grid):
    bits, symmetric, signed = grid
    return affine_params(low, high, bits, symmetric, signed=signed)


def exact(tensor):
    return [Fraction(value) for value in tensor.double().flatten().tolist()]


@settings(deadline=None, max_examples=50)
@given(values=st.lists(FLOATS | ORDINARY, min_size=1, max_size=20), grid=GRIDS)
@example(values=[3.0, 4.0, 5.0, 6.0], grid=(8, False, False))
@example(
    values=[0.5, 0.0, 1.0], grid=(8, False, False)
)  # 127.5 steps: a tie at a level that float32 would round
@example(values=[-1.0, 1.0], grid=(8, False, False))  # the zero point is rounded by half a step
@example(values=[0.0, 0.0], grid=(8, False, False))
@example(values=[-7.5] * 5, grid=(4, True, True))
@example(values=[1e-45], grid=(8, False, False))
@example(values=[-1e-45, 3e-44, 1e-40], grid=(3, True, True))
@example(values=[-3e38, 3e38], grid=(8, False, False))
@example(values=[-LARGEST, LARGEST], grid=(2, False, False))
@example(values=[-LARGEST, LARGEST], grid=(2, True, True))
@example(values=[LARGEST, 1e-45, -1.0], grid=(16, False, True))
def test_the_error_is_at_most_half_a_step_without_any_tolerance(values, grid):
    x = torch.tensor(values, dtype=torch.float32)
    scale, zero_point = params(x.min(), x.max(), grid)
    y = fake_quantize(x, scale, zero_point, **grid_of(grid))
    assert scale.dtype == y.dtype == torch.float32 and zero_point.dtype == torch.int32
    assert scale > 0 and torch.isfinite(scale) and torch.isfinite(1 / scale) and torch.isfinite(y).all()
    assert ((x - y).abs() <= scale / 2).all()
    half = exact(scale)[0] / 2
    assert all(abs(a - b) <= half for a, b in zip(exact(x), exact(y), strict=True))


@settings(deadline=None, max_examples=50)
@given(
    ends=st.tuples(ORDINARY, ORDINARY).map(sorted), shares=st.lists(st.floats(0, 1), max_size=20), grid=GRIDS
)
def test_the_bound_holds_for_every_point_of_the_range_not_only_its_ends(ends, shares, grid):
    low, high = torch.tensor(ends, dtype=torch.float32)
    scale, zero_point = params(low, high, grid)
    inside = (low + torch.tensor(shares, dtype=torch.float32) * (high - low)).clamp(low, high)
    # The hard points: the middle between two levels, and its neighbours in float32.
    q_min, q_max = levels(grid[0], signed=grid[2], symmetric=grid[1])
    middle = ((torch.arange(q_min, q_max).double() - zero_point + 0.5) * scale).float()
    middle = torch.cat([middle, middle.nextafter(torch.tensor(inf)), middle.nextafter(torch.tensor(-inf))])
    x = torch.cat([inside, middle[(middle >= low) & (middle <= high)]])
    y = fake_quantize(x, scale, zero_point, **grid_of(grid))
    assert ((x.double() - y.double()).abs() <= scale.double() / 2).all()


@settings(deadline=None, max_examples=50)
@given(
    x=st.lists(ORDINARY, min_size=1, max_size=6), ends=st.tuples(ORDINARY, ORDINARY).map(sorted), grid=GRIDS
)
def test_no_level_is_nearer_also_outside_the_range(x, ends, grid):
    x = torch.tensor(x)
    scale, zero_point = params(*ends, grid)
    q = quantize(x, scale, zero_point, **grid_of(grid))
    q_min, q_max = levels(grid[0], signed=grid[2], symmetric=grid[1])
    assert q.dtype == torch.int32 and q.min() >= q_min and q.max() <= q_max
    every = (
        torch.arange(q_min, q_max + 1).double() - zero_point
    ) * scale.double()  # exact: 16 + 17 bits at most
    nearest = (x.double()[:, None] - every).abs().min(dim=1).values
    assert torch.equal((x.double() - dequantize(q, scale, zero_point).double()).abs(), nearest)


@settings(deadline=None, max_examples=50)
@given(ends=st.tuples(FLOATS, FLOATS).map(sorted), grid=GRIDS)
def test_zero_is_a_level_and_every_level_is_exactly_a_float32(ends, grid):
    scale, zero_point = params(*ends, grid)
    assert fake_quantize(torch.zeros(3), scale, zero_point, **grid_of(grid)).tolist() == [0.0, 0.0, 0.0]
    q_min, q_max = levels(grid[0], signed=grid[2], symmetric=grid[1])
    assert q_min <= zero_point <= q_max
    q = torch.tensor(sorted({q_min, q_min + 1, (q_min + q_max) // 3, int(zero_point) + 1, q_max - 1, q_max}))
    wanted = [(int(level) - int(zero_point)) * exact(scale)[0] for level in q]
    got = exact(dequantize(q, scale, zero_point))
    largest = Fraction(LARGEST)
    assert got == [max(-largest, min(largest, value)) for value in wanted]


@settings(deadline=None, max_examples=50)
@given(ends=st.tuples(ORDINARY, ORDINARY).map(sorted), grid=GRIDS)
def test_the_scale_is_never_below_the_ideal_one_and_hardly_above(ends, grid):
    low, high = (Fraction(end) for end in (min(ends[0], 0.0), max(ends[1], 0.0)))
    q_min, q_max = levels(grid[0], signed=grid[2], symmetric=grid[1])
    ideal = max(-low, high) / q_max if grid[1] else (high - low) / (q_max - q_min)
    scale, _ = params(*ends, grid)
    if ideal > Fraction(2) ** -126:
        bits_kept = 24 - (q_max - (0 if grid[1] else q_min)).bit_length()
        assert (
            ideal * (1 - Fraction(2) ** -50)
            <= exact(scale)[0]
            <= ideal * (1 + Fraction(2) ** (1 - bits_kept))
        )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20), bits=st.integers(2, 8), shift=st.floats(-3, 3))
def test_torch_fake_quantize_agrees_but_for_quotients_within_its_rounding_of_a_tie(seed, bits, shift):
    x = torch.randn(4, 200, generator=torch.Generator().manual_seed(seed)) + shift
    scale, zero_point = affine_params(x.min(), x.max(), bits)
    ours = fake_quantize(x, scale, zero_point, bits=bits)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 2**bits - 1)
    fraction = (x.double() / scale.double()).frac().abs()
    clear = (fraction - 0.5).abs() > 2**-14
    assert clear.float().mean() > 0.9 and torch.equal(ours[clear], theirs[clear])
    assert ((ours - theirs).abs() <= scale).all()
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    scale, zero_point = affine_params(low, high, bits, True)
    top = 2 ** (bits - 1) - 1
    theirs = torch.fake_quantize_per_channel_affine(x, scale.flatten(), zero_point.flatten(), 0, -top, top)
    clear = ((x.double() / scale.double()).frac().abs() - 0.5).abs() > 2**-14
    assert torch.equal(fake_quantize(x, scale, zero_point, bits=bits, symmetric=True)[clear], theirs[clear])


def test_torch_agrees_at_every_tie_if_the_scale_is_a_power_of_two():
    x = torch.arange(-200, 300) / 4  # many exact ties with scale 1/2
    assert torch.equal(
        quantize(x, 0.5, 60), torch.from_numpy(np.rint(x.numpy() / 0.5) + 60).clamp(0, 255).int()
    )
    theirs = torch.fake_quantize_per_tensor_affine(x, 0.5, 60, 0, 255)
    assert torch.equal(fake_quantize(x, 0.5, 60), theirs)


@pytest.mark.parametrize(
    ("values", "scale", "zero_point"),
    [
        ([0.0, 0.0], 1.0, 0),  # every scale is exact
        ([0.0, 255.0], 1.0, 0),
        ([-255.0, -3.0], 1.0, 255),
        ([-128.0, 127.0], 1.0, 128),
        ([3.0, 3.0], 3 / 255, 0),
    ],
)
def test_parameters_that_are_known_by_hand(values, scale, zero_point):
    got = affine_params(*values)
    assert got[0].item() == pytest.approx(scale, rel=2**-15) and got[1].item() == zero_point
    assert affine_params(*values, signed=True)[1].item() == zero_point - 128


def test_ranges_of_any_shape_give_parameters_of_that_shape():
    low, high = -torch.rand(2, 3, 1), torch.rand(1, 3, 4)
    scale, zero_point = affine_params(low, high)
    assert scale.shape == zero_point.shape == (2, 3, 4)
    one = affine_params(low[1, 2, 0], high[0, 2, 3])
    assert scale[1, 2, 3] == one[0] and zero_point[1, 2, 3] == one[1]


@settings(deadline=None, max_examples=30)
@given(x=st.lists(FLOATS, min_size=1, max_size=20), grid=GRIDS)
def test_a_quantized_tensor_stays_as_it_is_order_is_kept_and_symmetric_grids_are_odd(x, grid):
    x = torch.tensor(sorted(x), dtype=torch.float32)
    scale, zero_point = params(x[0], x[-1], grid)
    q = quantize(x, scale, zero_point, **grid_of(grid))
    assert (q.diff() >= 0).all()
    again = quantize(dequantize(q, scale, zero_point), scale, zero_point, **grid_of(grid))
    assert torch.equal(again, q)
    if grid[1]:
        assert torch.equal(quantize(-x, scale, zero_point, **grid_of(grid)), -q)


def test_half_precision_and_float64_are_taken_and_gradients_left_behind():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        x = torch.tensor([-1.0, 0.3, 2.0], dtype=dtype, requires_grad=True)
        scale, zero_point = affine_params(x.min(), x.max())
        y = fake_quantize(x, scale, zero_point)
        assert y.dtype == torch.float32 and not y.requires_grad
        assert ((x.detach().double() - y.double()).abs() <= scale.double() / 2).all()
    assert quantize(torch.zeros(0, 3), 1.0, 0).shape == (0, 3)


def test_levels_are_those_of_the_integer_types():
    for bits, dtype in ((8, torch.int8), (16, torch.int16)):
        info = torch.iinfo(dtype)
        assert levels(bits, signed=True) == (info.min, info.max)
        assert levels(bits, signed=True, symmetric=True) == (-info.max, info.max)
    assert levels(8, signed=False) == (0, torch.iinfo(torch.uint8).max)
    assert levels(2, signed=True, symmetric=True) == (-1, 1)


def test_integers_of_numpy_are_bits_and_whole_floats_are_levels():
    for bits in (np.uint8(8), np.int64(16)):
        ours, plain = affine_params(-1.0, 2.0, bits), affine_params(-1.0, 2.0, int(bits))
        assert ours == plain and levels(bits, signed=True) == levels(int(bits), signed=True)
    q = torch.tensor([[0.0, 3.0], [-7.0, 255.0]])
    assert torch.equal(dequantize(q, 0.5, 3), dequantize(q.int(), 0.5, 3))


@pytest.mark.parametrize("bits", [1, 17, 0, -8, 8.0, True, "8"])
def test_impossible_bits_are_refused(bits):
    with pytest.raises(ValueError, match="bits must be an integer from 2 to 16"):
        affine_params(-1.0, 1.0, bits)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affine_params(nan, 1.0), "x_min must be finite"),
        (lambda: affine_params(0.0, inf), "x_max must be finite"),
        (lambda: affine_params(-1e39, 1.0), "x_min must be finite and fit float32"),
        (lambda: affine_params(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])), "must not exceed"),
        (lambda: affine_params(-1.0, 1.0, symmetric=True, signed=False), "symmetric grid has negative"),
        (lambda: quantize(torch.tensor([1.0, nan]), 1.0, 0), "1 of 2 values are NaN"),
        (lambda: quantize(torch.tensor([inf]), 1.0, 0), "infinite"),
        (lambda: quantize(torch.ones(2), 0.0, 0), "scale must be positive"),
        (lambda: quantize(torch.ones(2), inf, 0), "scale must be positive and finite"),
        (lambda: quantize(torch.ones(2), 1.0, 256), "zero_point 256 is not one of the levels 0 to 255"),
        (lambda: quantize(torch.ones(2), 1.0, -1), "zero_point -1"),
        (lambda: quantize(torch.ones(2), 1.0, 0.5), "zero_point must be an integer"),
        (lambda: quantize(torch.ones(4, 3), torch.ones(4), 0), "does not broadcast"),
        (lambda: quantize(torch.ones(4), torch.ones(2, 4), 0), "does not broadcast"),
        (lambda: dequantize(torch.ones(4, 3).int(), torch.ones(4), 0), "does not broadcast"),
        (lambda: dequantize(torch.tensor([1.0, 1.7]), 1.0, 0), "whole numbers"),
        (lambda: dequantize(torch.tensor([nan]), 1.0, 0), "whole numbers"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
