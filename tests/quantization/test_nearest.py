"""Round-to-nearest in groups: against a brute-force search, the bound of half a step, and torch's fake quantization."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization._checks import check_bits
from dca_lab.quantization.group_weights import GroupWeights
from dca_lab.quantization.nearest import group_grid, quantize_groupwise

floats = st.floats(-1000, 1000, width=32)


@st.composite
def matrices(draw, elements=floats):
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    values = draw(st.lists(elements, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float32).view(rows, columns)


options = dict(
    bits=st.integers(2, 8),
    group_size=st.sampled_from([1, 3, 4, 64, None]),
    symmetric=st.booleans(),
    scale_dtype=st.sampled_from([torch.float16, torch.float32]),
)


def spread(values, like, group_size):
    return values.double().repeat_interleave(group_size, dim=1)[:, : like.shape[1]]


@given(weight=matrices(), **options)
@settings(deadline=None, max_examples=50)
def test_no_weight_moves_by_more_than_half_a_step_and_zero_stays_zero(
    weight, bits, group_size, symmetric, scale_dtype
):
    found = quantize_groupwise(
        weight, bits=bits, group_size=group_size, symmetric=symmetric, scale_dtype=scale_dtype
    )
    step = spread(found.scale, weight, found.group_size)
    # The bound, and what float32 itself may lose in w / scale and (code - zero) * scale, both up to 2^bits steps.
    slack = 2.0 ** (bits - 23) * step if scale_dtype == torch.float16 else 2.0 ** (bits - 22) * step
    assert ((weight.double() - found.dequantize().double()).abs() <= step / 2 + slack).all()
    assert (found.dequantize()[weight == 0] == 0).all()
    assert found.scale.dtype == scale_dtype and (found.scale > 0).all()
    if symmetric:
        assert (found.zero_point == 2 ** (bits - 1)).all()


@given(weight=matrices(), **options)
@settings(deadline=None, max_examples=50)
def test_no_level_is_nearer_than_the_chosen_one(weight, bits, group_size, symmetric, scale_dtype):
    found = quantize_groupwise(
        weight, bits=bits, group_size=group_size, symmetric=symmetric, scale_dtype=scale_dtype
    )
    step = spread(found.scale, weight, found.group_size)[..., None]
    zero = spread(found.zero_point, weight, found.group_size)[..., None]
    every = (
        torch.arange(2**bits).double() - zero
    ) * step  # (O, I, 2^bits): all levels of each weight's group
    best = (weight.double()[..., None] - every).abs().amin(-1)
    chosen = (weight.double() - found.dequantize().double()).abs()
    assert (chosen <= best + 2.0 ** (bits - 22) * step[..., 0]).all()


@given(weight=matrices(), bits=st.integers(2, 8), symmetric=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_row_equals_torch_fake_quantization_on_the_same_grid(weight, bits, symmetric):
    found = quantize_groupwise(
        weight, bits=bits, group_size=None, symmetric=symmetric, scale_dtype=torch.float32
    )
    for row, ours, scale, zero in zip(weight, found.dequantize(), found.scale, found.zero_point, strict=True):
        if scale < 1e-37:
            continue  # torch multiplies by 1 / scale, which float32 cannot hold here
        oracle = torch.fake_quantize_per_tensor_affine(row, float(scale), int(zero), 0, 2**bits - 1)
        # torch multiplies by 1 / scale: a weight in the middle of two levels may go to either.
        middle = ((row.double() / scale.double()) % 1 - 0.5).abs() < 1e-4
        torch.testing.assert_close(ours[~middle], oracle[~middle])
        assert (ours - oracle).abs().max() <= scale.squeeze() * 1.001


@given(weight=matrices(), bits=st.integers(2, 8), symmetric=st.booleans())
@settings(deadline=None, max_examples=30)
def test_the_range_ends_on_the_grid_by_the_formula(weight, bits, symmetric):
    scale, zero = group_grid(weight, bits=bits, symmetric=symmetric, scale_dtype=torch.float32)
    for row, s, z in zip(weight.double().numpy(), scale.double().numpy(), zero.numpy(), strict=True):
        low, high = min(row.min(), 0.0), max(row.max(), 0.0)
        exact = max(-low, high) / (2 ** (bits - 1) - 1) if symmetric else (high - low) / (2**bits - 1)
        if exact < 1e-37:
            continue  # beyond what float32 divides exactly; the bound of half a step is tested above
        assert s == pytest.approx(exact, rel=1e-6)
        if not symmetric:
            assert abs(z - -low / exact) <= 0.5 + 1e-4


@given(weight=matrices(), bits=st.integers(2, 8), symmetric=st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_float16_scale_is_the_exact_one_rounded_up(weight, bits, symmetric):
    single, _ = group_grid(weight, bits=bits, symmetric=symmetric, scale_dtype=torch.float32)
    half, _ = group_grid(weight, bits=bits, symmetric=symmetric)
    values = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)  # every positive one
    expected = values[np.searchsorted(values, single.double().numpy())]
    np.testing.assert_array_equal(half.double().numpy(), expected)


@given(weight=matrices(), group_size=st.integers(1, 12))
@settings(deadline=None, max_examples=30)
def test_each_group_is_quantized_as_if_it_were_alone(weight, group_size):
    whole = quantize_groupwise(weight, bits=3, group_size=group_size).dequantize()
    parts = [
        quantize_groupwise(part, bits=3, group_size=None).dequantize()
        for part in weight.split(group_size, dim=1)
    ]
    assert torch.equal(whole, torch.cat(parts, dim=1))


def test_quantizing_twice_changes_nothing():
    weight = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    for symmetric in (False, True):
        once = quantize_groupwise(weight, bits=4, group_size=32, symmetric=symmetric)
        levels = once.dequantize()
        again = (levels.view(32, -1, 32) / once.scale.float()[..., None]).round() + once.zero_point[..., None]
        assert torch.equal(again.to(torch.uint8).view(32, 128), once.codes)


def test_the_bytes_add_up():
    found = quantize_groupwise(torch.randn(10, 100), bits=3, group_size=32)
    # 1000 codes and 40 zero points of 3 bits, 40 scales of 2 bytes
    assert found.nbytes() == 375 + 15 + 80


def test_float16_and_double_weights_and_extremes_are_taken():
    weight = torch.randn(4, 16)
    for other in (weight.half(), weight.double()):
        expected = quantize_groupwise(other.float(), group_size=8)
        assert torch.equal(quantize_groupwise(other, group_size=8).codes, expected.codes)
    tiny = torch.full((2, 4), 1e-40)
    assert torch.isfinite(quantize_groupwise(tiny).dequantize()).all()
    assert torch.equal(quantize_groupwise(torch.zeros(2, 4)).dequantize(), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="float16"):
        quantize_groupwise(torch.full((2, 4), 1e7))
    huge = quantize_groupwise(torch.full((2, 4), 1e7), scale_dtype=torch.float32).dequantize()
    torch.testing.assert_close(huge, torch.full((2, 4), 1e7))


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (torch.zeros(4), {}, r"\(O, I\) matrix"),
        (torch.zeros(2, 3, 4), {}, "flatten a convolution"),
        (torch.zeros(0, 3), {}, "non-empty"),
        ([[1.0]], {}, "not list"),
        (torch.tensor([[1.0, float("nan")]]), {}, "NaN"),
        (torch.tensor([[1.0, float("inf")]]), {}, "infinity"),
        (torch.zeros(2, 4), {"bits": 1}, "from 2 to 8"),
        (torch.zeros(2, 4), {"bits": 9}, "from 2 to 8"),
        (torch.zeros(2, 4), {"bits": 4.0}, "from 2 to 8"),
        (torch.zeros(2, 4), {"group_size": 0}, "group_size=0"),
        (torch.zeros(2, 4), {"group_size": 2.5}, "group_size=2.5"),
        (torch.zeros(2, 4), {"scale_dtype": torch.bfloat16}, "bfloat16"),
    ],
)
def test_bad_input_is_refused(weight, options, message):
    with pytest.raises(ValueError, match=message):
        quantize_groupwise(weight, **options)


def test_group_weights_that_do_not_belong_together_are_refused():
    good = quantize_groupwise(torch.randn(4, 100), group_size=32)
    fields = dict(codes=good.codes, scale=good.scale, zero_point=good.zero_point, bits=4, group_size=32)
    assert torch.equal(GroupWeights(**fields).dequantize(), good.dequantize())
    for change, message in [
        ({"scale": good.scale[:, :3]}, r"scale must have shape \(4, 4\)"),
        ({"zero_point": good.zero_point[:2]}, "zero_point must have shape"),
        ({"codes": good.codes.int()}, "codes must be uint8"),
        ({"codes": good.codes + 16}, "below 2"),
        ({"scale": good.scale.double()}, "float16 or float32"),
        ({"bits": 3}, "below 2"),
        ({"group_size": 0}, "group_size=0"),
        ({"codes": good.codes[0]}, "matrix"),
    ]:
        with pytest.raises(ValueError, match=message):
            GroupWeights(**{**fields, **change})


def test_two_to_eight_bits_are_let_through():
    for bits in range(2, 9):
        check_bits("bits", bits)
    for bits in (1, 9, True, 4.0, "4", None):
        with pytest.raises(ValueError, match="from 2 to 8"):
            check_bits("bits", bits)
