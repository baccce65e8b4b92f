"""Fewer filters: the smaller network beside the large one with those filters zeroed, value by value."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_digits import assert_close, learnt

from dca_lab.keras.filters import group_norm, prune_filters
from dca_lab.keras.models import digit_cnn

L = keras.layers


def pictures(count=8, side=28, maps=1):
    return np.random.default_rng(1).normal(size=(count, side, side, maps)).astype(np.float32)


def zeroed(model, kept):
    """The same network with the other filters at zero: kernel, bias and what a normalisation would add."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    gone = None
    for layer in twin.layers:
        if layer.name in kept:
            gone = np.setdiff1d(np.arange(layer.filters), kept[layer.name])
            arrays = layer.get_weights()
            for array in arrays:
                array[..., gone] = 0
            layer.set_weights(arrays)
        elif isinstance(layer, L.Flatten) and gone is not None:
            gone = np.flatnonzero(np.isin(np.arange(layer.output.shape[-1]) % layer.input.shape[-1], gone))
        elif isinstance(layer, L.BatchNormalization) and gone is not None:
            gamma, beta, mean, variance = layer.get_weights()
            gamma[gone] = beta[gone] = 0
            layer.set_weights([gamma, beta, mean, variance])
        elif isinstance(layer, L.Conv2D | L.Dense):
            gone = None
    return twin


def randomised(model):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=w.shape).astype(np.float32) * 0.3 for w in model.weights]
    model.set_weights(
        [np.abs(a) + 0.5 if "variance" in w.path else a for a, w in zip(arrays, model.weights, strict=True)]
    )
    return model


@settings(deadline=None, max_examples=8)
@given(kept=st.sets(st.integers(0, 7), min_size=1, max_size=8))
def test_the_small_network_is_the_large_one_with_those_filters_at_zero(kept):
    model, kept = learnt(), sorted(kept)
    small = prune_filters(model, kept)
    assert small.get_layer("conv").kernel.shape == (3, 3, 1, len(kept))
    assert small.get_layer("fc").kernel.shape == (169 * len(kept), 10)
    x = pictures()
    assert_close(small(x), zeroed(model, {"conv": kept})(x))


DEEP = {
    "two convolutions, normalisation, two dense layers": lambda: [
        L.Conv2D(6, 3, name="a", padding="same"), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(),
        L.Conv2D(5, 3, name="b", use_bias=False, strides=2), L.Activation("tanh"), L.Dropout(0.5),
        L.Flatten(), L.Dense(7, activation="relu"), L.Dense(4),
    ],
    "pooled to one value": lambda: [
        L.ZeroPadding2D(), L.Conv2D(6, 2, name="a"), L.AveragePooling2D(2), L.Conv2D(8, 1, name="b"),
        L.BatchNormalization(), L.GlobalAveragePooling2D(), L.Dense(3),
    ],
    "normalised after flattening": lambda: [
        L.Conv2D(6, 3, name="a"), L.Conv2D(4, 3, name="b"), L.Flatten(), L.BatchNormalization(), L.Dense(3),
    ],
    "ends in a convolution": lambda: [
        L.Conv2D(6, 3, name="a"), L.Conv2D(4, 3, name="b"), L.Conv2D(2, 1, name="last"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
def test_networks_of_several_layers_in_one_go(name):
    model = randomised(keras.Sequential([keras.Input((9, 9, 2)), *DEEP[name]()]))
    kept = {"a": [0, 2, 5], "b": [1, 3]}
    small, x = prune_filters(model, kept), pictures(side=9, maps=2)
    assert_close(small(x), zeroed(model, kept)(x))
    assert small.count_params() < model.count_params()
    assert (small.get_layer("a").filters, small.get_layer("b").filters) == (3, 2)


def test_the_default_score_is_the_norm_of_filter_scale_and_readers():
    model = randomised(keras.Sequential([keras.Input((9, 9, 2)), *DEEP[next(iter(DEEP))]()]))
    first, norm, second = model.get_layer("a"), model.layers[1], model.get_layer("b")
    dense = model.layers[8].kernel.numpy()
    for name in "ab":
        expected = []
        for c in range(model.get_layer(name).filters):
            parts = [model.get_layer(name).kernel.numpy()[..., c].ravel()]
            if name == "a":
                parts += [norm.gamma.numpy()[[c]], second.kernel.numpy()[:, :, c].ravel()]
            else:  # flattened (H, W, C): every fifth row reads map c
                parts += [dense[c::5].ravel()]
            expected.append(np.linalg.norm(np.concatenate(parts)))
        np.testing.assert_allclose(group_norm(model, name), expected, rtol=1e-6)
    assert first.filters == 6


def test_the_best_filters_stay_by_the_importance_that_is_asked_for():
    model = digit_cnn(6)
    best = np.sort(np.argsort(group_norm(model, "conv"))[-2:])
    np.testing.assert_array_equal(
        prune_filters(model, 2).get_layer("conv").kernel, model.get_layer("conv").kernel.numpy()[..., best]
    )
    shapes = {}

    def last_ones(kernel, reader):
        shapes.update(kernel=kernel.shape, reader=reader.shape)
        return np.arange(6)

    small = prune_filters(model, {"conv": 0.5}, importance=last_ones)
    np.testing.assert_array_equal(
        small.get_layer("conv").kernel, model.get_layer("conv").kernel.numpy()[..., 3:]
    )
    assert shapes == {"kernel": (3, 3, 1, 6), "reader": (6, 169 * 10)}


def test_the_original_is_untouched_and_shares_nothing():
    model = learnt()
    before = [array.copy() for array in model.get_weights()]
    small = prune_filters(model, 8)
    small.set_weights([array * 0 for array in small.get_weights()])
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("keep", [0, 7, 0.0, 1.5, True, [], [0, 0], [6], [-1], "some", [0.5], None])
def test_an_impossible_keep_is_refused(keep):
    with pytest.raises(ValueError, match="conv"):
        prune_filters(digit_cnn(6), keep)


def test_the_door():
    with pytest.raises(ValueError, match="fc"):
        prune_filters(digit_cnn(6), {"fc": 3})
    with pytest.raises(ValueError, match="one finite score"):
        prune_filters(digit_cnn(6), 3, importance=lambda kernel, reader: np.zeros(5))
    with pytest.raises(ValueError, match="keras.Sequential"):
        prune_filters(keras.Sequential([L.Dense(3)]), 3)
    with pytest.raises(ValueError, match="LayerNormalization"):
        prune_filters(keras.Sequential([keras.Input((9, 9, 1)), L.Conv2D(3, 3), L.LayerNormalization()]), 2)
    with pytest.raises(ValueError, match="groups=1"):
        prune_filters(keras.Sequential([keras.Input((9, 9, 2)), L.Conv2D(4, 3, groups=2)]), 2)
    softmax = [L.Conv2D(4, 3, activation="softmax", name="conv"), L.Flatten(), L.Dense(2)]
    with pytest.raises(ValueError, match="softmax"):
        prune_filters(keras.Sequential([keras.Input((9, 9, 1)), *softmax]), 2)
