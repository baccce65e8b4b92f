"""Training with the rounding inside: on its grids from the start, learning in spite of them, and gone at the end."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_digits import accuracy, compiled, digits, learnt

from dca_lab.keras.affine import affine_params, fake_quantize
from dca_lab.keras.builtin import quantize_builtin, quantized_layers
from dca_lab.keras.litert import export_litert
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.qat import QuantizedConv2D, QuantizedDense, finish_qat, prepare_qat


def rounded(kernel, bits):
    """A kernel on its symmetric grid, one scale an output channel."""
    axes = tuple(range(kernel.ndim - 1))
    grid = affine_params(kernel.min(axes, keepdims=True), kernel.max(axes, keepdims=True), bits, True)
    return fake_quantize(kernel, *grid, bits=bits, symmetric=True)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_layers_lie_on_the_grids_of_the_affine_map(bits):
    x, _, _, _ = digits()
    model = learnt()
    qat = prepare_qat(model, bits=bits, calibration=x[:200])
    assert isinstance(qat.get_layer("conv"), QuantizedConv2D) and isinstance(
        qat.get_layer("fc"), QuantizedDense
    )
    for name in ("conv", "fc"):
        kernel = model.get_layer(name).kernel.numpy()
        np.testing.assert_array_equal(qat.get_layer(name).rounded_kernel().numpy(), rounded(kernel, bits))
        np.testing.assert_array_equal(qat.get_layer(name).kernel.numpy(), kernel)  # in floats it is trained
    hidden = keras.Sequential(model.layers[:2])(x[:200]).numpy()
    scale, zero_point = affine_params(hidden.min(), hidden.max(), bits)
    assert qat.get_layer("fc").input_scale.numpy() == pytest.approx(scale, rel=1e-5)
    assert qat.get_layer("fc").input_zero_point.numpy() == zero_point == 0
    assert len(qat.trainable_weights) == 4 and len(qat.non_trainable_weights) == 4


def test_eight_bits_change_little_before_any_training_and_two_change_much():
    x, _, x_test, _ = digits()
    model = learnt()
    y = model(x_test).numpy()

    def error(bits):
        return np.abs(prepare_qat(model, bits=bits, calibration=x[:500])(x_test).numpy() - y).mean()

    assert (
        error(8) < error(4) / 8 < error(2) / 8
    )  # sixteen times finer steps, sixteen times less, twice as margin
    assert error(8) < 0.02 * np.abs(y).mean()


def test_training_with_two_bits_wins_back_what_rounding_after_training_loses():
    x, y, x_test, y_test = digits()
    qat = compiled(prepare_qat(learnt(), bits=2, calibration=x[:500]), keras.optimizers.Adam(1e-3))
    after_training = accuracy(qat, x_test, y_test)
    history = qat.fit(x, y, batch_size=64, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert accuracy(qat, x_test, y_test) > after_training + 0.05
    # at the end a kernel holds no more than three values a channel, in the plain model as well
    plain = finish_qat(qat)
    assert all(len(np.unique(plain.get_layer("fc").kernel.numpy()[:, c])) <= 3 for c in range(10))
    assert type(plain.get_layer("conv")) is keras.layers.Conv2D and plain.count_params() == 13610


def test_it_learns_only_because_the_gradient_is_straight_through():
    x, y, _, _ = digits()
    qat = prepare_qat(learnt(), bits=4, calibration=x[:100])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(y[:64], qat(x[:64]))
    gradients = tape.gradient(value, qat.trainable_weights)
    assert all(np.abs(g).max() > 0 and np.isfinite(g).all() for g in gradients)
    kernel = tf.constant(qat.get_layer("fc").kernel.numpy())
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        value = tf.reduce_sum(tf.round(kernel))
    assert np.abs(tf.convert_to_tensor(tape.gradient(value, kernel) or tf.zeros(1))).max() == 0


def test_the_original_stays_and_saving_keeps_the_grids(tmp_path):
    x, _, x_test, _ = digits()
    model = learnt()
    before = [array.copy() for array in model.get_weights()]
    qat = prepare_qat(model, bits=3, calibration=x[:100])
    qat.save(tmp_path / "qat.keras")
    again = keras.models.load_model(tmp_path / "qat.keras")
    np.testing.assert_allclose(again(x_test[:50]), qat(x_test[:50]), atol=1e-6)
    assert again.get_layer("fc").bits == 3
    qat.get_layer("conv").kernel.assign(np.zeros((3, 3, 1, 8), np.float32))
    for one, two in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_litert_writes_the_very_levels_that_training_saw(tmp_path):
    """The kernel lies on our grid already, so that LiteRT's own rounding of it must change nothing."""
    x, y, _, _ = digits()
    qat = compiled(prepare_qat(learnt(), calibration=x[:200]))
    qat.fit(x[:512], y[:512], batch_size=64, verbose=0)
    lite = export_litert(finish_qat(qat), tmp_path / "qat.tflite", calibration=x[:200])
    for name, (_, codes, scales) in zip(("conv", "fc"), lite.weights(), strict=True):
        kernel = np.moveaxis(qat.get_layer(name).rounded_kernel().numpy(), -1, 0)
        scale = scales.reshape(-1, *[1] * (kernel.ndim - 1))
        # the file's scale is the largest weight / 127, ours up to 2^-15 larger, and 127 levels away: 2^-8 of a level
        assert np.abs(codes - kernel / scale).max() < 2**-7
        assert np.abs(codes * scale - kernel).max() <= 2**-7 * scales.max()


