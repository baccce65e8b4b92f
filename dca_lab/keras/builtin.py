"""What Keras's own ``model.quantize("int8")`` does, and what it leaves alone.

    dense kernel (I, O) float32  ->  int8, one scale an output; inputs are rounded anew at each call

It changes layers of the kinds Dense, EinsumDense and Embedding. A convolution stays in float32, and Keras says so with a
warning for each layer, which is easily lost. In a network of convolutions little is gained: `quantized_layers` names
what really changed. It is *not* an export: nothing here runs in integers outside Keras, see `litert` for that.
"""

from __future__ import annotations

import warnings

import keras


def quantize_builtin(model: keras.Model, mode: str = "int8") -> keras.Model:
    """A copy of the model after ``quantize(mode)``, without the warnings about the layers that stay.

    Parameters
    ----------
    model : keras.Model
        Float weights; not changed (Keras's method works in place).
    mode : str
        As Keras takes it: "int8", "int4", ...

    Returns
    -------
    keras.Model

    Raises
    ------
    ValueError
        For a mode that Keras does not know.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> quantized_layers(quantize_builtin(digit_cnn()))
    ['fc']
    """
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a `quantize` method.*")
        twin.quantize(mode)
    return twin


def quantized_layers(model: keras.Model) -> list[str]:
    """Names of the layers whose weights Keras holds as integers.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> quantized_layers(digit_cnn())
    []
    """
    return [layer.name for layer in model.layers if any("int" in str(w.dtype) for w in layer.weights)]
