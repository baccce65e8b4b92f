"""Emulated fp8 against torch's casts, bit by bit: every half, every bfloat16, and floats that hypothesis chooses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.float8 import (
    E4M3FN,
    E5M2,
    emulate_e4m3,
    emulate_e5m2,
    emulate_float8,
    float8_values,
)

# torch saturates e4m3fn since 2.12 and made NaN of it before
SATURATES = bool(torch.tensor(1000.0).to(torch.float8_e4m3fn).float().isfinite())
FORMATS = [(E4M3FN, torch.float8_e4m3fn, emulate_e4m3), (E5M2, torch.float8_e5m2, emulate_e5m2)]


def check(x, form, dtype):
    same(emulate_float8(x, form, saturate=SATURATES and form is E4M3FN), x.to(dtype).float())


def same(ours, theirs):
    assert ours.dtype == torch.float32 and torch.equal(ours.isnan(), theirs.isnan())
    # As integers, so that -0 and 0 differ; of NaN only the fact is compared.
    ours, theirs = (
        values.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf) for values in (ours, theirs)
    )
    assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))


@pytest.mark.parametrize(("form", "dtype", "named"), FORMATS, ids=["e4m3fn", "e5m2"])
@pytest.mark.parametrize("source", [torch.float16, torch.bfloat16])
def test_every_16_bit_float_is_rounded_as_torch_rounds_it(form, dtype, named, source):
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(source)
    for again in (x, x.float(), x.double() * (1 + 2.0**-40)):  # the last is beside a tie, but only in float64
        check(again, form, dtype)


@settings(deadline=None, max_examples=50)
@given(bits=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), exponent=st.integers(-24, 20))
def test_any_float32_and_those_in_the_range_of_the_formats(bits, exponent):
    x = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    near = torch.tensor(bits, dtype=torch.float64).div(2**31).mul(2.0**exponent).float()
    for form, dtype, _ in FORMATS:
        check(x, form, dtype)
        check(near, form, dtype)


@pytest.mark.parametrize(("form", "dtype", "named"), FORMATS, ids=["e4m3fn", "e5m2"])
def test_the_middle_between_two_values_and_its_neighbours(form, dtype, named):
    values = torch.cat(
        [float8_values(form), torch.tensor([form.largest * 8 / 7])]
    )  # and the end of the last step
    middle = (values[1:] + values[:-1]) / 2
    x = torch.cat(
        [middle, middle.nextafter(torch.tensor(torch.inf)), middle.nextafter(torch.tensor(0.0)), values]
    )
    for signed in (x, -x):
        check(signed, form, dtype)
        assert torch.equal(named(signed).nan_to_num(), emulate_float8(signed, form).nan_to_num())


@pytest.mark.parametrize(("form", "dtype", "named"), FORMATS, ids=["e4m3fn", "e5m2"])
def test_the_values_are_those_of_all_256_bytes(form, dtype, named):
    every = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    wanted = every[every.isfinite() & ~every.signbit()].sort().values
    assert torch.equal(float8_values(form), wanted)
    assert torch.equal(emulate_float8(wanted, form), wanted)


@settings(deadline=None, max_examples=50)
@given(x=st.floats(allow_nan=False, width=32))
def test_saturation_clips_and_changes_nothing_else(x):
    x = torch.tensor([x])
    for form, dtype, _ in FORMATS:
        clipped = x.clamp(-form.largest, form.largest)
        assert torch.equal(emulate_float8(x, form, saturate=True), clipped.to(dtype).float())


def test_the_relative_error_is_at_most_half_a_mantissa_step():
    x = torch.logspace(-1, 2, 10_001)
    for form in (E4M3FN, E5M2):
        relative = ((emulate_float8(x, form) - x) / x).abs().max()
        half = 2.0 ** -(
            form.mantissa_bits + 1
        )  # at 1 + half, the middle of 1 and 1 + 2 half: half / (1 + half)
        assert relative.item() == pytest.approx(half / (1 + half), rel=0.01) and relative <= half


def test_without_saturation_the_overflow_of_e4m3fn_is_nan_as_in_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    with np.errstate(all="ignore"):
        for form, dtype in ((E4M3FN, ml_dtypes.float8_e4m3fn), (E5M2, ml_dtypes.float8_e5m2)):
            theirs = torch.from_numpy(x.numpy().astype(dtype).astype(np.float32))
            same(emulate_float8(x, form, saturate=False), theirs)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="floating type"):
        emulate_float8(torch.tensor([1]), E5M2)
