"""The document's table in torch, one seed: train the networks, shrink them, write the files, count what they get right.

    original           32 filters, float32
    pruned             the filters of least group norm physically removed, then fine-tuned to the original's answers
    quantized          the original in static int8, executed by ONNX Runtime
    pruned, quantized  both, in this order
    narrow             as many filters as the pruned network has, trained from scratch
    strided            5x5 filters that move by two pixels, and no pooling: another structure, from scratch
    mixed              the original trained in bfloat16 autocast: float32 weights, 16-bit products

The pruned network pays for two trainings, the narrow one for a short one: they are the two ways to a small network,
and the document's table does not say which it means. What this is *not*: a measurement of speed, which needs all
variants side by side in one process (`results_speed`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from dca_lab import measure
from dca_lab.deploy import Session, export_onnx
from dca_lab.models import DigitCNN, build
from dca_lab.pruning import prune_channels
from dca_lab.quantization import export_int8
from dca_lab.training import evaluate

from .results_recipe import Recipe
from .results_train import EXAMPLE, Autocast, Strided, tensors, train

SHRUNK = ("original", "pruned", "quantized", "pruned-quantized")
SCRATCH = ("narrow", "strided", "mixed")


def prune(model: nn.Module, kept: int) -> nn.Module:
    """A copy with the `kept` filters of largest group norm: their own weights and those that read them.

    Examples
    --------
    >>> prune(DigitCNN(8), 3).conv.weight.shape
    torch.Size([3, 1, 3, 3])
    """
    filters = model.conv.out_channels
    return prune_channels(model, EXAMPLE, 1 - kept / filters, importance="group")


def shrink(seed: int, recipe: Recipe, place: Path) -> dict[str, Any]:
    """The original and what is made of it: pruned, quantized, and both.

    Parameters
    ----------
    seed : int
    recipe : Recipe
    place : Path
        Folder that gets the files, named by `file_of`.

    Returns
    -------
    dict
        variants: accuracy (of the file as it is executed), bytes of the file, parameters, macs, seconds of CPU that
        this step took, and with all that it builds on; first_epoch: accuracy of the original after one epoch;
        cut: accuracy of the pruned network before it was fine-tuned.
    """
    x, y, x_test, y_test = tensors(recipe)
    found, first = {}, []

    def after(epoch: int, network: nn.Module) -> None:
        if epoch == 1:
            first.append(evaluate(network, x_test, y_test))

    def int8(variant: str, network: nn.Module, before: float) -> None:
        started = time.process_time()
        session = export_int8(
            network, x[: recipe.calibration], place / file_of(seed, variant), reduce_range=True
        )
        own = time.process_time() - started
        found[variant] = _described(session, network, x_test, y_test, own=own, in_all=before + own)

    original = build("digit-cnn", seed=seed, filters=recipe.filters)
    scratch = {"epochs": recipe.epochs, "lr": recipe.lr, "after": after}
    plain = train(original, x, y, recipe=recipe, seed=seed, **scratch)
    teacher = export_onnx(original, EXAMPLE, place / file_of(seed, "original"))
    found["original"] = _described(teacher, original, x_test, y_test, own=plain, in_all=plain)
    int8("quantized", original, plain)

    small = prune(original, recipe.kept)
    cut = evaluate(small, x_test, y_test)
    tune = {"epochs": recipe.tune_epochs, "lr": recipe.tune_lr, "teacher": teacher}
    tuned = train(small, x, y, recipe=recipe, seed=seed, **tune)
    session = export_onnx(small, EXAMPLE, place / file_of(seed, "pruned"))
    found["pruned"] = _described(session, small, x_test, y_test, own=tuned, in_all=plain + tuned)
    int8("pruned-quantized", small, plain + tuned)
    return {"variants": found, "first_epoch": first[0], "cut": cut}


def scratch(seed: int, variant: str, recipe: Recipe, place: Path) -> dict[str, Any]:
    """A network trained from scratch by the recipe: "narrow", "strided" or "mixed"; returns as `shrink`.

    The accuracy of "mixed" is that of its executed form, with 16-bit products; its file holds the float32 weights.
    """
    x, y, x_test, y_test = tensors(recipe)
    network = start(variant, seed, recipe)
    model = Autocast(network) if variant == "mixed" else network
    own = train(model, x, y, recipe=recipe, seed=seed, epochs=recipe.epochs, lr=recipe.lr)
    session = export_onnx(network, EXAMPLE, place / file_of(seed, variant))
    found = _described(session, network, x_test, y_test, own=own, in_all=own)
    if variant == "mixed":
        found["accuracy_float32"] = found["accuracy"]
        found["accuracy"] = evaluate(model, x_test, y_test)
    return {"variants": {variant: found}}


def start(variant: str, seed: int, recipe: Recipe) -> nn.Module:
    """The untrained network of a variant.

    Examples
    --------
    >>> start("narrow", 0, Recipe(kept=5)).conv.weight.shape
    torch.Size([5, 1, 3, 3])
    """
    if variant == "strided":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return Strided(recipe.strided)
    return build("digit-cnn", seed=seed, filters=recipe.kept if variant == "narrow" else recipe.filters)


def load(variant: str, recipe: Recipe, file: Path) -> nn.Module:
    """The torch module of a finished float variant, its weights read back from its ONNX file."""
    filters = recipe.kept if variant in ("pruned", "narrow") else recipe.filters
    network = Strided(recipe.strided) if variant == "strided" else DigitCNN(filters)
    stored = onnx.load(file).graph.initializer
    arrays = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in stored}
    network.load_state_dict({name: arrays[name] for name in network.state_dict()})
    return network.eval()


def file_of(seed: int, variant: str) -> str:
    """Name of a variant's file in the work folder."""
    return f"torch-{seed}-{variant}.onnx"


def _described(
    session: Session, network: nn.Module, x: Tensor, y: Tensor, *, own: float, in_all: float
) -> dict[str, Any]:
    return {
        "accuracy": evaluate(session, x, y),
        "bytes": session.bytes,
        "parameters": measure.count_parameters(network),
        "macs": measure.count_macs(network, EXAMPLE[:1]),
        "seconds": own,
        "seconds_in_all": in_all,
    }