def test_functional_models_and_layers_without_bias_are_prepared_too():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5, use_bias=False, activation="relu", name="a")(inputs)
    outputs = keras.layers.Dense(3, name="b")(keras.layers.Add(name="sum")([hidden, hidden]))
    model, x = keras.Model(inputs, outputs), np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    qat = prepare_qat(model, bits=8, calibration=x)
    np.testing.assert_allclose(qat(x), model(x), atol=0.1)
    np.testing.assert_array_equal(
        finish_qat(qat).get_layer("a").kernel, rounded(model.get_layer("a").kernel.numpy(), 8)
    )


def test_the_door():
    x, _, _, _ = digits()
    for bits in (1, 9, 4.0, True):
        with pytest.raises(ValueError, match="2 to 8"):
            prepare_qat(digit_cnn(2), bits=bits, calibration=x[:8])
    for wrong in (x[:0], x[:8, ..., 0], x[:8].astype(np.float64)):
        with pytest.raises(ValueError, match="calibration: float32"):
            prepare_qat(digit_cnn(2), calibration=wrong)
    with pytest.raises(ValueError, match="NaN"):
        prepare_qat(digit_cnn(2), calibration=np.full((4, 28, 28, 1), np.nan, np.float32))
    qat = prepare_qat(digit_cnn(2), calibration=x[:8])
    with pytest.raises(ValueError, match="prepared already"):
        prepare_qat(qat, calibration=x[:8])
    with pytest.raises(ValueError, match="finish_qat takes"):
        finish_qat(digit_cnn(2))
    half = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(2, 3, dtype="mixed_bfloat16")])
    with pytest.raises(ValueError, match="mixed precision"):
        prepare_qat(half, calibration=x[:8])


# what Keras itself does


def test_keras_own_quantize_touches_the_dense_layer_only():
    x, _, x_test, y_test = digits()
    model = learnt()
    assert quantized_layers(model) == []
    quantized = quantize_builtin(model)
    assert quantized_layers(quantized) == ["fc"] and quantized_layers(model) == []
    conv, fc = quantized.get_layer("conv"), quantized.get_layer("fc")
    np.testing.assert_array_equal(conv.kernel.numpy(), model.get_layer("conv").kernel.numpy())
    assert str(fc._kernel.dtype) == "int8"
    assert accuracy(quantized, x_test, y_test) == pytest.approx(accuracy(model, x_test, y_test), abs=0.02)


def test_keras_own_quantize_is_asked_quietly(recwarn):
    quantize_builtin(digit_cnn(2))
    assert not [warning for warning in recwarn if "quantize" in str(warning.message)]
    with pytest.raises(ValueError, match="int3"):
        quantize_builtin(digit_cnn(2), "int3")
