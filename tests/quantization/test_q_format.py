"""Q-format numbers against exact fractions."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.affine import quantize
from dca_lab.quantization.q_format import QFormat, add_fixed, from_fixed, multiply_fixed, to_fixed

FORMATS = st.tuples(st.integers(0, 31), st.integers(0, 31)).filter(lambda mn: 1 <= sum(mn) <= 31)


def saturated(value, form):
    low, high = form.limits
    return max(low, min(high, value))


@settings(deadline=None, max_examples=50)
@given(form=FORMATS, values=st.lists(st.floats(-1e6, 1e6, width=32) | st.floats(-2, 2, width=32), min_size=1))
def test_to_fixed_is_the_nearest_number_or_the_end(form, values):
    form = QFormat(*form)
    q = to_fixed(torch.tensor(values, dtype=torch.float32), form)
    wanted = [saturated(round(Fraction(value) * 2**form.fraction_bits), form) for value in values]
    assert q.dtype == torch.int32 and q.tolist() == wanted
    back = from_fixed(q, form)
    assert [Fraction(value) for value in back.tolist()] == [
        Fraction(n, 2**form.fraction_bits) for n in wanted
    ]
    assert torch.equal(to_fixed(back, form), q)


@settings(deadline=None, max_examples=50)
@given(form=FORMATS, data=st.data())
def test_sums_and_products_are_exact_then_rounded_then_saturated(form, data):
    form = QFormat(*form)
    numbers = st.lists(st.integers(*form.limits), min_size=5, max_size=5)
    a, b = data.draw(numbers), data.draw(numbers)
    x, y = torch.tensor(a, dtype=torch.int32), torch.tensor(b, dtype=torch.int32)
    assert add_fixed(x, y, form).tolist() == [saturated(i + j, form) for i, j in zip(a, b, strict=True)]
    products = [round(Fraction(i * j, 2**form.fraction_bits)) for i, j in zip(a, b, strict=True)]
    assert multiply_fixed(x, y, form).tolist() == [saturated(p, form) for p in products]


def test_a_q_format_is_an_affine_grid_whose_scale_is_a_power_of_two():
    x = torch.linspace(-12, 12, 1001)
    form = QFormat(3, 4)
    assert torch.equal(to_fixed(x, form), quantize(x, form.step, 0, signed=True))


def test_minus_one_times_minus_one_saturates():
    q15 = QFormat(0, 15)
    low = torch.tensor([q15.limits[0]])
    assert multiply_fixed(low, low, q15).tolist() == [q15.limits[1]]


@pytest.mark.parametrize("bits", [(-1, 8), (8, -1), (0, 0), (16, 16)])
def test_impossible_words_are_refused(bits):
    with pytest.raises(ValueError, match="2 to 32 bits"):
        QFormat(*bits)


def test_bits_and_numbers_are_integers_that_fit():
    for bits in ((1.5, 2), (1, "2"), (True, 7)):
        with pytest.raises(ValueError, match="whole numbers of bits"):
            QFormat(*bits)
    form, good = QFormat(3, 4), torch.tensor([1, 2])
    for bad, message in ((good + 0.5, "integers, got torch.float32"), (good + 127, "-128 to 127")):
        for call in (add_fixed, multiply_fixed):
            for pair in ((bad, good), (good, bad)):
                with pytest.raises(ValueError, match=message):
                    call(*pair, form)
        with pytest.raises(ValueError, match=message):
            from_fixed(bad, form)
    assert from_fixed(good[:0], form).shape == (0,)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        to_fixed(torch.tensor([float("nan")]), QFormat(3, 4))
