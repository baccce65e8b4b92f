"""Half precision: the policy is put back, our loss scale is Keras' to the bit, and small gradients survive by it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.keras import (
    DynamicLossScale,
    activation_bytes,
    digit_cnn,
    gradients,
    peak_bytes,
    scaled_step,
    use_policy,
)

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(policy):
    with use_policy(policy):
        first, last = keras.initializers.GlorotUniform(1), keras.initializers.GlorotUniform(2)
        return keras.Sequential(
            [
                keras.layers.Input((16,)),
                keras.layers.Dense(32, activation="relu", kernel_initializer=first),
                keras.layers.Dense(4, kernel_initializer=last),
            ]
        )


def batches(count, size=32):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((size, 16), np.float32), rng.integers(0, 4, size)) for _ in range(count)]


@pytest.mark.parametrize("name, output", [("mixed_float16", tf.float16), ("mixed_bfloat16", tf.bfloat16)])
def test_a_policy_counts_inside_only(name, output):
    before = keras.config.dtype_policy().name
    with use_policy(name) as policy:
        assert policy.name == name
        layer = keras.layers.Dense(3)
    assert keras.config.dtype_policy().name == before
    assert layer(np.zeros((2, 4), np.float32)).dtype == output  # the layer keeps it
    assert layer.kernel.dtype == "float32"


def test_a_policy_is_put_back_after_an_error_and_when_nested():
    with use_policy("mixed_bfloat16"):
        with pytest.raises(KeyError), use_policy("mixed_float16"):
            raise KeyError("inside")
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    with pytest.raises(ValueError, match="mixed_float16"), use_policy("float16"):
        pass


@pytest.mark.parametrize("inner", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_the_loss_scale_is_keras_own(inner):
    data = batches(12)
    for step in (3, 4, 9):  # planted overflows: activations beyond 65504
        data[step][0][:] *= 3e4
    theirs, ours = network("mixed_float16"), network("mixed_float16")
    oracle = keras.optimizers.LossScaleOptimizer(inner(0.01), initial_scale=2.0**15, dynamic_growth_steps=2)
    theirs.compile(oracle, CROSS_ENTROPY, run_eagerly=True)  # a graph may round float16 elsewhere
    optimizer, loss_scale = inner(0.01), DynamicLossScale(2.0**15, growth_steps=2)
    taken, scales = [], []
    for x, y in data:
        theirs.train_on_batch(x, y)
        taken.append(scaled_step(ours, optimizer, CROSS_ENTROPY, x, y, loss_scale)[1])
        scales.append(loss_scale.scale)
        assert loss_scale.scale == float(oracle.dynamic_scale)
        for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)
    assert not taken[3] and not taken[4]
    assert max(scales) > 2.0**15 > min(scales)  # it moved both ways


@settings(max_examples=50, deadline=None)
@given(
    finite=st.lists(st.booleans(), min_size=1, max_size=30),
    growth_steps=st.integers(1, 4),
    exponent=st.integers(0, 20),
)
def test_any_run_of_overflows_gives_the_scales_of_keras(finite, growth_steps, exponent):
    weight = keras.Variable(np.zeros(2, np.float32))
    oracle = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5), initial_scale=2.0**exponent, dynamic_growth_steps=growth_steps
    )
    loss_scale, ours = DynamicLossScale(2.0**exponent, growth_steps=growth_steps), np.zeros(2, np.float32)
    for step, good in enumerate(finite):
        gradient = tf.constant([step + 1.0, 2.0 if good else (np.nan if step % 2 else np.inf)])
        oracle.apply([gradient], [weight])
        unscaled = loss_scale.unscale([gradient, None])
        assert (unscaled is not None) == good
        if good:
            assert unscaled[1] is None
            ours = ours - np.float32(0.5) * unscaled[0].numpy()
        assert loss_scale.scale == float(oracle.dynamic_scale)
        np.testing.assert_array_equal(ours, weight.numpy())


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def test_float16_gradients_vanish_without_a_scale_and_survive_with_it():
    def small(y, predicted):  # as the weight of an auxiliary loss is
        return 2.0**-20 * CROSS_ENTROPY(y, predicted)

    ((x, y),) = batches(1, size=512)
    full, half, brain = (network(policy) for policy in ("float32", "mixed_float16", "mixed_bfloat16"))
    exact = flat(gradients(full, small, x, y))
    assert (exact != 0).all()
    assert (flat(gradients(half, small, x, y)) == 0).all()
    scaled = flat(gradients(half, small, x, y, scale=2.0**20))
    np.testing.assert_array_equal(
        scaled, flat(gradients(half, CROSS_ENTROPY, x, y)) * 2.0**-20
    )  # not a bit lost
    for found, bits in ((scaled, 11), (flat(gradients(brain, small, x, y)), 8)):
        # a dozen roundings to so many bits between the loss and a weight, and some cancellation
        assert np.linalg.norm(found - exact) <= 12 * 2.0**-bits * np.linalg.norm(exact)

    before = half.get_weights()
    for optimizer, loss_scale, moves in (
        (keras.optimizers.SGD(1e4), DynamicLossScale(1.0), False),
        (keras.optimizers.SGD(1e4), DynamicLossScale(2.0**20), True),
    ):
        _, taken = scaled_step(half, optimizer, small, x, y, loss_scale)
        assert taken  # zeros are finite: nothing tells of the loss
        assert any((a != b).any() for a, b in zip(before, half.get_weights(), strict=True)) == moves


@pytest.mark.parametrize("bad", [0.0, -2.0, 3.0, float("inf"), float("nan")])
def test_a_scale_is_a_power_of_two(bad):
    with pytest.raises(ValueError, match="power of two"):
        DynamicLossScale(bad)


def test_growth_takes_a_step():
    with pytest.raises(ValueError, match="growth_steps"):
        DynamicLossScale(growth_steps=0)


@pytest.mark.parametrize("policy, width", [("float32", 4), ("mixed_float16", 2), ("mixed_bfloat16", 2)])
def test_activations_take_the_bytes_of_their_format(policy, width):
    with use_policy(policy):
        model = digit_cnn(8)
    found = activation_bytes(model, np.zeros((3, 28, 28, 1), np.float32))
    numbers = {"conv": 3 * 26 * 26 * 8, "pool": 3 * 13 * 13 * 8, "flatten": 0, "fc": 3 * 10}
    assert found == {name: count * width for name, count in numbers.items()}
    assert list(found) == list(numbers)


def test_activations_of_a_branching_network_with_one_float32_layer():
    with use_policy("mixed_bfloat16"):
        entered = keras.layers.Input((6,), name="entered")
        left, right = (
            keras.layers.Dense(5, name="left")(entered),
            keras.layers.Dense(5, name="right")(entered),
        )
        both = keras.layers.Add(name="both")([left, right])
        model = keras.Model(entered, keras.layers.Dense(2, dtype="float32", name="last")(both))
    found = activation_bytes(model, np.zeros((7, 6), np.float32))
    assert found == {"left": 70, "right": 70, "both": 70, "last": 56}


def test_a_model_without_input_is_refused():
    with pytest.raises(ValueError, match="Input"):
        activation_bytes(keras.Sequential([keras.layers.Dense(3)]), np.zeros((2, 4), np.float32))


def test_a_peak_needs_books():
    tf.zeros(1)  # TensorFlow runs, with the allocator that keeps none
    with pytest.raises(RuntimeError, match="first cell"):
        peak_bytes(lambda: tf.zeros(10))
