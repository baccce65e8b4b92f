"""Scalers against scikit-learn's, cleaning against brute force, and refusals that say what to do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from dca_lab.data import MinMax, Standard, clean, load
from dca_lab.data.dataset import text_array

# Multiples of 1/8 up to 1000: sums are exact, so neither side calls a constant column nearly constant.
TABLES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.integers(-8000, 8000).map(lambda i: i / 8),
)
PAIRS = [(MinMax, MinMaxScaler), (Standard, StandardScaler)]


@pytest.mark.parametrize(("ours", "oracle"), PAIRS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_scalers_agree_with_scikit_learn(ours, oracle, data):
    train = data.draw(TABLES)
    elements = st.integers(-8000, 8000).map(lambda i: i / 8)
    test = data.draw(hnp.arrays(np.float64, (3, train.shape[1]), elements=elements))
    mine, reference = ours.fit(train), oracle().fit(train)
    for x in (train, test):
        np.testing.assert_allclose(mine.transform(x), reference.transform(x), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(mine.inverse(mine.transform(x)), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("ours", "oracle"), PAIRS)
def test_scalers_agree_on_real_features_of_very_different_scale(ours, oracle):
    cells = load("cells")
    mine, reference = ours.fit(cells.x_train), oracle().fit(cells.x_train)
    for x in (cells.x_train, cells.x_test):
        np.testing.assert_allclose(mine.transform(x), reference.transform(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scaler", [MinMax, Standard])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-200, 1e12 + 0.1])
def test_a_constant_column_becomes_zero(scaler, value):
    # The mean of 0.1 + ... + 0.1 is not exactly 0.1: a naive spread is a rounding error, and z is noise.
    x = np.full((7, 1), value)
    fitted = scaler.fit(x)
    z = fitted.transform(x)
    assert not z.any()
    np.testing.assert_array_equal(fitted.inverse(z), x)


def test_a_small_spread_is_not_a_constant():
    x = np.array([[1e-20], [3e-20]])
    np.testing.assert_allclose(MinMax.fit(x).transform(x), [[0], [1]])
    np.testing.assert_allclose(Standard.fit(x).transform(x), [[-1], [1]])


@pytest.mark.parametrize("scaler", [MinMax, Standard])
def test_images_and_vectors_and_integers(scaler):
    images = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3) ** 2
    flat = scaler.fit(images.reshape(5, -1)).transform(images.reshape(5, -1))
    np.testing.assert_array_equal(scaler.fit(images).transform(images).reshape(5, -1), flat)
    before = images.copy()
    assert scaler.fit(images[:, 0, 0]).transform(images[:, 0, 0]).shape == (5,)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("scaler", [MinMax, Standard])
def test_the_test_part_is_measured_with_the_ruler_of_the_training_part(scaler):
    fitted = scaler.fit(np.array([[0.0], [2.0]]))
    one = fitted.transform(np.array([[10.0]]))
    many = fitted.transform(np.array([[10.0], [1000.0]]))
    np.testing.assert_array_equal(one[0], many[0])


@pytest.mark.parametrize("scaler", [MinMax, Standard])
def test_what_cannot_be_scaled_is_refused(scaler):
    good = np.ones((3, 2))
    for bad in (np.nan, np.inf, -np.inf):
        x = good.copy()
        x[1, 0] = bad
        with pytest.raises(ValueError, match=r"first at index \(1, 0\); drop them with clean"):
            scaler.fit(x)
        with pytest.raises(ValueError, match="NaN or infinite"):
            scaler.fit(good).transform(x)
    with pytest.raises(ValueError, match=r"fitted on rows of shape \(2,\), got rows of shape \(3,\)"):
        scaler.fit(good).transform(np.ones((1, 3)))
    with pytest.raises(ValueError, match="at least one row"):
        scaler.fit(np.ones((0, 2)))
    for wrong in (text_array(["a"]), np.array(["a"]), np.ones(2, dtype=complex)):
        with pytest.raises(ValueError, match="only real numbers"):
            scaler.fit(wrong)


CELLS = st.sampled_from([0.0, -0.0, 1.0, 2.0, np.nan, np.inf])
ROWS = st.lists(st.tuples(CELLS, CELLS, st.integers(0, 1)), max_size=12)


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_clean_against_brute_force(rows):
    x = np.array([r[:2] for r in rows], dtype=float).reshape(-1, 2)
    y = np.array([r[2] for r in rows], dtype=int)
    kept = []
    for row in rows:
        if all(np.isfinite(v) for v in row) and not any(row == other for other in kept):
            kept.append(row)
    got_x, got_y = clean(x, y)
    assert [(*a, b) for a, b in zip(got_x.tolist(), got_y.tolist(), strict=True)] == kept
    again_x, again_y = clean(got_x, got_y)
    np.testing.assert_array_equal(again_x, got_x)
    np.testing.assert_array_equal(again_y, got_y)


def test_clean_takes_text_images_and_labels_that_are_missing():
    x, y = clean(text_array(["a", "b", "a", "a"]), np.array([0, 0, 0, 1]))
    assert x.tolist() == ["a", "b", "a"] and y.tolist() == [0, 0, 1]
    images = np.zeros((3, 2, 2), dtype=np.uint8)
    images[1] = 1
    x, y = clean(images, np.zeros(3, dtype=int))
    assert x.shape == (2, 2, 2) and x.dtype == np.uint8
    x, y = clean(np.arange(3), np.array([0.5, np.nan, 0.5]))
    assert x.tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"got x \(2,\) and y \(3,\)"):
        clean(np.zeros(2), np.zeros(3))


def test_clean_returns_copies():
    x, y = np.arange(3.0), np.arange(3)
    got_x, got_y = clean(x, y)
    got_x[0] = got_y[0] = 9
    assert x[0] == 0 and y[0] == 0
