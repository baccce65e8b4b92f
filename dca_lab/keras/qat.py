r"""Quantization-aware training in Keras: layers that round their input and their kernel, and learn in spite of it.

.. math:: y = f(\hat W \hat x + b), \qquad \hat W, \hat x \text{ on their grids}

The kernel's grid is symmetric with one scale an output channel, :math:`s_o = \max |W_o| / q_{max}` of the kernel as it
is at this step; the input's grid is that of its smallest and largest value in the calibration data, and stays. Both are
the grids on which `litert` puts weights and activations with 8 bits, so training feels what will be executed. Gradients
pass by the straight-through estimator of `ste`. B. Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.

What this file is *not*: faster or smaller. The layers compute in floats; `finish_qat` returns a plain model to export.
Biases are not rounded (LiteRT keeps them in 32 bits), nor are the logits; a batch normalisation is not folded. Learned
steps are in the torch room.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from dca_lab.keras.affine import affine_params
from dca_lab.keras.ste import fake_quantize_ste, symmetric_scale


class _Rounding:
    """What both layers share: the grid of the input as two weights that are not trained, and the bits."""

    def __init__(self, *, bits: int = 8, **options):
        super().__init__(**options)
        self.bits = bits

    def build(self, input_shape) -> None:
        super().build(input_shape)
        options = {"shape": (), "trainable": False}
        self.input_scale = self.add_weight(name="input_scale", initializer="ones", **options)
        self.input_zero_point = self.add_weight(name="input_zero_point", initializer="zeros", **options)

    def rounded_kernel(self) -> tf.Tensor:
        """The kernel on its grid, (..., O) float32."""
        kernel = tf.convert_to_tensor(self.kernel)
        scale = symmetric_scale(kernel, bits=self.bits)
        return fake_quantize_ste(kernel, scale, bits=self.bits, signed=True, symmetric=True)

    def rounded_input(self, x: tf.Tensor) -> tf.Tensor:
        """The input on its grid, float32."""
        scale, zero_point = (
            tf.convert_to_tensor(self.input_scale),
            tf.convert_to_tensor(self.input_zero_point),
        )
        return fake_quantize_ste(x, scale, zero_point, bits=self.bits)

    def get_config(self) -> dict:
        return super().get_config() | {"bits": self.bits}

    def save_own_variables(self, store) -> None:  # Keras's own saves kernel and bias alone
        for number, variable in enumerate(self.weights):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store) -> None:
        for number, variable in enumerate(self.weights):
            variable.assign(store[str(number)])


@keras.saving.register_keras_serializable(package="dca_lab")
class QuantizedConv2D(_Rounding, keras.layers.Conv2D):
    """A convolution that rounds its input and its kernel. Made by `prepare_qat`."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(B, H, W, I) -> (B, H', W', O)."""
        y = self.convolution_op(self.rounded_input(x), self.rounded_kernel())
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)


@keras.saving.register_keras_serializable(package="dca_lab")
class QuantizedDense(_Rounding, keras.layers.Dense):
    """A dense layer that rounds its input and its kernel. Made by `prepare_qat`."""

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, ..., I) -> (B, ..., O)."""
        y = keras.ops.matmul(self.rounded_input(x), self.rounded_kernel())
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)


_ROUNDING = {keras.layers.Conv2D: QuantizedConv2D, keras.layers.Dense: QuantizedDense}


def prepare_qat(model: keras.Model, *, bits: int = 8, calibration: np.ndarray) -> keras.Model:
    """A copy whose Conv2D and Dense layers round weights and activations, to be compiled and trained.

    Parameters
    ----------
    model : keras.Model
        Trained, Sequential or functional, float32; not changed.
    bits : int
        2 to 8, of weights and activations.
    calibration : ndarray
        (N, ...) float32, some hundred inputs: they fix the range of each layer's input.

    Returns
    -------
    keras.Model
        Of the same names; not compiled. Before any training it is the model quantized after training.

    Raises
    ------
    ValueError
        For other bits, calibration data that do not fit or hold NaN, a model without such layers.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> x = np.random.default_rng(0).random((64, 28, 28, 1), dtype=np.float32)
    >>> qat = prepare_qat(digit_cnn(4), bits=4, calibration=x)
    >>> qat(x).shape, len(np.unique(qat.get_layer("conv").rounded_kernel()[..., 0])) <= 15
    (TensorShape([64, 10]), True)
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise ValueError(f"bits={bits!r}: give a whole number from 2 to 8")
    chosen = [layer for layer in model.layers if type(layer) in _ROUNDING]
    if not chosen:
        raise ValueError(f"{model.name} has no Conv2D or Dense layer to round, or is prepared already")
    if any(layer.compute_dtype != "float32" for layer in chosen):
        raise ValueError(
            "quantization-aware training is for float32: build the model outside mixed precision"
        )
    grids = _input_grids(model, chosen, np.asarray(calibration), bits)

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if type(layer) not in _ROUNDING:
            return type(layer).from_config(layer.get_config())
        return _ROUNDING[type(layer)].from_config(layer.get_config() | {"bits": bits})

    twin = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        if layer.weights:  # a clone's inputs have other names
            twin.get_layer(layer.name).set_weights(layer.get_weights() + grids.get(layer.name, []))
    return twin


def finish_qat(model: keras.Model) -> keras.Model:
    """The plain Keras model with the rounded kernels, ready for `export_litert`.

    Parameters
    ----------
    model : keras.Model
        Made by `prepare_qat`; not changed.

    Returns
    -------
    keras.Model
        Conv2D and Dense again, their kernels on the grids that training ended with. Activations are floats.
        A ValueError if no layer of the model rounds.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> x = np.random.default_rng(0).random((64, 28, 28, 1), dtype=np.float32)
    >>> [type(layer).__name__ for layer in finish_qat(prepare_qat(digit_cnn(4), calibration=x)).layers]
    ['Conv2D', 'MaxPooling2D', 'Flatten', 'Dense']
    """
    plain = {rounding: base for base, rounding in _ROUNDING.items()}
    if not any(type(layer) in plain for layer in model.layers):
        raise ValueError(f"{model.name} has no rounding layer: finish_qat takes what prepare_qat returned")

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer) in plain:
            del config["bits"]
        return plain.get(type(layer), type(layer)).from_config(config)

    twin = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        arrays = layer.get_weights()
        if type(layer) in plain:
            arrays = [layer.rounded_kernel().numpy(), *arrays[1:-2]]  # without the grid of the input
        if arrays:
            twin.get_layer(layer.name).set_weights(arrays)
    return twin


def _input_grids(model: keras.Model, chosen: list, x: np.ndarray, bits: int) -> dict[str, list[np.ndarray]]:
    """Name -> [scale, zero point] of what each layer reads, from its extremes over the data."""
    shape = tuple(model.input_shape[1:])
    if x.dtype != np.float32 or x.shape[1:] != shape or not len(x):
        raise ValueError(f"calibration: float32 (N, {shape}), not {x.dtype} {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("calibration holds NaN or infinity: clean the data first")
    watch = keras.Model(model.inputs[0], [layer.input for layer in chosen])
    ends = {layer.name: (0.0, 0.0) for layer in chosen}
    for first in range(0, len(x), 256):  # a batch at a time: activations are larger than inputs
        seen = watch(x[first : first + 256], training=False)
        for layer, value in zip(chosen, seen, strict=True):
            low, high = ends[layer.name]
            least, most = float(tf.reduce_min(value)), float(tf.reduce_max(value))
            ends[layer.name] = (min(low, least), max(high, most))
    return {name: list(affine_params(*pair, bits)) for name, pair in ends.items()}
