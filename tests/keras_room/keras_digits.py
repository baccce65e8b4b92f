"""What the tests of this room share: real digits, and a network that has learnt a little from them."""

from functools import lru_cache

import keras
import numpy as np

from dca_lab.data import load
from dca_lab.keras.models import digit_cnn


@lru_cache(maxsize=1)
def digits(train=2000, test=1000):
    """x (B, 28, 28, 1) float32 in [0, 1] and y int64, of the training and of the test part."""
    mnist = load("mnist")

    def part(x, y, count):
        return x[:count, ..., None].astype(np.float32) / 255, y[:count]

    return *part(mnist.x_train, mnist.y_train, train), *part(mnist.x_test, mnist.y_test, test)


def compiled(model, optimizer="adam"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


@lru_cache(maxsize=1)
def _learnt():
    x, y, _, _ = digits()
    keras.utils.set_random_seed(0)
    model = compiled(digit_cnn(8, seed=1), keras.optimizers.Adam(5e-3))
    model.fit(x, y, batch_size=64, epochs=4, verbose=0)
    return model


def learnt():
    """A copy of the trained network, not compiled."""
    twin = digit_cnn(8)
    twin.set_weights(_learnt().get_weights())
    return twin


def assert_close(logits, expected):
    """Equal to 1e-5 of the largest logit, and of 1 where all are smaller: float32 sums in another order."""
    logits, expected = np.asarray(logits), np.asarray(expected)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


def accuracy(model, x, y):
    return float((np.asarray(model(x)).argmax(1) == y).mean())
