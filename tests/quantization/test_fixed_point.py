"""Fixed-point multiplication: Python's integers and fractions are exact, and round() of a fraction is half to even."""

from fractions import Fraction
from math import inf, nan

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dca_lab.quantization.affine import affine_params, quantize
from dca_lab.quantization.fixed_point import fixed_multiplier, multiply_by_fixed, rounding_shift

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIERS = st.floats(2.0**-31, 2.0**31 - 2, allow_subnormal=False)


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), shift=st.integers(0, 62))
@example(values=[-6, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6], shift=1)
def test_rounding_shift_is_python_rounding(values, shift):
    got = rounding_shift(torch.tensor(values), shift).tolist()
    assert got == [round(Fraction(value, 2**shift)) for value in values]


@settings(deadline=None, max_examples=50)
@given(real=MULTIPLIERS)
@example(real=1.0)
@example(real=0.5)
@example(real=1 - 2.0**-53)  # the mantissa would round up to 2^31
@example(real=2.0**31 - 1)
def test_the_multiplier_has_31_bits(real):
    mantissa, shift = (int(part) for part in fixed_multiplier(real))
    assert 2**30 <= mantissa < 2**31 and 0 <= shift <= 62
    assert abs(Fraction(mantissa, 2**shift) - Fraction(real)) <= Fraction(real) / 2**31


@settings(deadline=None, max_examples=50)
@given(real=st.floats(0, 2.0**-32, exclude_min=True))
def test_tiny_multipliers_lose_bits_but_never_half_a_level(real):
    mantissa, shift = (int(part) for part in fixed_multiplier(real))
    assert 0 <= mantissa <= 2**30 and shift == 62
    assert abs(Fraction(mantissa, 2**shift) - Fraction(real)) * 2**31 < Fraction(1, 2**31)


@settings(deadline=None, max_examples=50)
@given(
    sums=st.lists(INT32 | st.integers(-(2**32), 2**32), min_size=1, max_size=8),
    reals=st.lists(MULTIPLIERS | st.sampled_from([0.5, 0.25, 1.0, 3.0]), min_size=1, max_size=4),
)
def test_the_product_is_exact_for_every_channel_at_once(sums, reals):
    mantissa, shift = fixed_multiplier(torch.tensor(reals, dtype=torch.float64))
    got = multiply_by_fixed(torch.tensor(sums)[:, None], mantissa, shift)
    assert got.dtype == torch.int64 and got.shape == (len(sums), len(reals))
    parts = list(zip(mantissa.tolist(), shift.tolist(), strict=True))
    assert got.tolist() == [[round(Fraction(x * m, 2**k)) for m, k in parts] for x in sums]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_requantizing_integers_is_quantizing_the_real_sum_but_for_ties(seed):
    generator = torch.Generator().manual_seed(seed)
    sums = torch.randint(-(2**17), 2**17, (500,), generator=generator, dtype=torch.int32)
    unit = (
        torch.rand((), generator=generator, dtype=torch.float64) * 1e-3 + 1e-6
    )  # input scale * weight scale
    real = sums * unit
    scale, zero_point = affine_params(real.min(), real.max())
    q = multiply_by_fixed(sums, *fixed_multiplier(unit / scale.double())) + zero_point
    wanted = quantize(real, scale, zero_point)
    clear = ((real / scale.double()).frac().abs() - 0.5).abs() > 2**-20
    assert torch.equal(q.clamp(0, 255)[clear].int(), wanted[clear]) and clear.sum() > 490


def test_powers_of_two_agree_with_quantize_at_the_ties_too():
    sums = torch.arange(-1000, 1000, dtype=torch.int32)
    q = multiply_by_fixed(sums, *fixed_multiplier(0.125)) + 128
    assert torch.equal(q.int(), quantize(sums / 8, 1.0, 128))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed_multiplier(0.0), "must be positive"),
        (lambda: fixed_multiplier(-0.5), "must be positive"),
        (lambda: fixed_multiplier(nan), "must be positive"),
        (lambda: fixed_multiplier(inf), "below 2\\^31"),
        (lambda: fixed_multiplier(2.0**31), "below 2\\^31"),
        (lambda: fixed_multiplier(2.0**31 - 2.0**-20), "below 2\\^31 after rounding"),
        (lambda: fixed_multiplier(torch.tensor([0.5, -1.0])), "must be positive"),
        (lambda: multiply_by_fixed(torch.ones(2), 2**30, 30), "must hold integers"),
        (lambda: multiply_by_fixed(torch.tensor([2**32 + 1]), 2**30, 30), "overflowed int32"),
        (lambda: multiply_by_fixed(torch.tensor([1]), 2**31, 30), "mantissa must be"),
        (lambda: multiply_by_fixed(torch.tensor([1]), 2**30, 63), "shift 0 to 62"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
