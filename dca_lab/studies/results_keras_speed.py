"""The Keras half of the table at work: which networks are timed in which back end, and one training step of each.

"eager" is ``model(x, training=False)``, "litert" the exported file. A training step is a compiled `tf.function`, as
``fit`` makes one; the one called "aware" trains the original with its roundings to int8 inside. What this is *not*: the
measuring itself (`results_speed`), which is the same for both frameworks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dca_lab.keras.litert import LiteModel, export_litert
from dca_lab.keras.models import digit_cnn
from dca_lab.keras.qat import prepare_qat

from . import results_speed as cost
from .results_keras import SCRATCH, SHRUNK, file_of, start, weights_of
from .results_recipe import Recipe
from .results_train_keras import train_step

BEST = "litert"  # the fastest float back end
RUNS = (
    *((variant, "eager") for variant in ("original", "pruned", "strided", "mixed")),
    *((variant, BEST) for variant in (*SHRUNK, "strided")),
)


def speed(seed: int, recipe: Recipe, place: Path) -> dict[str, Any]:
    """Seconds and bytes at work of the finished networks of one seed; see `results_speed`."""
    subjects = {key: runner(seed, *key, recipe, place) for key in RUNS}
    timed = cost.inference(subjects, inputs, best=BEST, repeats=recipe.repeats)
    x, y = inputs(recipe.batch_size), np.arange(recipe.batch_size) % 10
    models = {variant: start(variant, seed, recipe) for variant in ("original", *SCRATCH)}
    models["aware"] = prepare_qat(start("original", seed, recipe), bits=8, calibration=x)
    steps = {variant: train_step(model, x, y) for variant, model in models.items()}
    taken = cost.training(steps, repeats=recipe.repeats)
    where = {"seed": seed, "recipe": recipe, "place": place}
    memory = [
        {"variant": variant, "backend": backend, "bytes": cost.memory("keras", variant, backend, **where)}
        for variant, backend in RUNS
        if seed == 0  # the size of the arrays is the same in all
    ]
    return {"inference": timed, "training_step": taken, "memory": memory}


def runner(seed: int, variant: str, backend: str, recipe: Recipe, place: Path) -> Callable[[np.ndarray], Any]:
    """A finished network, ready to be called in a back end, on one thread."""
    if backend == BEST:
        return LiteModel(place / file_of(seed, variant))
    model = start(variant, seed, recipe)
    model.load_weights(place / weights_of(seed, variant))
    return lambda x: model(x, training=False)


def inputs(batch: int) -> np.ndarray:
    """So many random pictures, (B, 28, 28, 1) float32."""
    return np.random.default_rng(0).random((batch, 28, 28, 1), dtype=np.float32)


def warm_up(backend: str) -> None:
    """Make a back end load what it needs for any network."""
    model = digit_cnn(2)
    model(inputs(2), training=False)
    if backend == BEST:
        with tempfile.TemporaryDirectory() as folder:
            export_litert(model, Path(folder) / "warm.tflite")(inputs(2))
