"""The same weights in Keras and in torch: three axes to swap, and one permutation that is easy to forget.

    convolution   Keras (kh, kw, I, O)         torch (O, I, kh, kw)
    dense         Keras (inputs, outputs)      torch (outputs, inputs)
    flatten       Keras reads (H, W, C)        torch reads (C, H, W)

The third line is the trap: with the first two alone every shape fits, and the network answers nonsense, since the
dense layer's inputs are the same numbers in another order. Here it is a reshape and a transpose.

What this file is *not*: a converter of networks. It knows `digit_cnn` and `dca_lab.models.DigitCNN`, of any width.
torch is imported only where a torch model is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from dca_lab.keras.models import digit_cnn

if TYPE_CHECKING:
    from dca_lab.models import DigitCNN

_SIDE = 13  # 28 pixels, a 3x3 convolution without padding, a pool of 2


def state_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a Keras digit CNN under torch's names and in torch's layout.

    Parameters
    ----------
    model : keras.Model
        Made by `digit_cnn`, or cut from such a one: layers "conv" and "fc".

    Returns
    -------
    dict[str, ndarray]
        float32: conv.weight (F, 1, 3, 3), conv.bias (F,), fc.weight (classes, F * 169), fc.bias (classes,).

    Raises
    ------
    ValueError
        If the model is no digit CNN.

    Examples
    --------
    >>> {name: array.shape for name, array in state_arrays(digit_cnn(4)).items()}
    {'conv.weight': (4, 1, 3, 3), 'conv.bias': (4,), 'fc.weight': (10, 676), 'fc.bias': (10,)}
    """
    conv, fc = _layers(model)
    filters = conv.kernel.shape[-1]
    rows = _numpy(fc.kernel).reshape(_SIDE, _SIDE, filters, -1)  # (H, W, C, classes)
    return {
        "conv.weight": np.ascontiguousarray(_numpy(conv.kernel).transpose(3, 2, 0, 1)),
        "conv.bias": _numpy(conv.bias),
        "fc.weight": np.ascontiguousarray(rows.transpose(3, 2, 0, 1).reshape(rows.shape[-1], -1)),
        "fc.bias": _numpy(fc.bias),
    }


def to_torch(model: keras.Model) -> DigitCNN:
    """The torch network that answers like the Keras one.

    Parameters
    ----------
    model : keras.Model
        As for `state_arrays`.

    Returns
    -------
    dca_lab.models.DigitCNN
        In evaluation mode, with weights of its own.

    Examples
    --------
    >>> sum(p.numel() for p in to_torch(digit_cnn()).parameters())
    54410
    """
    import torch

    from dca_lab.models import DigitCNN

    arrays = state_arrays(model)
    twin = DigitCNN(len(arrays["conv.bias"]), classes=len(arrays["fc.bias"]))
    twin.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return twin.eval()


def from_torch(model: DigitCNN) -> keras.Sequential:
    """The Keras network that answers like the torch one.

    Parameters
    ----------
    model : dca_lab.models.DigitCNN
        Of any width, pruned ones included.

    Returns
    -------
    keras.Sequential
        A `digit_cnn`, not compiled.

    Raises
    ------
    ValueError
        If the model's weights are not those of a digit CNN.

    Examples
    --------
    >>> from dca_lab.models import DigitCNN
    >>> from_torch(DigitCNN(8)).count_params()
    13610
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    filters, classes = (len(arrays.get(name, ())) for name in ("conv.bias", "fc.bias"))
    wanted = {
        "conv.weight": (filters, 1, 3, 3),
        "conv.bias": (filters,),
        "fc.weight": (classes, filters * _SIDE**2),
        "fc.bias": (classes,),
    }
    if shapes != wanted or not filters or not classes:
        raise ValueError(f"from_torch takes a DigitCNN for 28 x 28 pixels; these weights are {shapes}")
    twin = digit_cnn(filters, classes=classes)
    conv, fc = _layers(twin)
    conv.set_weights([arrays["conv.weight"].transpose(2, 3, 1, 0), arrays["conv.bias"]])
    columns = arrays["fc.weight"].reshape(classes, filters, _SIDE, _SIDE)  # (classes, C, H, W)
    fc.set_weights([columns.transpose(2, 3, 1, 0).reshape(-1, classes), arrays["fc.bias"]])
    return twin


def _layers(model: keras.Model) -> tuple[keras.layers.Conv2D, keras.layers.Dense]:
    """The convolution and the dense layer, of the shapes that they have in a digit CNN."""
    layers = {layer.name: layer for layer in getattr(model, "layers", [])}
    conv, fc = layers.get("conv"), layers.get("fc")
    if (
        not isinstance(conv, keras.layers.Conv2D)
        or not isinstance(fc, keras.layers.Dense)
        or conv.bias is None
        or fc.bias is None
        or tuple(conv.kernel.shape[:3]) != (3, 3, 1)
        or fc.kernel.shape[0] != _SIDE**2 * conv.kernel.shape[-1]
    ):
        raise ValueError(
            f"expected a digit_cnn with the layers 'conv' and 'fc', got the layers {list(layers)}"
        )
    return conv, fc


def _numpy(variable: keras.Variable) -> np.ndarray:
    return np.asarray(variable.numpy(), dtype=np.float32)
