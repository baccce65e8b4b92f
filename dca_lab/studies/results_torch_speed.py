"""The torch half of the table at work: which networks are timed in which back end, and one training step of each.

"eager" is torch as one calls it, "onnx runtime" the exported file. The step called "aware" trains the original with its
roundings to int8 inside: what training a quantized network costs. What this is *not*: the measuring itself
(`results_speed`), which is the same for both frameworks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dca_lab.deploy import Session
from dca_lab.models import DigitCNN
from dca_lab.quantization import export_int8, prepare_qat

from . import results_speed as cost
from .results_ladder import ladder
from .results_recipe import Recipe
from .results_torch import SCRATCH, SHRUNK, file_of, load, start
from .results_train import EXAMPLE, Autocast, tensors, timed_step

BEST = "onnx runtime"  # the fastest float back end
RUNS = (
    *((variant, "eager") for variant in ("original", "pruned", "strided", "mixed")),
    *((variant, BEST) for variant in (*SHRUNK, "strided")),
)


def speed(seed: int, recipe: Recipe, place: Path) -> dict[str, Any]:
    """Seconds and bytes at work of the finished networks of one seed; see `results_speed`."""
    torch.set_num_threads(1)
    subjects = {key: runner(seed, *key, recipe, place) for key in RUNS}
    timed = cost.inference(subjects, inputs, best=BEST, repeats=recipe.repeats)
    steps = {variant: step(variant, seed, recipe) for variant in ("original", *SCRATCH, "aware")}
    taken = cost.training(steps, repeats=recipe.repeats)
    where = {"seed": seed, "recipe": recipe, "place": place}
    memory = [
        {"variant": variant, "backend": backend, "bytes": cost.memory("torch", variant, backend, **where)}
        for variant, backend in RUNS
        if seed == 0  # the size of the arrays is the same in all
    ]
    return {"inference": timed, "training_step": taken, "memory": memory}


def runner(seed: int, variant: str, backend: str, recipe: Recipe, place: Path) -> Callable[[Tensor], Tensor]:
    """A finished network, ready to be called in a back end, on one thread."""
    if backend == BEST:
        return Session(place / file_of(seed, variant))
    network = load(variant, recipe, place / file_of(seed, variant))
    model = (Autocast(network) if variant == "mixed" else network).eval()
    return torch.inference_mode()(model.forward)


def inputs(batch: int) -> Tensor:
    """So many random pictures, (B, 1, 28, 28)."""
    return torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def warm_up(backend: str) -> None:
    """Make a back end load what it needs for any network."""
    with torch.inference_mode():
        DigitCNN(2)(EXAMPLE)
    if backend == BEST:
        with tempfile.TemporaryDirectory() as folder:
            export_int8(DigitCNN(2), EXAMPLE, Path(folder) / "warm.onnx")(EXAMPLE)


def step(variant: str, seed: int, recipe: Recipe) -> Callable[[], None]:
    """One training step of a variant on random digits, to be timed; "aware" rounds to int8 while it trains."""
    x, y = inputs(recipe.batch_size), torch.arange(recipe.batch_size) % 10
    model = start(variant, seed, recipe)
    if variant == "mixed":
        model = Autocast(model)
    elif variant == "aware":
        model = prepare_qat(model, x, weight_bits=8, activation_bits=8)
    return timed_step(model, x, y)


def rungs(seed: int, recipe: Recipe, place: Path) -> dict[str, Any]:
    """The ladder of a finished original; see `results_ladder`."""
    torch.set_num_threads(1)
    file = place / file_of(seed, "original")
    original, teacher = load("original", recipe, file), Session(file)
    return {
        "rungs": ladder(original, *tensors(recipe), recipe=recipe, seed=seed, place=place, teacher=teacher)
    }
