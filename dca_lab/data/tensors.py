"""From arrays to tensors: the shapes and the scale that a network wants.

    z = (x - mean) / std      mean and std of the training samples that are returned, never of the test
    samples

How many statistics there are depends on what a row is: one pair for a grey image or a waveform, one for each
colour, sensor channel or table column. Padding after the end of a recording counts in no statistic and stays
0, which is then the mean. What this is *not*: augmentation, batching or shuffling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dca_lab.data.dataset import Dataset

if TYPE_CHECKING:  # importing torch takes seconds, and loading a set needs numpy only
    import torch

_CHUNK = 4096  # rows a pass: the squares never need more memory than this many rows


def _first(
    dataset: Dataset, part: str, count: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
    if count is not None and not 1 <= count <= len(x):
        raise ValueError(f"{part}={count}: {dataset.name} has {len(x)} {part} samples, ask for 1 to {len(x)}")
    lengths = dataset.extras.get(f"lengths_{part}")
    return x[:count], y[:count], None if lengths is None else lengths[:count]


def _layout(x: np.ndarray, size: int | None, name: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return a float copy of x in the network's layout, and the axes over which one statistic is taken."""
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)  # (N, C, H, W)
        if size is not None:
            height, width = x.shape[2:]
            if size < max(height, width):
                raise ValueError(
                    f"size={size}: {name} has images of {height} x {width}; they are padded, never cut"
                )
            top, left = (size - height) // 2, (size - width) // 2
            x = np.pad(x, ((0, 0), (0, 0), (top, size - height - top), (left, size - width - left)))
        return np.ascontiguousarray(x, dtype=np.float32), (0, 2, 3)
    if size is not None:
        raise ValueError(f"size={size} pads images, and {name} has none")
    axes = (
        (0, 1) if x.ndim == 3 or np.issubdtype(x.dtype, np.integer) else (0,)
    )  # (N, T, C), (N, T) or (N, D)
    return x.astype(np.float32 if np.issubdtype(x.dtype, np.integer) else x.dtype), axes


def _valid(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return which entries are signal, not padding: bool (N, T) or (N, T, 1)."""
    inside = np.arange(x.shape[1]) < lengths[:, None]
    return inside if x.ndim == 2 else inside[..., None]


def _centre_and_scale(
    x: np.ndarray, axes: tuple[int, ...], lengths: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over ``axes`` (kept, of length 1), padding left out."""
    parts = range(0, len(x), _CHUNK)
    count = np.prod([x.shape[a] for a in axes]) if lengths is None else lengths.sum()
    mean = sum(x[i : i + _CHUNK].sum(axis=axes, dtype=np.float64, keepdims=True) for i in parts) / count
    squares = 0.0
    for i in parts:
        deviation = x[i : i + _CHUNK] - mean.astype(x.dtype)
        if lengths is not None:
            deviation *= _valid(deviation, lengths[i : i + _CHUNK])
        squares = squares + np.square(deviation, out=deviation).sum(
            axis=axes, dtype=np.float64, keepdims=True
        )
    spread = np.sqrt(squares / count)
    # A constant column divided by the rounding error of its mean would be noise, not 0.
    constant = x.max(axis=axes, keepdims=True) == x.min(axis=axes, keepdims=True)
    return mean.astype(x.dtype), np.where(constant | (spread == 0), 1.0, spread).astype(x.dtype)


def as_tensors(
    dataset: Dataset,
    *,
    train: int | None = None,
    test: int | None = None,
    size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a set as tensors, standardised with the statistics of the training samples that are returned.

    Parameters
    ----------
    dataset : Dataset
        Images, sound, motion, a table, or tokens (1-D integers, which stay integers). Text is refused.
    train, test : int, optional
        Take the first so many samples; all of them without.
    size : int, optional
        Pad images with black to ``size`` x ``size`` pixels before anything else.

    Returns
    -------
    x_train, y_train, x_test, y_test : Tensor
        x float32: grey images (N, 1, H, W), colour images (N, 3, H, W), sound (N, T), motion (N, T, C),
        tables (N, D). y int64. The tensors own their memory: writing into them changes no loaded set.

    Raises
    ------
    ValueError
        For text, NaN, a count outside the set, a size below that of the images.

    Examples
    --------
    >>> from dca_lab.data import as_tensors, load
    >>> x, y, x_test, y_test = as_tensors(load("fashion"), train=100, test=10, size=32)
    >>> tuple(x.shape), x.dtype, tuple(y_test.shape)
    ((100, 1, 32, 32), torch.float32, (10,))
    """
    import torch

    x_train, y_train, lengths_train = _first(dataset, "train", train)
    x_test, y_test, lengths_test = _first(dataset, "test", test)
    for array in (x_train, y_train):
        if not np.issubdtype(array.dtype, np.number):
            raise ValueError(
                f"{dataset.name} holds text ({array.dtype}): turn it into numbers before as_tensors"
            )
    labels = [torch.from_numpy(y.astype(np.int64)) for y in (y_train, y_test)]
    if x_train.ndim == 1:
        if size is not None:
            raise ValueError(f"size={size} pads images, and {dataset.name} has none")
        tokens = [torch.from_numpy(x.astype(np.int64)) for x in (x_train, x_test)]
        return tokens[0], labels[0], tokens[1], labels[1]
    (x_train, axes), (x_test, _) = (_layout(x, size, dataset.name) for x in (x_train, x_test))
    mean, spread = _centre_and_scale(x_train, axes, lengths_train)
    if not (np.isfinite(mean).all() and np.isfinite(spread).all()):
        raise ValueError(f"{dataset.name} holds NaN or infinite values: drop those rows with clean(x, y)")
    for x, lengths in ((x_train, lengths_train), (x_test, lengths_test)):
        x -= mean
        x /= spread
        if lengths is not None:
            x *= _valid(x, lengths)
    samples = [torch.from_numpy(x.astype(np.float32, copy=False)) for x in (x_train, x_test)]
    return samples[0], labels[0], samples[1], labels[1]
