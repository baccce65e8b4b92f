"""Models by name, with an input that each accepts: for the command line and for tables.

Idea: a name stands for one constructor with one set of defaults, so that "resnet-18" in two chapters is the
same network. It is *not* a registry of trained weights: `build` gives a freshly initialised model.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dca_lab.models.digit_cnn import DigitCNN
from dca_lab.models.gan import Discriminator, Generator
from dca_lab.models.gru import GRUClassifier
from dca_lab.models.lenet5 import LeNet5
from dca_lab.models.lenet300 import LeNet300
from dca_lab.models.resnet18 import ResNet18
from dca_lab.models.small_cnn import SmallCNN
from dca_lab.models.transformer import TransformerLM

# The constructor, what it needs beyond its own defaults, and the shape of one example.
_ZOO: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], tuple[int, ...]]] = {
    "lenet-300-100": (LeNet300, {}, (1, 28, 28)),
    "lenet-5": (LeNet5, {}, (1, 28, 28)),
    "digit-cnn": (DigitCNN, {}, (1, 28, 28)),
    "small-cnn": (SmallCNN, {}, (1, 28, 28)),
    "resnet-18": (ResNet18, {}, (1, 28, 28)),
    "gru": (GRUClassifier, {"inputs": 28, "classes": 10}, (28, 28)),  # a digit read row by row
    "transformer-lm": (TransformerLM, {}, (64,)),
    "generator": (Generator, {}, (64,)),
    "discriminator": (Discriminator, {}, (1, 28, 28)),
}

NAMES: tuple[str, ...] = tuple(_ZOO)


def _entry(name: str) -> tuple[Callable[..., nn.Module], dict[str, Any], tuple[int, ...]]:
    if name not in _ZOO:
        raise ValueError(f"there is no model {name!r}: choose one of {', '.join(NAMES)}")
    return _ZOO[name]


def build(name: str, *, seed: int | None = None, **options: Any) -> nn.Module:
    """A freshly initialised model, in training mode.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    seed : int, optional
        Seeds the initial weights and leaves torch's global generator as it was. Without it, the weights are
        drawn from the global generator.
    **options
        Passed to the constructor, such as ``width=16`` for "resnet-18".

    Raises
    ------
    ValueError
        When there is no such model.

    Examples
    --------
    >>> model = build("resnet-18", seed=0, width=8)
    >>> model(example_input("resnet-18", 5)).shape
    torch.Size([5, 10])
    """
    constructor, defaults, _ = _entry(name)
    if seed is None:
        return constructor(**{**defaults, **options})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return constructor(**{**defaults, **options})


def example_input(name: str, batch: int = 1) -> Tensor:
    """A batch of random examples with the shape and dtype that ``build(name)`` accepts.

    Standard normal float32 values, or tokens below 128 (int64) for "transformer-lm". Always the same values.

    Raises
    ------
    ValueError
        When there is no such model.

    Examples
    --------
    >>> example_input("gru", 5).shape
    torch.Size([5, 28, 28])
    """
    constructor, _, shape = _entry(name)
    generator = torch.Generator().manual_seed(0)
    if constructor is TransformerLM:
        return torch.randint(128, (batch, *shape), generator=generator)
    return torch.randn(batch, *shape, generator=generator)
