"""The affine map on arrays and its gradient in TensorFlow: brute force, TensorFlow's own fake quantization, the door."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.keras.affine import affine_params, dequantize, fake_quantize, levels, quantize
from dca_lab.keras.ste import fake_quantize_ste, symmetric_scale

VALUES = st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=1, max_size=20)
BITS = st.sampled_from([2, 3, 4, 7, 8])


@settings(deadline=None, max_examples=60)
@given(values=VALUES, bits=BITS, symmetric=st.booleans())
def test_each_value_goes_to_the_nearest_of_all_levels_and_zero_stays(values, bits, symmetric):
    x = np.array([*values, 0.0], np.float32)
    scale, zero_point = affine_params(x.min(), x.max(), bits, symmetric)
    low, high = levels(bits, signed=symmetric, symmetric=symmetric)
    every = (np.arange(low, high + 1) - zero_point) * scale.astype(np.float64)  # by brute force
    y = fake_quantize(x, scale, zero_point, bits=bits, symmetric=symmetric)
    nearest = np.abs(every[None] - x[:, None].astype(np.float64)).min(1)
    np.testing.assert_array_equal(np.abs(y.astype(np.float64) - x), nearest)
    assert nearest.max() <= scale.astype(np.float64) / 2 and y[-1] == 0 and y.dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(values=VALUES, bits=BITS)
def test_levels_survive_the_way_there_and_back(values, bits):
    scale, zero_point = affine_params(min(values), max(values), bits)
    q = np.arange(2**bits)
    np.testing.assert_array_equal(quantize(dequantize(q, scale, zero_point), scale, zero_point, bits=bits), q)


def test_one_scale_a_channel_is_each_channel_alone():
    x = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32) * np.array(
        [1, 9, 0, 3, 0.01], np.float32
    )
    low, high = x.min((0, 1, 2), keepdims=True), x.max((0, 1, 2), keepdims=True)
    together = fake_quantize(x, *affine_params(low, high))
    for channel in range(5):
        part = x[..., channel]
        alone = fake_quantize(part, *affine_params(part.min(), part.max()))
        np.testing.assert_array_equal(together[..., channel], alone)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_and_gradient_are_those_of_tensorflows_own_operator(bits):
    rng, zero_point, scale = np.random.default_rng(bits), 2 ** (bits - 1) - 1, np.float32(0.125)
    x = tf.constant(rng.normal(size=(500,)) * 0.125 * 2**bits, tf.float32)  # a good part outside the range
    ends = -zero_point * scale, (2**bits - 1 - zero_point) * scale
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours = fake_quantize_ste(x, scale, zero_point, bits=bits)
        theirs = tf.quantization.fake_quant_with_min_max_args(x, *ends, num_bits=bits)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    gradient, expected = tape.gradient(ours, x).numpy(), tape.gradient(theirs, x).numpy()
    # TensorFlow lets pass between the end levels, we pass what is rounded to them: half a step further out
    beyond = ((x < ends[0]) & (x >= ends[0] - scale / 2)) | ((x > ends[1]) & (x <= ends[1] + scale / 2))
    np.testing.assert_array_equal(gradient[~beyond], expected[~beyond])
    assert gradient[beyond].all() and 0 < gradient.mean() < 1


def test_the_gradient_passes_inside_a_compiled_function_and_a_stretched_scale_is_summed():
    x, scale = tf.random.stateless_normal((4, 3), (0, 1)), tf.constant([[0.1, 0.2, 0.3]])

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch((x, scale))
            y = tf.reduce_sum(fake_quantize_ste(x, scale, bits=4, signed=True, symmetric=True))
        return tape.gradient(y, (x, scale))

    for eager, compiled in zip(gradients(), tf.function(gradients)(), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-6)
    exact = x / scale
    inside = np.abs(np.rint(exact)) <= 7
    slope = np.where(inside, np.rint(exact) - exact, np.sign(exact) * 7)
    np.testing.assert_allclose(gradients()[1], slope.sum(0, keepdims=True), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(values=VALUES, bits=BITS)
def test_the_scale_in_the_graph_is_the_scale_of_the_arrays(values, bits):
    kernel = np.array(values, np.float32)[:, None]
    scale, _ = affine_params(kernel.min(), kernel.max(), bits, True)
    np.testing.assert_array_equal(symmetric_scale(tf.constant(kernel), bits=bits).numpy(), [[scale]])


def test_the_door():
    with pytest.raises(ValueError, match="2 to 16"):
        levels(1, signed=True)
    with pytest.raises(ValueError, match="negative levels"):
        affine_params(0.0, 1.0, 8, True, signed=False)
    with pytest.raises(ValueError, match="x_max must be finite"):
        affine_params(0.0, np.inf)
    with pytest.raises(ValueError, match="x_min must be finite"):
        affine_params(np.nan, 1.0)
    with pytest.raises(ValueError, match="must not exceed"):
        affine_params([0.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="1 of 2 values"):
        quantize([1.0, np.nan], 1.0, 0)
    with pytest.raises(ValueError, match="levels 0 to 255"):
        quantize([1.0], 1.0, 256)
    with pytest.raises(ValueError, match="positive and finite"):
        quantize([1.0], 0.0, 0)
    with pytest.raises(ValueError, match="must be an integer"):
        quantize([1.0], 1.0, 0.5)
    with pytest.raises(ValueError, match="does not broadcast"):
        quantize(np.ones((2, 3)), np.ones(2), 0)
    with pytest.raises(ValueError, match="positive and finite"):
        fake_quantize_ste(tf.ones(3), float("nan"))
    with pytest.raises(ValueError, match="2 to 16"):
        fake_quantize_ste(tf.ones(3), 1.0, bits=99)
