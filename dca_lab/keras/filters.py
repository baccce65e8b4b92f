r"""Remove filters, physically: a smaller Keras model that computes what the large one computes without them.

A filter that goes takes three things along: its slice of the kernel, its bias (and its row of a batch normalisation),
and the weights that read its feature map, in the next layer. Behind a Flatten these are many rows of the dense kernel:
Keras flattens (H, W, C), so map :math:`c` is read by the rows :math:`c, c + C, c + 2C, \dots`. By default the filters
with the least norm of all that goes together stay behind,

.. math:: \mathrm{score}_c = \sqrt{\lVert W_c \rVert^2 + \gamma_c^2 + \lVert R_c \rVert^2} ,

with the filter :math:`W_c`, its normalisation's scale and the weights :math:`R_c` that read it: H. Li et al., "Pruning
Filters for Efficient ConvNets", ICLR 2017 (filters); G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR
2023 (everything coupled). `dca_lab.pruning.prune_channels` does the same in torch.

What this file is *not*: a tracer. It reads a Sequential from top to bottom; for branches and sums there is the torch
room. Nor does it make up for what it removes: train on afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real

import keras
import numpy as np

layers = keras.layers
# layers that hand feature maps on one by one
_PASSING = (
    layers.Activation,
    layers.AveragePooling2D,
    layers.Dropout,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.InputLayer,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.ReLU,
    layers.ZeroPadding2D,
)
Importance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Keep = int | float | Sequence[int]


def prune_filters(
    model: keras.Sequential, keep: Keep | Mapping[str, Keep], *, importance: Importance | None = None
) -> keras.Sequential:
    """A smaller model; the original is untouched.

    Parameters
    ----------
    model : keras.Sequential
        Of Conv2D, Dense, BatchNormalization, pooling, activations, Flatten and dropout; built, channels last.
    keep : int, float, sequence of int, or mapping
        What stays of each Conv2D whose filters another layer reads: so many filters, a share in (0, 1] of them
        (rounded, at least one), or the very filters. A mapping of layer name -> one of these leaves the others whole.
    importance : callable, optional
        (kernel (kh, kw, I, F), reader (F, n)) -> a score for each filter; the highest stay, of equal ones the first.
        ``reader`` holds the weights that read each filter's map. Default: the norm of all that goes together.

    Returns
    -------
    keras.Sequential
        Fewer filters and fewer rows in the layers that read them, the weights copied. Not compiled.

    Raises
    ------
    ValueError
        For a model with other layers, a name that is no Conv2D to prune, or an impossible ``keep``.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> small = prune_filters(digit_cnn(32), 12)
    >>> small.get_layer("conv").kernel.shape, small.get_layer("fc").kernel.shape
    (TensorShape([3, 3, 1, 12]), TensorShape([2028, 10]))
    """
    if not isinstance(model, keras.Sequential) or not model.built:
        raise ValueError("prune_filters takes a keras.Sequential that is built: give it an Input")
    readers = _readers(model)
    wishes = dict(keep) if isinstance(keep, Mapping) else dict.fromkeys(readers, keep)
    if unknown := [name for name in wishes if name not in readers]:
        raise ValueError(
            f"{unknown} cannot be pruned; the convolutions that another layer reads: {list(readers)}"
        )
    kept = {name: _kept(model, name, wish, importance) for name, wish in wishes.items()}
    sizes = {name: len(filters) for name, filters in kept.items()}

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name in sizes:
            config["filters"] = sizes[layer.name]
        return type(layer).from_config(config)

    small = keras.models.clone_model(model, clone_function=copy)
    incoming: np.ndarray | None = None  # which maps arrive at the layer; None: all
    for layer in model.layers:
        arrays = layer.get_weights()
        if isinstance(layer, layers.Conv2D | layers.Dense):
            if incoming is not None:
                arrays[0] = np.take(arrays[0], incoming, axis=-2)
            incoming = kept.get(layer.name)
            if incoming is not None:
                arrays = [np.take(array, incoming, axis=-1) for array in arrays]
        elif isinstance(layer, layers.BatchNormalization) and incoming is not None:
            arrays = [array[incoming] for array in arrays]
        elif isinstance(layer, layers.Flatten) and incoming is not None:
            *places, maps = layer.input.shape[1:]
            incoming = (np.arange(np.prod(places, dtype=int))[:, None] * maps + incoming).ravel()
        if arrays:
            small.get_layer(layer.name).set_weights(arrays)
    return small


def group_norm(model: keras.Sequential, name: str) -> np.ndarray:
    """The norm of each filter together with its normalisation's scale and the weights that read it.

    Parameters
    ----------
    model : keras.Sequential
    name : str
        Of a Conv2D that another layer reads.

    Returns
    -------
    ndarray
        (filters,), float64.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> group_norm(digit_cnn(8), "conv").shape
    (8,)
    """
    scales, reader = _behind(model, name)
    kernel = model.get_layer(name).kernel.numpy().astype(np.float64)
    squares = np.square(kernel).sum(axis=(0, 1, 2)) + np.square(reader, dtype=np.float64).sum(axis=1)
    return np.sqrt(squares + sum(np.square(scale, dtype=np.float64).sum(axis=0) for scale in scales))


def _behind(model: keras.Sequential, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Scales of the normalisations behind a convolution, (n, F), and the weights that read each map, (F, n)."""
    names, maps = [layer.name for layer in model.layers], model.get_layer(name).filters
    scales, between = [], model.layers[names.index(name) + 1 : names.index(_readers(model)[name])]
    for layer in between:
        if isinstance(layer, layers.BatchNormalization) and layer.scale:
            scales.append(layer.gamma.numpy().reshape(-1, maps))
    kernel = model.get_layer(_readers(model)[name]).kernel.numpy()
    if kernel.ndim == 2:  # dense: rows of a map lie `maps` apart, whether flattened or pooled to one value
        return scales, kernel.reshape(-1, maps, kernel.shape[-1]).transpose(1, 0, 2).reshape(maps, -1)
    return scales, kernel.transpose(2, 0, 1, 3).reshape(maps, -1)


