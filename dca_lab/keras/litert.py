r"""Leave the framework: write a LiteRT file (``.tflite``), in floats or entirely in integers.

Without calibration data the file holds float32. With them every tensor becomes an integer:

.. math:: q = \mathrm{round}(x / s) + z, \qquad
          q_y = \mathrm{clamp}\Bigl(\mathrm{round}\bigl(\tfrac{s_x s_w}{s_y} \sum (q_x - z_x)\,q_w\bigr) + z_y\Bigr)

Weights are symmetric int8 with one scale an output channel, for dense layers too; activations asymmetric int8 with one
grid a tensor, from their smallest and largest value in the calibration data; biases int32. B. Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.

What this file is *not*: a promise of speed. LiteRT's integers pay on processors that have instructions for them; the
chapter measures. The converter is a part of TensorFlow; the file runs without it, see `lite_model`.
"""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dca_lab.files import replacing, require_folder
from dca_lab.keras.lite_model import LiteModel
from dca_lab.keras.quiet import quiet

__all__ = ["LiteModel", "export_litert"]


def export_litert(
    model: keras.Model, path: str | Path, *, calibration: np.ndarray | None = None
) -> LiteModel:
    """Write a Keras model as a LiteRT file, in floats or entirely in integers.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, float weights; not changed. Trained in mixed precision, it is written in float32.
    path : str or Path
        Where to, usually ``*.tflite``; its folder exists. Written whole or not at all.
    calibration : ndarray, optional
        (N, ...) float32 inputs, a hundred or more: with them the file is integer throughout, int8 in and out.

    Returns
    -------
    LiteModel
        The file, opened on one thread.

    Raises
    ------
    ValueError
        If the calibration data do not fit the model, or a part of it has no integer form.
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from dca_lab.keras.models import digit_cnn
    >>> x = np.random.default_rng(0).random((100, 28, 28, 1), dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lite = export_litert(digit_cnn(), f"{folder}/digits.tflite", calibration=x)
    >>> lite.is_integer(), lite(x).shape
    (True, (100, 10))
    """
    path = require_folder(path)
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError("export_litert takes a Keras model that is built: give it an Input")
    shape = tuple(model.input_shape[1:])
    frozen = _frozen(model)
    converter = tf.lite.TFLiteConverter.from_keras_model(frozen)
    if calibration is not None:
        samples = np.asarray(calibration)
        if samples.dtype != np.float32 or samples.shape[1:] != shape or not len(samples):
            raise ValueError(f"calibration: float32 (N, {shape}), not {samples.dtype} {samples.shape}")
        if not np.isfinite(samples).all():
            raise ValueError("calibration holds NaN or infinity: clean the data first")
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([samples[i : i + 1]] for i in range(len(samples)))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet():
        content = converter.convert()
    with replacing(path) as beside:
        beside.write_bytes(content)
    return LiteModel(path)


class _Flatten(keras.layers.Layer):
    """Keras's own Flatten asks for the size of the batch while it runs: three operators more in the file."""

    def call(self, x):
        return tf.reshape(x, (-1, math.prod(x.shape[1:])))


def _frozen(model: keras.Model) -> keras.Model:
    """A copy that computes in float32 and whose flattening is one operator."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if getattr(layer, "quantization_mode", None):
            raise ValueError(f"{layer.name} was quantized by Keras: export the float model instead")
        if isinstance(layer, keras.layers.Flatten):
            return _Flatten(name=layer.name)
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin
