"""The document's network in Keras: its sizes by formula, its seeds, its door."""

import keras
import numpy as np
import pytest

from dca_lab.keras.models import digit_cnn


@pytest.mark.parametrize(("filters", "classes"), [(32, 10), (5, 3), (1, 1)])
def test_it_has_the_parameters_of_the_formula_and_gives_one_logit_a_class(filters, classes):
    model = digit_cnn(filters, classes=classes)
    assert model.count_params() == (9 + 1) * filters + (169 * filters + 1) * classes
    assert model(np.zeros((7, 28, 28, 1), np.float32)).shape == (7, classes)
    assert [layer.name for layer in model.layers] == ["conv", "pool", "flatten", "fc"]


def test_the_answers_are_logits_and_no_probabilities():
    y = digit_cnn(seed=3)(np.random.default_rng(0).random((20, 28, 28, 1), dtype=np.float32)).numpy()
    assert (y < 0).any() and not np.allclose(y.sum(1), 1)
    assert digit_cnn().get_layer("fc").activation is keras.activations.linear


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    keras.utils.set_random_seed(5)
    expected = keras.random.normal((4,)).numpy()
    keras.utils.set_random_seed(5)
    first, again, other = digit_cnn(4, seed=1), digit_cnn(4, seed=1), digit_cnn(4, seed=2)
    np.testing.assert_array_equal(keras.random.normal((4,)).numpy(), expected)
    for one, two, three in zip(first.get_weights(), again.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.ndim == 1 or not np.array_equal(one, three)


def test_the_first_weights_are_glorots():
    conv, _, fc, _ = digit_cnn(32).get_weights()
    for kernel, fans in ((conv, 9 + 9 * 32), (fc, 5408 + 10)):
        limit = np.sqrt(6 / fans)
        assert 0.9 * limit < np.abs(kernel).max() <= limit
        # uniform: a standard deviation of limit / sqrt(3), measured on n values within 5 / sqrt(n) of itself
        assert abs(kernel.std() / (limit / np.sqrt(3)) - 1) < 5 / np.sqrt(kernel.size)


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"filters": 2.0}, {"filters": True}, {"classes": -1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        digit_cnn(**wrong)