def _readers(model: keras.Sequential) -> dict[str, str]:
    """Name of each Conv2D that can lose filters -> name of the layer with weights that reads it."""
    found, last = {}, None
    for layer in model.layers:
        if type(layer) is layers.Conv2D and (layer.groups != 1 or layer.data_format != "channels_last"):
            raise ValueError(f"{layer.name}: groups=1 and channels_last are needed to take filters out")
        if type(layer) in (layers.Conv2D, layers.Dense):
            if last is not None:
                found[last] = layer.name
            last = layer.name if isinstance(layer, layers.Conv2D) else None
            if layer.activation is keras.activations.softmax and last:
                raise ValueError(f"{layer.name}: a softmax mixes the maps, none can be taken out alone")
        elif isinstance(layer, layers.BatchNormalization) and layer.axis in (-1, layer.input.ndim - 1):
            continue
        elif not isinstance(layer, (*_PASSING, layers.Flatten)) or getattr(layer, "activation", None) is (
            keras.activations.softmax
        ):
            raise ValueError(
                f"{layer.name} ({type(layer).__name__}) is a layer that prune_filters cannot follow"
            )
    return found


def _kept(model: keras.Sequential, name: str, wish: Keep, importance: Importance | None) -> np.ndarray:
    """The filters that stay, in their order."""
    filters = model.get_layer(name).filters
    if isinstance(wish, Sequence | np.ndarray):
        chosen = np.asarray(wish)
        if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
            raise ValueError(f"{name}: give the filters that stay as a list of integers, not {wish!r}")
        if len(set(chosen.tolist())) != len(chosen) or chosen.min() < 0 or chosen.max() >= filters:
            raise ValueError(
                f"{name} has the filters 0 to {filters - 1}, each to be named once, not {wish!r}"
            )
        return np.sort(chosen)
    if isinstance(wish, Real) and not isinstance(wish, Integral) and 0 < wish <= 1:
        wish = max(1, round(wish * filters))
    if isinstance(wish, bool) or not isinstance(wish, Integral) or not 1 <= wish <= filters:
        raise ValueError(f"{name}: keep={wish!r} is neither 1 to {filters} filters nor a share in (0, 1]")
    if importance is None:
        scores = group_norm(model, name)
    else:
        scores = np.asarray(importance(model.get_layer(name).kernel.numpy(), _behind(model, name)[1]))
    if scores.shape != (filters,) or not np.isfinite(scores).all():
        raise ValueError(f"{name}: needed is one finite score for each of {filters} filters, not {scores!r}")
    return np.sort(np.argsort(-scores, kind="stable")[:wish])
