"""The network of the course's source document, in the framework that the document uses.

    Input (28, 28, 1) -> Conv2D 3x3, ReLU -> MaxPooling2D 2 -> Flatten -> Dense

The same network in torch is `dca_lab.models.DigitCNN`; `transfer` carries weights between the two. Two things differ
from the document: the last layer gives logits and not a softmax, since the loss wants logits
(``SparseCategoricalCrossentropy(from_logits=True)``), and the input's shape stands in an ``Input``, where Keras 3 wants
it. It is *not* compiled: optimiser and loss belong to the one who trains.
"""

from __future__ import annotations

import keras


def digit_cnn(filters: int = 32, *, classes: int = 10, seed: int = 0) -> keras.Sequential:
    """One convolution and one dense layer, for grey pictures of 28 x 28 pixels.

    Parameters
    ----------
    filters : int
        Filters of the convolution: 32 in the document.
    classes : int
        Number of logits.
    seed : int
        Of the initial weights (Glorot uniform, biases zero). Nothing global is seeded.

    Returns
    -------
    keras.Sequential
        (B, 28, 28, 1) float32 in [0, 1] -> logits (B, classes). Layers "conv", "pool", "flatten" and "fc".

    Raises
    ------
    ValueError
        If ``filters`` or ``classes`` is below 1.

    Examples
    --------
    >>> model = digit_cnn()
    >>> model.output_shape, model.count_params()
    ((None, 10), 54410)
    """
    for name, value in (("filters", filters), ("classes", classes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: give a whole number of at least 1")
    first, last = (keras.initializers.GlorotUniform(seed=s) for s in (2 * seed, 2 * seed + 1))
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=first, name="conv"),
            keras.layers.MaxPooling2D(2, name="pool"),  # (B, 13, 13, filters)
            keras.layers.Flatten(name="flatten"),  # row by row, the filters innermost
            keras.layers.Dense(classes, kernel_initializer=last, name="fc"),
        ],
        name="digit_cnn",
    )
