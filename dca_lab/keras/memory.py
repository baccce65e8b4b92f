r"""Memory of activations: what the layers' outputs take, and the highest point that TensorFlow's allocator reaches.

Training keeps the output of every layer for the backward pass, so with :math:`n_k` numbers out of layer k in b bytes each

.. math:: M = \sum_k n_k\, b_k

grows with the batch and is halved by a 16-bit policy, while the weights stay in float32. `activation_bytes` counts M
from tensors that were really computed. `peak_bytes` asks the allocator: weights, scratch space and the float32 copies
that casts make are in it.

What this file is *not*: the memory of the process, which also holds the program, the data and other libraries.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

_SWITCH = "TF_CPU_ALLOCATOR_USE_BFC"  # TensorFlow's CPU allocator keeps no books; this one does


def activation_bytes(model: keras.Model, x: np.ndarray) -> dict[str, int]:
    """Bytes of each layer's output for the batch `x`, in the format that the layer's policy gives it.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional: its layers are known one by one.
    x : ndarray
        A batch (B, ...), float32.

    Returns
    -------
    dict of str to int
        Layer name to bytes, in the order of the layers. A layer that only gives its input another shape
        (Flatten) makes no copy, and takes 0.

    Raises
    ------
    ValueError
        If the model's layers are not connected to its input (a subclassed model, or one without ``Input``).

    Examples
    --------
    >>> model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten(name="flat"),
    ...                           keras.layers.Dense(3, name="fc", dtype="mixed_float16")])
    >>> activation_bytes(model, np.zeros((5, 4, 4, 1), np.float32))     # 5 x 3 numbers of 2 bytes
    {'flat': 0, 'fc': 30}
    """
    layers = [
        layer for layer in getattr(model, "layers", []) if not isinstance(layer, keras.layers.InputLayer)
    ]
    try:
        watched = keras.Model(model.inputs, [model.inputs, [layer.output for layer in layers]])
    except (AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            "the layers of this model are not connected to an input: build it as keras.Sequential with "
            "keras.layers.Input first, or with the functional API"
        ) from error
    entered, outputs = watched([x] if len(model.inputs) == 1 else x)
    seen, sizes = {_address(tensor) for tensor in tf.nest.flatten(entered)}, {}
    for layer, output in zip(layers, outputs, strict=True):
        tensors = tf.nest.flatten(output)
        fresh = [tensor for tensor in tensors if _address(tensor) not in seen]
        sizes[layer.name] = sum(np.asarray(tensor).nbytes for tensor in fresh)
        seen.update(_address(tensor) for tensor in fresh)
    return sizes


def _address(tensor: tf.Tensor) -> int:
    return np.asarray(tensor).__array_interface__["data"][
        0
    ]  # an eager CPU tensor shares its numbers with NumPy


def count_memory() -> None:
    """Let TensorFlow keep books of its memory; to be called before it computes anything.

    Its CPU allocator then is the one that it uses on GPUs ("best fit with coalescing"), a little slower. After the
    first tensor this has no effect any more, which `peak_bytes` notices.

    Examples
    --------
    In the first cell of a notebook: ``count_memory()``.
    """
    os.environ[_SWITCH] = "1"


def peak_bytes(function: Callable[[], object]) -> int:
    """Bytes that `function` adds, at its worst moment, to what TensorFlow holds; see :func:`count_memory`.

    Parameters
    ----------
    function : callable
        Called twice: the first call makes what is made once (graphs, the optimizer's variables).

    Returns
    -------
    int
        Accurate to the allocator's blocks: it rounds up to 256 bytes, and may hand out a free block that is up to
        twice as large.

    Raises
    ------
    RuntimeError
        If :func:`count_memory` was not called before TensorFlow's first tensor.

    Examples
    --------
    After ``count_memory()``: ``peak_bytes(lambda: model.train_on_batch(x, y))``.
    """
    kept = tf.zeros(1 << 10)  # with books, this tensor is in them
    if tf.config.experimental.get_memory_info("CPU:0")["current"] < 4 << 10:
        raise RuntimeError(
            "TensorFlow keeps no books of its memory: restart the kernel and call count_memory() in the first cell, "
            "before any tensor, model or data set"
        )
    del kept
    function()
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    function()
    return tf.config.experimental.get_memory_info("CPU:0")["peak"] - before
