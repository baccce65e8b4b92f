"""The document's table in Keras, one seed: the same variants as `results_torch`, with the same recipe, trained in Keras.

    original, pruned, narrow, strided, mixed   Keras models (TensorFlow); also LiteRT files in float32
    quantized, pruned-quantized                LiteRT files of integers throughout, calibrated on training digits

No weight comes from torch: the two halves of the table agree only if both are right. What this is *not*: the place of
the techniques; they are in `dca_lab.keras`, and the measurements of speed are in `results_speed`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from dca_lab.keras.filters import prune_filters
from dca_lab.keras.litert import LiteModel, export_litert
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.precision import use_policy

import keras  # isort: skip  (after the room, which quiets TensorFlow)

from .results_recipe import Recipe
from .results_train_keras import accuracy, arrays, train

SHRUNK = ("original", "pruned", "quantized", "pruned-quantized")
SCRATCH = ("narrow", "strided", "mixed")


def shrink(seed: int, recipe: Recipe, place: Path) -> dict[str, Any]:
    """The original and what is made of it: pruned, quantized, and both; as `results_torch.shrink`."""
    x, y, x_test, y_test = arrays(recipe)
    found: dict[str, Any] = {}
    first: list[float] = []

    def after(epoch: int, network: keras.Model) -> None:
        if epoch == 1:
            first.append(accuracy(network, x_test, y_test))

    def write(variant: str, network: keras.Model, *, own: float = 0.0, before: float = 0.0) -> LiteModel:
        started = time.process_time()
        some = x[: recipe.calibration] if "quantized" in variant else None
        lite = export_litert(network, place / file_of(seed, variant), calibration=some)
        own = time.process_time() - started if "quantized" in variant else own
        found[variant] = _described(lite, network, x_test, y_test, own=own, in_all=before + own)
        return lite

    original = start("original", seed, recipe)
    options = {"epochs": recipe.epochs, "lr": recipe.lr, "after": after}
    plain = train(original, x, y, recipe=recipe, seed=seed, **options)
    original.save_weights(place / weights_of(seed, "original"))
    teacher = write("original", original, own=plain)
    write("quantized", original, before=plain)

    small = prune_filters(original, {"conv": recipe.kept})
    cut = accuracy(small, x_test, y_test)
    options = {"epochs": recipe.tune_epochs, "lr": recipe.tune_lr, "teacher": teacher}
    tuned = train(small, x, y, recipe=recipe, seed=seed, **options)
    small.save_weights(place / weights_of(seed, "pruned"))
    write("pruned", small, own=tuned, before=plain)
    write("pruned-quantized", small, before=plain + tuned)
    return {"variants": found, "first_epoch": first[0], "cut": cut}


def scratch(seed: int, variant: str, recipe: Recipe, place: Path) -> dict[str, Any]:
    """A network trained from scratch by the recipe: "narrow", "strided" or "mixed"; as `results_torch.scratch`."""
    x, y, x_test, y_test = arrays(recipe)
    model = start(variant, seed, recipe)
    own = train(model, x, y, recipe=recipe, seed=seed, epochs=recipe.epochs, lr=recipe.lr)
    model.save_weights(place / weights_of(seed, variant))
    lite = export_litert(model, place / file_of(seed, variant))
    found = _described(lite, model, x_test, y_test, own=own, in_all=own)
    if variant == "mixed":
        found["accuracy_float32"] = found["accuracy"]
        found["accuracy"] = accuracy(model, x_test, y_test)
    return {"variants": {variant: found}}


def start(variant: str, seed: int, recipe: Recipe) -> keras.Sequential:
    """The untrained model of a variant; "mixed" computes in bfloat16 and keeps float32 weights."""
    with use_policy("mixed_bfloat16" if variant == "mixed" else "float32"):
        if variant != "strided":
            small = variant in ("narrow", "pruned")
            return digit_cnn(recipe.kept if small else recipe.filters, seed=seed)
        first, last = (keras.initializers.GlorotUniform(seed=s) for s in (2 * seed, 2 * seed + 1))
        layers = keras.layers
        convolution = {"strides": 2, "activation": "relu", "kernel_initializer": first, "name": "conv"}
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(recipe.strided, 5, **convolution),
                layers.Flatten(name="flatten"),
                layers.Dense(10, kernel_initializer=last, name="fc"),
            ],
            name="strided",
        )


def file_of(seed: int, variant: str) -> str:
    """Name of a variant's LiteRT file in the work folder."""
    return f"keras-{seed}-{variant}.tflite"


def weights_of(seed: int, variant: str) -> str:
    """Name of a variant's Keras weights in the work folder."""
    return f"keras-{seed}-{variant}.weights.h5"


def _described(
    lite: LiteModel, model: keras.Model, x: np.ndarray, y: np.ndarray, *, own: float, in_all: float
) -> dict[str, Any]:
    return {
        "accuracy": accuracy(lite, x, y),
        "bytes": lite.bytes,
        "parameters": model.count_params(),
        "macs": macs(model),
        "seconds": own,
        "seconds_in_all": in_all,
    }


def macs(model: keras.Sequential) -> int:
    """Multiply-accumulates of one picture: outputs times the weights that each reads.

    Examples
    --------
    >>> macs(digit_cnn())
    248768
    """
    total = 0
    for layer in model.layers:
        if layer.weights:
            positions = int(np.prod(layer.output.shape[1:-1]))
            total += positions * int(np.prod(layer.kernel.shape))
    return total
