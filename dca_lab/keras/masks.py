"""Masks on a Keras model: which weights are the largest, and zeros for the others.

    y = f((M * W) x + b),    M True where a weight is kept

The counts are exact, round((1 - sparsity) n) of n, and those of `dca_lab.pruning`; of weights equally large the first
stay, in Keras's order of axes, which is not torch's. S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and
Connections for Efficient Neural Networks", NeurIPS 2015.

What this file is *not*: it makes nothing smaller or faster, see `filters` for that. Nor do masks hold by themselves
while training goes on, see `pruning`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from numbers import Real

import keras
import numpy as np

_LAYERS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Dense)
Masks = dict[str, np.ndarray]


def prunable(model: keras.Model) -> dict[str, keras.Variable]:
    """The kernels that pruning may touch: those of every convolution and dense layer.

    Biases, normalisation and embeddings are few, and stay. Depthwise and transposed convolutions are left out too.

    Returns
    -------
    dict[str, keras.Variable]
        Path -> kernel, in the model's order, nested models included; (kh, kw, I, O) or (I, O).

    Raises
    ------
    ValueError
        If there is none, or the model is not built.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> list(prunable(digit_cnn()))
    ['digit_cnn/conv/kernel', 'digit_cnn/fc/kernel']
    """

    def layers(part: keras.Model) -> Iterator[keras.layers.Layer]:
        for layer in part.layers:
            yield from layers(layer) if hasattr(layer, "layers") else [layer]

    found = {
        layer.kernel.path: layer.kernel
        for layer in layers(model)
        if isinstance(layer, _LAYERS) and layer.built
    }
    if not found:
        raise ValueError(f"{model.name} has no convolution or dense layer to prune, or is not built")
    return found


def magnitude_masks(
    model: keras.Model,
    sparsity: float,
    *,
    scope: str = "global",
    within: Mapping[str, np.ndarray] | None = None,
) -> Masks:
    """Keep the largest weights.

    Parameters
    ----------
    model : keras.Model
        Built; not changed.
    sparsity : float in [0, 1)
        Share of the kernels' weights to prune. Biases and normalisation are left alone.
    scope : {"global", "layer"}
        All kernels compete together, or each loses the same share.
    within : mapping of str to ndarray, optional
        Earlier masks: what they prune stays pruned and counts towards the sparsity.

    Returns
    -------
    dict[str, ndarray]
        Path of the kernel -> bool of its shape, True = kept: round((1 - sparsity) n) of n, together or in each.

    Raises
    ------
    ValueError
        Sparsity outside [0, 1), an unknown scope, weights that are NaN, masks of other shapes.

    Warns
    -----
    UserWarning
        If nothing is kept of a layer.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> masks = magnitude_masks(digit_cnn(), 0.9, scope="layer")
    >>> {path: (mask.shape, int(mask.sum())) for path, mask in masks.items()}
    {'digit_cnn/conv/kernel': ((3, 3, 1, 32), 29), 'digit_cnn/fc/kernel': ((5408, 10), 5408)}
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    if scope not in ("global", "layer"):
        raise ValueError(f"scope is 'global' or 'layer', not {scope!r}")
    kernels = prunable(model)
    if within is not None:
        _check_masks(kernels, within)
        if missing := [path for path in kernels if path not in within]:
            raise ValueError(f"within has no mask for {missing}")
    scores = {path: np.abs(kernel.numpy()) for path, kernel in kernels.items()}
    for path, score in scores.items():
        if not np.isfinite(score).all():
            raise ValueError(f"{path} holds NaN or infinity: look at the loss, or lower the learning rate")
        if within is not None:
            score[~within[path]] = -np.inf  # these go first
    if scope == "layer":
        masks = {
            path: _keep_largest(score.ravel(), sparsity).reshape(score.shape)
            for path, score in scores.items()
        }
    else:
        kept = _keep_largest(np.concatenate([score.ravel() for score in scores.values()]), sparsity)
        parts = np.split(kept, np.cumsum([score.size for score in scores.values()])[:-1])
        masks = {p: part.reshape(s.shape) for (p, s), part in zip(scores.items(), parts, strict=True)}
    if within is not None:
        masks = {path: mask & within[path] for path, mask in masks.items()}
    if empty := [path for path, mask in masks.items() if not mask.any()]:
        warnings.warn(f"nothing is kept of {empty}: no signal passes there", UserWarning, stacklevel=2)
    return masks


def apply_masks(model: keras.Model, masks: Mapping[str, np.ndarray]) -> None:
    """Set the pruned weights to zero, **in place**.

    Raises
    ------
    ValueError
        If a mask names no kernel of the model, is not boolean or has another shape.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> model = digit_cnn()
    >>> apply_masks(model, magnitude_masks(model, 0.5))
    >>> sparsity(model)
    0.5
    """
    kernels = prunable(model)
    _check_masks(kernels, masks)
    for path, mask in masks.items():
        kernels[path].assign(keras.ops.where(mask, kernels[path], 0.0))


def sparsity(model: keras.Model) -> float:
    """The share of the kernels' weights that are exactly zero.

    Examples
    --------
    >>> from dca_lab.keras.models import digit_cnn
    >>> sparsity(digit_cnn())
    0.0
    """
    arrays = [kernel.numpy() for kernel in prunable(model).values()]
    return sum(int((array == 0).sum()) for array in arrays) / sum(array.size for array in arrays)


def _keep_largest(score: np.ndarray, sparsity: float) -> np.ndarray:
    """A flat mask with round((1 - sparsity) n) True at the largest scores; among equal ones the first stay."""
    kept = round((1 - sparsity) * score.size)
    if kept == 0:
        return np.zeros(score.size, dtype=bool)
    threshold = np.partition(score, score.size - kept)[score.size - kept]
    mask = score > threshold
    mask[np.flatnonzero(score == threshold)[: kept - int(mask.sum())]] = True
    return mask


def check_sparsity(value: float, what: str) -> float:
    """The share as a float in [0, 1), or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"{what} must be a number in [0, 1), the share that is removed; got {value!r}")
    return float(value)


def _check_masks(kernels: Mapping[str, keras.Variable], masks: Mapping[str, np.ndarray]) -> None:
    for path, mask in masks.items():
        if path not in kernels:
            raise ValueError(f"mask {path!r} names no kernel; there are {list(kernels)}")
        mask, shape = np.asarray(mask), tuple(kernels[path].shape)
        if mask.dtype != bool or mask.shape != shape:
            raise ValueError(
                f"mask {path!r} must be bool {shape} (True = kept), got {mask.dtype} {mask.shape}"
            )
