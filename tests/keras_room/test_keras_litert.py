"""LiteRT files: their logits beside Keras's with bounds that are derived, their integers, and their silence."""

import os

import keras
import numpy as np
import pytest
from keras_digits import accuracy, digits, learnt

from dca_lab.keras.litert import LiteModel, export_litert
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.quiet import quiet


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The trained network, and its two files."""
    folder, model, (x, _, _, _) = tmp_path_factory.mktemp("litert"), learnt(), digits()
    whole = export_litert(model, folder / "float.tflite")
    return model, whole, export_litert(model, folder / "int8.tflite", calibration=x[:200])


def test_the_float_file_answers_like_keras(files):
    model, whole, _ = files
    _, _, x, _ = digits()
    y = model(x).numpy()
    # two orders of summing 1352 products: n * 2^-24 of the sum of their sizes, which is at most a few times the logit
    np.testing.assert_allclose(whole(x), y, atol=1352 * 2**-24 * np.abs(y).max())
    assert not whole.is_integer() and whole.grids() == ((0, 0), (0, 0))
    assert {kind for kind in whole.tensor_types().values()} == {
        "float32",
        "int32",
    }  # int32: the shape to reshape to


def test_the_integer_file_is_integer_throughout(files):
    _, whole, integer = files
    assert integer.is_integer() and set(integer.tensor_types().values()) == {"int8", "int32"}
    expected = {"CONV_2D": 1, "FULLY_CONNECTED": 1, "MAX_POOL_2D": 1, "RESHAPE": 1}
    assert integer.operators() == whole.operators() == expected
    assert [codes.dtype for _, codes, _ in integer.weights()] == [np.int8, np.int8]
    assert integer.bytes == integer.path.stat().st_size < whole.bytes / 2.5
    (scale, zero_point), _ = integer.grids()
    assert (scale, zero_point) == (pytest.approx(1 / 255, rel=1e-6), -128)


def details(lite):
    """(scale, zero point) of the hidden activation, read from the file: it is the convolution's output."""
    inside, operators = lite._inside()
    tensors = {t["index"]: t for t in inside.get_tensor_details()}
    conv = next(o for o in operators if o["op_name"] == "CONV_2D")
    fc = next(o for o in operators if o["op_name"] == "FULLY_CONNECTED")
    biases = [inside.get_tensor(int(o["inputs"][2])).copy() for o in (conv, fc)]
    return *tensors[int(conv["outputs"][0])]["quantization"], biases


def windows(x):
    """(B, 28, 28) -> (B, 26, 26, 9): what each place of a 3x3 convolution sees."""
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2)).reshape(len(x), 26, 26, 9)


def pooled(y):
    return y.reshape(len(y), 13, 2, 13, 2, -1).max((2, 4)).reshape(len(y), -1)


def test_the_integer_logits_are_those_of_integer_arithmetic_by_hand(files):
    """Sums of int8 products are exact; only the way back to 8 bits rounds, once a layer. A quotient beside a tie may
    fall to the neighbour there, in a few of 1352 hidden values, which moves a logit by far less than a level of the
    output: so it differs by at most one."""
    _, _, integer = files
    _, _, x, _ = digits()
    (s_x, z_x), (s_y, z_y) = integer.grids()
    s_h, z_h, (bias_conv, bias_fc) = details(integer)
    (_, conv, s_conv), (_, fc, s_fc) = integer.weights()
    q = np.clip(np.rint(x[..., 0] / np.float32(s_x)) + z_x, -128, 127).astype(int)
    sums = windows(q - z_x) @ conv.reshape(8, 9).T.astype(int) + bias_conv
    hidden = np.clip(np.rint(sums * (s_x * s_conv.astype(float) / s_h)) + z_h, max(-128, z_h), 127)
    sums = (pooled(hidden) - z_h).astype(int) @ fc.T.astype(int) + bias_fc
    levels = np.clip(np.rint(sums * (s_h * s_fc.astype(float) / s_y)) + z_y, -128, 127)
    got = integer(x) / s_y + z_y
    assert np.abs(got - levels).max() <= 1 + 1e-3
    assert (np.abs(got - levels) < 0.5).mean() > 0.97


def test_the_integer_logits_lie_within_the_bound_of_the_roundings(files):
    """|y' - y| <= half a level of the output + sum |W| |h' - h| + |W' - W| |h'|, and the same in the layer before."""
    model, _, integer = files
    x, _, _, _ = digits()
    x = x[:200]  # the calibration data: nothing is clipped
    (s_x, _), (s_y, _) = integer.grids()
    s_h, _, _ = details(integer)
    (_, _, s_conv), (_, _, s_fc) = integer.weights()
    kernel, bias, dense, _ = model.get_weights()
    kernel = kernel.reshape(9, 8)
    seen = windows(x[..., 0])
    off = (s_x / 2 * np.abs(kernel).sum(0) + s_conv / 2 * (seen + s_x / 2).sum(-1, keepdims=True)) + s_h
    hidden = pooled(np.maximum(seen @ kernel + bias, 0))
    off = pooled(off)  # |max a - max b| <= max |a - b|
    bound = s_y + off @ np.abs(dense) + (hidden + off) @ np.ones_like(dense) * s_fc / 2
    error = np.abs(integer(x) - model(x).numpy())
    assert (error <= bound).all()
    # errors of independent signs add up far below the bound: that the file is useful is this line
    assert error.max() < 0.05 * np.abs(model(x)).max()


