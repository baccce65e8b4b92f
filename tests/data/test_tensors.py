"""Tensors have mean 0 and variance 1 where they should, and the test part never has a say in it."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from dca_lab.data import Dataset, as_tensors, load


def spread_of(x, mask=None, axes=None):
    x = x.double().numpy()
    if mask is not None:
        return x[mask].mean(axis=0), x[mask].std(axis=0)
    return x.mean(axis=axes), x.std(axis=axes)


def make(x_train, x_test=None, **extras):
    x_test = x_train if x_test is None else x_test
    y = [np.zeros(len(x), dtype=np.int64) for x in (x_train, x_test)]
    return Dataset("made", x_train.copy(), y[0], x_test.copy(), y[1], ("a",), extras=extras)


def test_grey_images_as_the_models_want_them():
    fashion = load("fashion")
    x, y, x_test, y_test = as_tensors(fashion, train=600, test=100)
    assert x.shape == (600, 1, 28, 28) and x_test.shape == (100, 1, 28, 28)
    assert x.dtype == x_test.dtype == torch.float32 and y.dtype == y_test.dtype == torch.int64
    assert x.is_contiguous() and x_test.is_contiguous()
    np.testing.assert_allclose(spread_of(x), (0, 1), atol=1e-5)
    np.testing.assert_array_equal(y.numpy(), fashion.y_train[:600])
    # The test part is measured with the training part's mean and deviation, not with its own.
    part = fashion.x_train[:600].astype(np.float64)
    expected = (fashion.x_test[:100] - part.mean()) / part.std()
    np.testing.assert_allclose(x_test[:, 0].numpy(), expected, atol=1e-5)
    assert abs(float(x_test.mean())) > 1e-3
    torch.testing.assert_close(as_tensors(fashion, train=600, test=7)[2], x_test[:7])


def test_all_of_a_set_and_more_rows_than_a_chunk():
    fashion = load("fashion")
    x, *_ = as_tensors(fashion)
    assert x.shape == (12000, 1, 28, 28)
    np.testing.assert_allclose(spread_of(x), (0, 1), atol=1e-5)


def test_padding_to_32_pixels_adds_black_around_the_picture():
    fashion = load("fashion")
    x, *_ = as_tensors(fashion, train=50, test=5, size=32)
    assert x.shape == (50, 1, 32, 32)
    np.testing.assert_allclose(spread_of(x), (0, 1), atol=1e-5)
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:30, 2:30] = False
    black = x[:, 0, border]
    assert torch.equal(black, black[0, 0].expand_as(black)) and black[0, 0] == x.min()
    inner = fashion.x_train[:50]
    assert torch.equal(x[:, 0, 2:30, 2:30] == x.min(), torch.from_numpy(inner == 0))


def test_colour_images_have_one_statistic_a_channel():
    signs = load("signs")
    x, _, x_test, _ = as_tensors(signs)
    assert x.shape == (41, 3, 64, 64) and x_test.shape == (11, 3, 64, 64)
    mean, std = spread_of(x, axes=(0, 2, 3))
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    np.testing.assert_allclose(std, 1, atol=1e-5)
    train = signs.x_train.astype(np.float64)
    expected = (signs.x_test[3, 10, 20] - train.mean(axis=(0, 1, 2))) / train.std(axis=(0, 1, 2))
    np.testing.assert_allclose(x_test[3, :, 10, 20].numpy(), expected, atol=1e-5)


def test_motion_leaves_the_padding_out():
    rehab = load("rehab")
    x, _, x_test, _ = as_tensors(rehab, train=40)
    assert x.shape == (40, 2618, 6) and x_test.shape == (42, 2618, 6)
    inside = np.arange(2618) < rehab.extras["lengths_train"][:40, None]
    mean, std = spread_of(x, inside)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    np.testing.assert_allclose(std, 1, atol=1e-5)
    assert not x.numpy()[~inside].any()
    outside = np.arange(2618) >= rehab.extras["lengths_test"][:, None]
    assert not x_test.numpy()[outside].any()
    oracle = StandardScaler().fit(rehab.x_train[:40][inside].astype(np.float64))
    np.testing.assert_allclose(x_test[0, :900].numpy(), oracle.transform(rehab.x_test[0, :900]), atol=1e-4)


def test_sound_has_one_statistic_for_all_samples():
    tones = load("tones")
    x, *_ = as_tensors(tones, train=30, test=5)
    inside = np.arange(5409) < tones.extras["lengths_train"][:30, None]
    np.testing.assert_allclose(spread_of(x, inside), (0, 1), atol=1e-5)
    voices = as_tensors(load("voices"), train=30, test=5)[0]
    assert voices.shape == (30, 8000)
    np.testing.assert_allclose(spread_of(voices), (0, 1), atol=1e-5)


def test_a_table_agrees_with_scikit_learn():
    cells = load("cells")
    x, y, x_test, _ = as_tensors(cells)
    oracle = StandardScaler().fit(cells.x_train)
    np.testing.assert_allclose(x.numpy(), oracle.transform(cells.x_train), atol=1e-5)
    np.testing.assert_allclose(x_test.numpy(), oracle.transform(cells.x_test), atol=1e-5, rtol=1e-5)
    assert y.dtype == torch.int64


def test_tokens_stay_tokens():
    austen = load("austen")
    x, y, x_test, _ = as_tensors(austen, train=1000, test=100)
    assert x.dtype == y.dtype == torch.int64 and torch.equal(x[1:], y[:-1])
    np.testing.assert_array_equal(x_test.numpy(), austen.x_test[:100])


def test_constant_pictures_and_columns_give_zeros_not_nan():
    x, *_ = as_tensors(make(np.full((4, 2, 2), 7, dtype=np.uint8)))
    assert not x.any()
    table = np.column_stack([np.full(5, 0.1), np.arange(5.0)])
    x, _, x_test, _ = as_tensors(make(table, table + 1))
    assert torch.isfinite(x).all() and torch.isfinite(x_test).all() and not x[:, 0].abs().gt(1e-6).any()


def test_the_loaded_set_is_not_changed_and_not_shared():
    fashion = load("fashion")
    before = fashion.x_train[:3].copy(), fashion.y_train[:3].copy()
    x, y, *_ = as_tensors(fashion, train=3, test=3)
    x.zero_(), y.zero_()
    np.testing.assert_array_equal(fashion.x_train[:3], before[0])
    np.testing.assert_array_equal(fashion.y_train[:3], before[1])
    floats = make(np.arange(6.0, dtype=np.float32).reshape(3, 2))
    as_tensors(floats)
    np.testing.assert_array_equal(floats.x_train, np.arange(6.0).reshape(3, 2))


def test_it_is_deterministic():
    cells = load("cells")
    assert all(torch.equal(a, b) for a, b in zip(as_tensors(cells), as_tensors(cells), strict=True))


def test_refusals_say_what_was_asked_and_what_there_is():
    fashion = load("fashion")
    for bad in (0, -1, 12001):
        with pytest.raises(ValueError, match=f"train={bad}: fashion has 12000 train samples"):
            as_tensors(fashion, train=bad)
    with pytest.raises(ValueError, match="size=20: fashion has images of 28 x 28"):
        as_tensors(fashion, train=5, size=20)
    for name in ("cells", "austen"):
        with pytest.raises(ValueError, match=f"size=32 pads images, and {name} has none"):
            as_tensors(load(name), train=5, test=5, size=32)
    for name in ("spam", "translation"):
        with pytest.raises(ValueError, match=f"{name} holds text"):
            as_tensors(load(name))
    broken = dataclasses.replace(make(np.ones((3, 2))), y_train=np.array(["a", "b", "c"]))
    with pytest.raises(ValueError, match="made holds text"):
        as_tensors(broken)
    with pytest.raises(ValueError, match="made.*NaN"):
        as_tensors(make(np.array([[1.0], [np.nan]])))
