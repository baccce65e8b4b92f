"""The course's language model: a small transformer that has read two novels by Jane Austen, character by character.

    next character ~ softmax(TransformerLM(the 128 characters before it))

Training it takes minutes, and the chapter `language-model-quantization` needs it trained before it can say anything.
So it is trained here, and its weights are stored; the chapter measures its perplexity again, and a test repeats the
training's first steps (`overture`). A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017. What this is *not*: a
result of the chapter. Everything that the chapter says about quantization it computes itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dca_lab import data, measure, models
from dca_lab.data.windows import windows
from dca_lab.training import fit
from dca_lab.training.perplexity import perplexity

from .pieces import work_folder
from .store import network, save

NAME = "language-model"
FILE = "austen-transformer.safetensors"
LENGTH = 128  # characters that the model sees at once
RECIPE = {"epochs": 2, "batch_size": 8, "lr": 3e-3}
HELD_OUT = 240  # windows of the held-out chapters on which perplexity is measured
OVERTURE = 160  # windows of a training that is short enough to be repeated


def text(*, held_out: int = HELD_OUT) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows of the novels and the characters that follow: x, y for training, then x, y held out; int64 (N, 128).

    `held_out` is how many windows of the held-out chapters there are to be.

    Examples
    --------
    >>> tuple(text()[2].shape)
    (240, 128)
    """
    austen = data.load("austen")
    read, follows, held, held_follows = (
        torch.tensor(part, dtype=torch.int64)
        for part in (austen.x_train, austen.y_train, austen.x_test, austen.y_test)
    )
    x_test, y_test = windows(held, held_follows, LENGTH)
    return *windows(read, follows, LENGTH), x_test[:held_out], y_test[:held_out]


def untrained() -> nn.Module:
    """The model with random weights: two blocks of 128 channels and four heads.

    Examples
    --------
    >>> tuple(untrained()(torch.zeros(1, 128, dtype=torch.int64)).shape)[:2]
    (1, 128)
    """
    shape = {"width": 128, "heads": 4, "layers": 2, "context": LENGTH}
    return models.build("transformer-lm", seed=0, vocabulary=len(data.load("austen").classes), **shape)


def warm_cosine(optimizer: Optimizer, total: int) -> LambdaLR:
    """The learning rate rises for 100 steps and then falls along half a cosine."""
    return LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / total)),
    )


def train(x: Tensor, y: Tensor, *, epochs: int = RECIPE["epochs"], progress: bool = True) -> nn.Module:
    """A model trained on windows x, y by the recipe."""
    model = untrained()
    options = RECIPE | {"epochs": epochs}
    fit(model, x, y, seed=0, schedule=warm_cosine, progress=progress, **options)
    return model.eval()


def overture() -> float:
    """The perplexity on 32 held-out windows after one epoch over the first windows of the text."""
    x, y, x_test, y_test = text()
    return perplexity(train(x[:OVERTURE], y[:OVERTURE], epochs=1, progress=False), x_test[:32], y_test[:32])


def trained() -> nn.Module:
    """The stored model, in evaluation mode.

    Examples
    --------
    >>> trained().training
    False
    """
    model = untrained()
    model.load_state_dict(load_file(network(FILE)))
    return model.eval()


def run(*, quick: bool = False, progress: bool = True) -> Path:
    """Train the model, and store it with its perplexity (unless `quick`).

    Parameters
    ----------
    quick : bool
        Train on the first windows only, and store beside the pieces in the build folder: shows that it runs.
    progress : bool
        A bar of the training, on a terminal.

    Returns
    -------
    Path
        Of the JSON file.
    """
    torch.set_num_threads(1)
    place = work_folder(f"{NAME}-quick" if quick else NAME)
    x, y, x_test, y_test = text()
    model = train(x[:OVERTURE] if quick else x, y[:OVERTURE] if quick else y, progress=progress)
    results: dict[str, Any] = {
        "recipe": RECIPE,
        "parameters": measure.count_parameters(model),
        "bytes": measure.size_on_disk(model, place / FILE),
        "perplexity": perplexity(model, x_test, y_test),
        "overture": overture(),
    }
    command = f"dca study {NAME}" + (" --quick" if quick else "")
    root = place / "stored" if quick else None
    return save(NAME, results, command=command, seeds=[0], files=[place / FILE], root=root)