def test_the_accuracy_survives_eight_bits(files):
    model, whole, integer = files
    _, _, x, y = digits()
    assert abs(accuracy(whole, x, y) - accuracy(model, x, y)) <= 0.001
    assert abs(accuracy(integer, x, y) - accuracy(model, x, y)) <= 0.01


def test_batches_of_any_size_one_after_the_other(files):
    _, whole, integer = files
    _, _, x, _ = digits()
    for lite, tolerance in ((whole, 1e-4), (integer, 0)):
        together = lite(x[:64])
        for count in (1, 7, 64, 1):
            np.testing.assert_allclose(lite(x[:count]), together[:count], atol=tolerance)
        assert lite(x[:3]).dtype == np.float32
    first, kept = integer(x[:2]), integer(x[:2]).copy()
    integer(x[5:7])
    np.testing.assert_array_equal(first, kept)  # an answer is no view of the interpreter's memory


def test_a_new_process_would_find_the_same_file(files):
    _, _, integer = files
    _, _, x, _ = digits()
    again = LiteModel(integer.path, threads=2)
    np.testing.assert_array_equal(again(x[:20]), integer(x[:20]))
    assert again.threads == 2 and "int8.tflite" in repr(again)


def test_values_outside_the_calibrated_range_are_clamped(files):
    _, _, integer = files
    _, _, x, _ = digits()
    np.testing.assert_array_equal(integer(x[:5] * 9 - 4), integer(np.clip(x[:5] * 9 - 4, 0, 1)))


def test_the_model_is_untouched_and_mixed_precision_is_written_in_float32(tmp_path):
    half = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(4, 3, activation="relu", dtype="mixed_bfloat16"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, dtype="mixed_bfloat16"),
        ]
    )
    before = [array.copy() for array in half.get_weights()]
    _, _, x, _ = digits()
    lite = export_litert(half, tmp_path / "half.tflite")
    assert set(lite.tensor_types().values()) == {"float32", "int32"}
    y = np.asarray(half(x[:20]), np.float32)
    np.testing.assert_allclose(lite(x[:20]), y, atol=2**-4 * np.abs(y).max())  # bfloat16 has 8 bits
    for one, two in zip(half.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_functional_models_are_written_too(tmp_path):
    inputs = keras.Input((28, 28, 1))
    hidden = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Add()([hidden, inputs])))
    model, (x, _, _, _) = keras.Model(inputs, outputs), digits()
    np.testing.assert_allclose(export_litert(model, tmp_path / "f.tflite")(x[:9]), model(x[:9]), atol=1e-4)
    assert export_litert(model, tmp_path / "i.tflite", calibration=x[:50]).is_integer()


def test_nothing_is_printed_neither_by_python_nor_by_cpp(tmp_path, capfd):
    x, _, _, _ = digits()
    export_litert(digit_cnn(2), tmp_path / "a.tflite", calibration=x[:10])(x[:3])
    LiteModel(tmp_path / "a.tflite").operators()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_what_was_said_is_not_lost_with_an_error(capfd):
    with pytest.raises(RuntimeError), quiet():
        os.write(2, b"the reason, in C++\n")
        raise RuntimeError
    assert "the reason, in C++" in capfd.readouterr().err
    os.write(2, b"heard again\n")
    assert "heard again" in capfd.readouterr().err


def test_the_door(files, tmp_path):
    model, whole, integer = files
    x, _, _, _ = digits()
    for wrong in (x[:2, ..., 0], x[:2].astype(np.float64), x[:0], x[:2, :27]):
        with pytest.raises(ValueError, match=r"takes float32 \(B, 28, 28, 1\)"):
            whole(wrong)
    with pytest.raises(ValueError, match="NaN"):
        integer(np.full((1, 28, 28, 1), np.nan, np.float32))
    with pytest.raises(FileNotFoundError, match="export_litert"):
        LiteModel(tmp_path / "none.tflite")
    with pytest.raises(ValueError, match="at least 1"):
        LiteModel(whole.path, threads=0)
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="no model that LiteRT can run"):
        LiteModel(tmp_path / "broken.tflite")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_litert(model, tmp_path / "nowhere" / "a.tflite")
    with pytest.raises(ValueError, match="is built"):
        export_litert(keras.Sequential([keras.layers.Dense(3)]), tmp_path / "a.tflite")
    for wrong in (x[:5, ..., 0], x[:0], x[:5].astype(int)):
        with pytest.raises(ValueError, match="calibration: float32"):
            export_litert(model, tmp_path / "a.tflite", calibration=wrong)
    with pytest.raises(ValueError, match="NaN"):
        export_litert(model, tmp_path / "a.tflite", calibration=x[:5] * np.float32("nan"))
    assert not (tmp_path / "a.tflite").exists()


def test_a_model_that_keras_quantized_is_sent_back(tmp_path):
    model = digit_cnn(2)
    with quiet():
        model.quantize("int8")
    with pytest.raises(ValueError, match="export the float model"):
        export_litert(model, tmp_path / "a.tflite")
