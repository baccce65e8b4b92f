"""The comparison of answers: by value, as numpy's assert_allclose says, and without asking the answer's opinion."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dca_lab.grading import difference
from dca_lab.grading.plain import array_or_none, show

FLOATS = hnp.arrays(
    st.sampled_from([np.float64, np.float32]),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)
INTEGERS = hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
TOLERANCE = st.sampled_from([0.0, 1e-7, 1e-3, 0.5])


def agrees_with_numpy(answer, expected, rtol, atol):
    try:
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                answer.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True
            )
    except AssertionError:
        return False
    return True


@given(expected=FLOATS, data=st.data(), rtol=TOLERANCE, atol=TOLERANCE)
def test_it_says_what_assert_allclose_says(expected, data, rtol, atol):
    noise = data.draw(st.sampled_from([0.0, 1e-8, 1e-4, 0.3, math.nan, math.inf]))
    with np.errstate(all="ignore"):
        answer = expected.astype(np.float64) * (1 + noise) + noise
    found = difference(answer, expected, rtol=rtol, atol=atol)
    assert (found is None) == agrees_with_numpy(answer, expected, rtol, atol)
    assert found is None or (found.kind, bool(found.text)) == ("value", True)


@given(array=st.one_of(FLOATS, INTEGERS))
def test_the_type_that_carries_the_numbers_does_not_matter(array):
    carriers = [array, array.tolist(), torch.from_numpy(np.asarray(array).copy()), array.astype(np.float64)]
    if array.ndim == 1:
        carriers += [tuple(array), [torch.tensor(item) for item in array.tolist()]]
    if array.dtype.kind == "i":  # float64 holds no more than 53 bits: then it is another value
        carriers[3] = array.astype(object).tolist()
    for answer in carriers:
        for expected in carriers:
            assert difference(answer, expected) is None


@given(one=INTEGERS, other=INTEGERS)
def test_integers_are_compared_exactly(one, other):
    same = one.shape == other.shape and bool((one == other).all())
    assert (difference(one, torch.from_numpy(other.copy())) is None) == same


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.data(),
)
def test_structures_equal_themselves_and_nothing_foreign(value, data):
    assert difference(value, value) is None
    assert difference([value, "other"], [value]).kind in ("shape", "type")
    assert difference({"a": value}, {"a": value, "b": 1}).kind == "missing"
    assert difference({"a": value, "b": 1}, {"a": value}).kind == "missing"


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        (math.nan, 0.0, "value"),
        (0.0, math.nan, "value"),
        (math.inf, -math.inf, "value"),
        (2**63, 2**63 - 1, "value"),  # the same as float64
        (3, [3], "shape"),
        ([[1, 2], [3]], np.zeros((2, 2)), "shape"),
        ([1, 2, 3], np.zeros((3, 1)), "shape"),
        (None, 1.0, "type"),
        (None, np.zeros(3), "type"),
        ("3", 3, "type"),
        (3, "3", "type"),
        ("abd", "abc", "value"),
        (b"abc", "abc", "type"),
        (0, None, "type"),
        ({}, [], "type"),
        ([], {}, "type"),
        (["a"], ("b",), "value"),
        (10**400, 1.0, "type"),
        (torch.zeros(2).to_sparse(), [0.0, 0.0], "type"),
        (np.array(["1"]), [1], "type"),
        (np.array([1], dtype=object), [1], "type"),
        (torch.nn.Linear(1, 1), 1.0, "type"),
    ],
)
def test_what_differs_is_named(answer, expected, kind):
    found = difference(answer, expected)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (math.nan, torch.tensor(math.nan)),
        ([], np.zeros(0)),
        ((1, "a"), [1.0, "a"]),
        (np.array([0.5, 3.0]), (torch.tensor(0.5), 3)),
        (np.zeros((2, 3)), [torch.zeros(3), np.zeros(3)]),
        (True, 1),
        (torch.tensor([1.5], dtype=torch.bfloat16), [1.5]),
        (torch.tensor([2.0], requires_grad=True), [2]),
        (np.array([1 + 2j]), torch.tensor([1 + 2j])),
        (np.uint8(200), 200),
    ],
)
def test_equal_by_value(answer, expected):
    assert difference(answer, expected) is None


class LyingArray(np.ndarray):
    def __eq__(self, other):
        return np.ones(self.shape, dtype=bool)

    def __array__(self, *args, **kwargs):
        return np.full(self.shape, 7.0)


class LyingTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.full((2,), 7.0)


class LyingFloat(float):
    def __eq__(self, other):
        return True

    __hash__ = float.__hash__


class LyingText(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class Anything:
    __module__ = "numpy"
    shape, dtype, ndim = (2,), np.dtype(float), 1

    def __eq__(self, other):
        return True

    def __array__(self, *args, **kwargs):
        return np.full(2, 7.0)


@pytest.mark.parametrize(
    "liar",
    [
        np.zeros(2).view(LyingArray),
        torch.zeros(2).as_subclass(LyingTensor),
        LyingFloat(0),
        LyingText("x"),
        Anything(),
    ],
)
def test_nothing_is_asked_for_its_opinion(liar):
    for expected in (np.full(2, 7.0), 7.0, "7", [7.0, 7.0], {"a": 7}, None, [1, "a"]):
        assert difference(liar, expected) is not None
        assert difference([liar], [expected]) is not None
        assert difference({"a": liar}, {"a": expected}) is not None


def test_the_first_of_many_differences_is_shown():
    answer = np.zeros((3, 4))
    expected = answer.copy()
    expected[1, 2] = expected[2, 3] = 5
    text = difference(answer, expected).text
    assert text == "2 of 12 values differ, the first at [1, 2]: it is 0, and should be 5"


def test_a_list_that_is_no_array_is_compared_item_by_item():
    found = difference([np.zeros(2), np.zeros(4)], [np.zeros(2), np.zeros(3)])
    assert (found.kind, found.text) == ("shape", "item 1: the shape is (4,), and should be (3,)")


@given(st.lists(st.floats() | st.text() | st.none() | st.lists(st.integers())) | FLOATS)
def test_a_value_is_shown_on_one_short_line(value):
    text = show(value)
    assert len(text) <= 80 and "\n" not in text


def test_rows_of_several_shapes_are_no_array():
    assert array_or_none([[1, 2], [3]]) is None
    assert array_or_none([[1, 2], [3, 4]]).shape == (2, 2)
