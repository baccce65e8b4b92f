"""The language model that the weight-only comparison quantizes: the course's transformer, trained on the Austen novels.

Four blocks of 128 channels, characters, windows of 128: 0.83 million parameters, nearly all of them in linear layers.
It is trained once (two epochs of very small batches, warm-up and a cosine), four minutes on one core. What this is *not*: a
large model: its activations have no channels that stand out, on which AWQ and SmoothQuant live. `plant_salience`
puts some there by an exact rescaling, so that what happens in large models can be seen here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bench.common import cosine
from dca_lab.data import load
from dca_lab.models import build
from dca_lab.studies import language_model
from dca_lab.training import fit


@dataclass(frozen=True)
class Trained:
    """The model, calibration windows (N, T) of its training text, and test windows with their targets."""

    model: nn.Module
    calibration: Tensor
    x_test: Tensor
    y_test: Tensor


def train_language_model(*, quick: bool = False, seed: int = 0) -> Trained:
    """Train it; `quick` is a tiny one that has learned little."""
    x, y, x_test, y_test = language_model.text(held_out=32 if quick else 400)
    x, y = (x[:32], y[:32]) if quick else (x, y)
    shape = {"width": 64, "layers": 1} if quick else {"width": 128, "layers": 4}
    shape |= {"vocabulary": len(load("austen").classes), "heads": 4, "context": language_model.LENGTH}
    model = build("transformer-lm", seed=seed, **shape)
    fit(
        model,
        x,
        y,
        epochs=1 if quick else 2,
        batch_size=4,
        lr=2e-3,
        seed=seed,
        schedule=cosine,
        progress=False,
    )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(x), generator=generator)[:128]
    return Trained(model.eval(), x[chosen], x_test, y_test)


def plant_salience(trained: Trained, *, share: float = 0.05, factor: float = 16.0, seed: int = 0) -> Trained:
    """The same function, in which some channels behind every layer norm are `factor` times larger.

    The layers that read them have weights that are as much smaller. The factor is a power of two: nothing is rounded.
    """
    model, generator = copy.deepcopy(trained.model), torch.Generator().manual_seed(seed)
    readers = [
        (block.norm1, [block.attention.q, block.attention.k, block.attention.v]) for block in model.blocks
    ]
    readers += [(block.norm2, [block.fc1]) for block in model.blocks] + [(model.norm, [model.head])]
    with torch.no_grad():
        for norm, linears in readers:
            width = len(norm.weight)
            chosen = torch.randperm(width, generator=generator)[: max(1, round(share * width))]
            norm.weight[chosen] *= factor
            norm.bias[chosen] *= factor
            for linear in linears:
                linear.weight[:, chosen] /= factor
    return replace(trained, model=model)
