"""One seed of the case study: train, cut to half and to a quarter, fine-tune, int8; and the controls.

    original --(train on)--> control                      what the extra training alone brings
        |----(train on, as many epochs as quarter)--> control-long
        |----(cut 50 %, fine-tune)--> half ----> int8
        |----(cut 50 % at random, fine-tune)              what choosing the channels brings
        '----(cut 25 %, fine-tune)--> quarter -> int8

Each arrow after the original costs about the same computing, so `half - control` is what pruning cost; `control-long`
costs four times as much, and says what the same number of epochs would have brought. Everything is kept in a folder:
trainings as checkpoints, finished networks as ONNX files. Kill it, start it again, and it goes on. It is *not* an
average: the three seeds stay apart until a table is made of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dca_lab import measure, models
from dca_lab.deploy import Session, export_onnx
from dca_lab.quantization import export_int8
from dca_lab.training import evaluate, predict

from .case_study_cut import EXAMPLE, channel_counts, cut
from .case_study_recipe import Recipe, images, train
from .pieces import piece

BUDGETS = {"half": 0.5, "quarter": 0.25}
# Equal computing, not equal epochs: a network of half the work sees the images twice as often in the same seconds.
EPOCHS_FACTOR = {"control": 1, "half": 2, "random": 2, "quarter": 4, "control-long": 4}
REFERENCES = (
    "original",
    "control",
    "control-long",
)  # what the other networks are compared with, image by image


class Seed:
    """The networks of one seed, made when they are asked for the first time and found again afterwards.

    Parameters
    ----------
    seed : int
    recipe : Recipe
    folder : Path
        Of this seed.
    progress : bool
    """

    def __init__(self, seed: int, recipe: Recipe, folder: Path, *, progress: bool = True):
        self.seed, self.recipe, self.folder, self.progress = seed, recipe, folder, progress
        self.x, self.y, self.x_test, self.y_test = images(recipe)
        self.seconds: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def original(self) -> nn.Module:
        """Trained from its own random start."""
        recipe = self.recipe
        network = models.build("resnet-18", seed=self.seed, width=recipe.width, stem_stride=2)
        return self.trained("original", network, epochs=recipe.epochs, lr=recipe.lr)

    def control(self, name: str = "control") -> nn.Module:
        """The original, trained on: with the computing of a pruned network, or ("control-long") with its epochs."""
        return self.finetuned(name, self.original())

    def pruned(self, name: str) -> nn.Module:
        """The original cut to the budget `name`, and fine-tuned."""
        return self.finetuned(name, cut(self.original(), BUDGETS[name]))

    def pruned_at_random(self) -> nn.Module:
        """As `pruned("half")`, but chance chooses the channels."""
        generator = torch.Generator().manual_seed(self.seed)
        return self.finetuned("random", cut(self.original(), 0.5, importance="random", generator=generator))

    def finetuned(self, name: str, network: nn.Module) -> nn.Module:
        """The training that follows a cut: the same computing for all but "control-long"."""
        epochs = EPOCHS_FACTOR[name] * self.recipe.finetune
        return self.trained(name, network, epochs=epochs, lr=self.recipe.finetune_lr)

    def trained(
        self, name: str, network: nn.Module, *, epochs: int, lr: float, half: bool | None = None
    ) -> nn.Module:
        """`network` after the recipe's training; the checkpoint is called `name`."""
        history = train(
            network,
            self.x,
            self.y,
            epochs=epochs,
            lr=lr,
            recipe=self.recipe,
            seed=1000 * self.seed + epochs,
            checkpoint=self.folder / f"{name}.pt",
            progress=self.progress,
            half=half,
        )
        self.seconds[name] = history.seconds
        return network.eval()

    def calibration(self) -> Tensor:
        """Training images from which the ranges of activations are read."""
        return self.x[: self.recipe.calibration]

    def file(self, name: str) -> Path:
        """Where the network `name` is stored for execution."""
        return self.folder / f"{name}.onnx"


def study_seed(study: Seed) -> dict[str, Any]:
    """All networks of one seed, evaluated on the test images.

    Returns
    -------
    dict
        {"seed", "networks": {name: {accuracy, bytes, parameters, macs, channels, disagree, seconds}}}; `name` is
        original, control, half, quarter, control-long, random, and those of the first four with "-int8".
        `disagree` counts, for each of `REFERENCES`, the test images that it and the network call differently.
    """
    makers = {
        "original": study.original,
        "control": study.control,
        "half": lambda: study.pruned("half"),
        "quarter": lambda: study.pruned("quarter"),
        "control-long": lambda: study.control("control-long"),
        "random": study.pruned_at_random,
    }
    found: dict[str, dict] = {}
    for name, make in makers.items():
        found[name] = _kept(study, name, lambda n=name, make=make: _float_entry(study, n, make()))
        if name not in ("random", "control-long"):
            integers = f"{name}-int8"
            found[integers] = _kept(
                study, integers, lambda n=integers, make=make: _int8_entry(study, n, make())
            )
    answers = {name: _answers(study, name) for name in found}
    for name, entry in found.items():
        entry["disagree"] = {other: int((answers[name] != answers[other]).sum()) for other in REFERENCES}
    return {"seed": study.seed, "networks": found}


def _kept(study: Seed, name: str, make: Callable[[], dict]) -> dict[str, Any]:
    return piece(study.folder, name, make, settings=asdict(study.recipe), files=(f"{name}.onnx",))


def _float_entry(study: Seed, name: str, network: nn.Module) -> dict[str, Any]:
    session = export_onnx(network, EXAMPLE, study.file(name))
    return {
        "accuracy": evaluate(network, study.x_test, study.y_test),
        "bytes": session.bytes,
        "parameters": measure.count_parameters(network),
        "macs": measure.count_macs(network, EXAMPLE),
        "channels": channel_counts(network),
        "seconds": study.seconds[name],
    }


def _int8_entry(study: Seed, name: str, network: nn.Module) -> dict[str, Any]:
    # 7-bit weights: the file gives the same answers on processors whose 8-bit sums saturate
    session = export_int8(copy.deepcopy(network), study.calibration(), study.file(name), reduce_range=True)
    return {
        "accuracy": evaluate(session, study.x_test, study.y_test),
        "bytes": session.bytes,
        "parameters": measure.count_parameters(network),
        "macs": measure.count_macs(network, EXAMPLE),
    }


def _answers(study: Seed, name: str) -> Tensor:
    """The class that the stored network gives each test image."""
    return predict(Session(study.file(name)), study.x_test).argmax(1)
