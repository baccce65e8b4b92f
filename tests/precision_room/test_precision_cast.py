"""Rounding by hand against torch's casts, bit by bit: all of 16 bits, any float32, and each tie with its neighbours."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.precision import BFLOAT16, FLOAT16, Format, decode, encode, round_to, ulp, vanishing

FORMATS = pytest.mark.parametrize("form", [FLOAT16, BFLOAT16], ids=lambda form: form.name)
EVERY = torch.arange(2**16)
floats = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1).map(
    lambda bits: torch.tensor(bits, dtype=torch.int32).view(torch.float32)
)


def cast_bits(x, form):
    """The bits of torch's cast."""
    return x.to(form.dtype).view(torch.int16).long() & 0xFFFF


def same(x, form):
    ours, theirs, nan = encode(x, form), cast_bits(x, form), x.isnan()
    assert torch.equal(ours[~nan], theirs[~nan])
    # A NaN stays one, and keeps its sign; which of the many NaN it becomes is left open by the standard.
    assert (ours[nan] & 0x7FFF > form.infinity).all()
    assert decode(ours, form)[nan].isnan().all()


@FORMATS
def test_each_of_the_65536_numbers_is_decoded_as_torch_reads_it_and_encoded_back(form):
    values = EVERY.to(torch.int16).view(form.dtype).float()
    ours = decode(EVERY, form)
    assert torch.equal(ours.isnan(), values.isnan())
    there = ~values.isnan()
    assert torch.equal(ours[there].view(torch.int32), values[there].view(torch.int32))  # so that -0 is not 0
    assert torch.equal(encode(ours, form)[there], EVERY[there])


@settings(deadline=None, max_examples=200)
@given(x=floats)
def test_any_float32_is_rounded_as_torch_rounds_it(x):
    for form in (FLOAT16, BFLOAT16):
        same(x, form)


@settings(deadline=None, max_examples=100)
@given(fractions=st.lists(st.integers(0, 2**24), min_size=1), exponent=st.integers(-152, 128))
def test_any_exponent_is_rounded_as_torch_rounds_it(fractions, exponent):
    x = torch.ldexp(torch.tensor(fractions, dtype=torch.float64), torch.tensor(exponent - 24)).float()
    for form in (FLOAT16, BFLOAT16):
        same(x, form)
        same(-x, form)


@FORMATS
def test_every_tie_goes_to_the_even_neighbour_and_what_is_beside_it_to_the_nearest(form):
    finite = EVERY[: form.infinity]
    lower = decode(finite, form)
    # the last step ends where infinity begins: at the number that would follow the largest
    upper = torch.cat([lower[1:].double(), torch.tensor([2.0 ** (form.bias + 1)], dtype=torch.float64)])
    tie = ((lower.double() + upper) / 2).float()
    before, after = tie.nextafter(torch.tensor(0.0)), tie.nextafter(torch.tensor(torch.inf))
    assert torch.equal(encode(tie, form), finite + finite % 2)
    assert torch.equal(encode(before, form), finite)
    assert torch.equal(encode(after, form), finite + 1)
    for x in (tie, before, after):
        same(x, form)
        same(-x, form)


@FORMATS
def test_infinities_zeros_and_nan_of_both_signs(form):
    x = torch.tensor([torch.inf, -torch.inf, 0.0, -0.0, torch.nan, torch.finfo(torch.float32).max])
    same(x, form)
    assert encode(x, form)[:4].tolist() == [form.infinity, form.infinity | 0x8000, 0, 0x8000]
    hidden = torch.tensor([0x7F800001, -1, -0x7FFFFF], dtype=torch.int32).view(torch.float32)
    assert hidden.isnan().all()  # NaN whose upper bits are those of infinity, or all ones
    same(hidden, form)


@FORMATS
def test_properties_of_the_formats_are_those_that_torch_tells(form):
    told = torch.finfo(form.dtype)
    assert (form.largest, form.smallest_normal, form.unit_roundoff) == (told.max, told.tiny, told.eps / 2)
    assert form.smallest_subnormal == told.smallest_normal * told.eps
    assert 1 + form.exponent_bits + form.fraction_bits == 16
    assert cast_bits(torch.tensor(torch.inf), form) == form.infinity


@settings(deadline=None, max_examples=100)
@given(x=st.lists(st.floats(-60000, 60000, width=32), min_size=1))
def test_the_error_is_half_an_ulp_and_relatively_the_unit_roundoff(x):
    x = torch.tensor(x)
    for form in (FLOAT16, BFLOAT16):
        error = (round_to(x, form).double() - x.double()).abs()
        assert (error <= ulp(x, form).double() / 2).all()
        normal = x.abs() >= form.smallest_normal
        assert (error <= form.unit_roundoff * x.abs().double())[normal].all()
        assert torch.equal(round_to(round_to(x, form), form), round_to(x, form))


@FORMATS
def test_one_ulp_is_the_distance_to_the_next_number_of_the_format(form):
    x = decode(EVERY[: form.infinity], form)
    following = torch.cat([x[1:].double(), torch.tensor([2.0 ** (form.bias + 1)], dtype=torch.float64)])
    assert torch.equal(ulp(x, form).double(), following - x.double())
    assert torch.equal(ulp(-x, form), ulp(x, form))


def test_the_same_code_rounds_to_a_format_of_any_other_split():
    """11 exponent-less bits would prove nothing; 6 + 9 bits is a format that no processor has."""
    form = Format("6 + 9", exponent_bits=6, fraction_bits=9, dtype=torch.float16)
    values = decode(EVERY[: form.infinity], form)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 100
    nearest = values[(x.abs()[:, None] - values[None]).abs().argmin(1)]  # no ties among random numbers
    assert torch.equal(round_to(x, form), nearest.copysign(x))


@settings(deadline=None, max_examples=50)
@given(x=st.lists(st.floats(-1, 1, width=32), min_size=1), power=st.integers(0, 20))
def test_what_vanishes_is_what_torch_rounds_to_zero(x, power):
    x = torch.tensor(x)
    there = x[x != 0]
    for form in (FLOAT16, BFLOAT16):
        gone = (there * 2.0**power).to(form.dtype) == 0
        wanted = gone.float().mean().item() if len(there) else 0.0
        assert vanishing(x, form, scale=2.0**power) == pytest.approx(wanted)


def test_shapes_are_kept_and_gradients_do_not_leak():
    x = torch.randn(3, 4, requires_grad=True).T
    rounded = round_to(x, FLOAT16)
    assert rounded.shape == (4, 3)
    assert not rounded.requires_grad
    assert torch.equal(rounded, x.detach().half().float())
    assert encode(torch.zeros(0), FLOAT16).shape == (0,)
    assert round_to(torch.tensor(1.0), FLOAT16).shape == ()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="x must be float32, not torch.float64"):
        encode(torch.ones(1, dtype=torch.float64), FLOAT16)
    for bits in (torch.tensor([1.0]), torch.tensor([-1]), torch.tensor([2**16]), torch.tensor([True])):
        with pytest.raises(ValueError, match="bits must be integers"):
            decode(bits, FLOAT16)
    for x in (torch.ones(1).double(), torch.tensor([math.inf])):
        with pytest.raises(ValueError, match="x must be finite float32"):
            ulp(x, BFLOAT16)
    with pytest.raises(ValueError, match="scale=0"):
        vanishing(torch.ones(1), FLOAT16, scale=0.0)
