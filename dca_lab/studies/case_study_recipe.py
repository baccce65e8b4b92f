"""The ground of the case study: its photographs, its network, and the one way in which everything is trained.

Every training of the study, be it the original, the control or a pruned network, is the same call with other
epochs: SGD with Nesterov momentum, a learning rate that rises for a fifth of the steps and falls to zero, images that
are mirrored and moved by up to two pixels. What differs is only what the study asks about. Recipe constants were
chosen on the last 2,000 *training* images; the test images were never asked.

B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964 (momentum); L. N. Smith, N. Topin,
"Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", arXiv:1708.07120, 2018 (the
schedule's shape). It is *not* a search for the best accuracy on this data set: the study compares, and needs equal
conditions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from dca_lab import data, hardware
from dca_lab.training import History, fit


@dataclass(frozen=True)
class Recipe:
    """Settings of the whole study; the defaults are the study.

    Attributes
    ----------
    width : int
        Channels of the network's first stage.
    epochs, finetune : int
        Of the original training, and of the control that trains on. A cut network is fine-tuned for more epochs of the
        same computing: see `EPOCHS_FACTOR` in `case_study_seed`.
    lr, finetune_lr : float
        Peaks of the learning rate.
    batch_size : int
    train, test, calibration : int
        Images; calibration images are the first training images.
    order_epochs, order_train : int
        Epochs and images of fine-tuning in the order experiment, which fine-tunes five times a seed.
    precision : str
        "fp32", "bf16" (autocast around float32 master weights), or "auto": bf16 where the processor multiplies it.
    repeats : int
        Rounds of each timing.
    """

    width: int = 64
    epochs: int = 5
    finetune: int = 2
    lr: float = 0.05
    finetune_lr: float = 0.02
    batch_size: int = 128
    train: int = 12_000
    test: int = 4_000
    calibration: int = 512
    order_epochs: int = 1
    order_train: int = 6_000
    precision: str = "auto"
    repeats: int = 40

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision={self.precision!r}: choose 'auto', 'fp32' or 'bf16'")
        if min(self.train, self.test, self.calibration) < 1:
            raise ValueError("train, test and calibration must be at least 1 image")

    @property
    def half(self) -> bool:
        """Whether training multiplies in bf16 on this machine."""
        return self.precision == "bf16" or (self.precision == "auto" and fast_bf16())


def fast_bf16() -> bool:
    """Whether this processor has instructions that multiply bf16; without them autocast is many times slower.

    Examples
    --------
    >>> fast_bf16() in (True, False)
    True
    """
    return any(
        name in ("avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert") for name in hardware.instruction_sets()
    )


def images(recipe: Recipe) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fashion-MNIST as x float32 (N, 1, 28, 28) in [0, 1] and y int64 (N,): train, then test.

    Examples
    --------
    >>> tuple(images(Recipe(train=100, test=10))[2].shape)
    (10, 1, 28, 28)
    """
    fashion = data.load("fashion")
    if recipe.train > len(fashion.x_train) or recipe.test > len(fashion.x_test):
        raise ValueError(
            f"{fashion.name} has {len(fashion.x_train)} training and {len(fashion.x_test)} test images"
        )
    x = torch.from_numpy(fashion.x_train[: recipe.train].copy())[:, None] / 255
    x_test = torch.from_numpy(fashion.x_test[: recipe.test].copy())[:, None] / 255
    y, y_test = (torch.from_numpy(labels.copy()) for labels in (fashion.y_train, fashion.y_test))
    return x, y[: recipe.train], x_test, y_test[: recipe.test]


class Trainer(nn.Module):
    """A network with what belongs to its training only: mirrored and moved images, and bf16 products.

    In evaluation mode it is the network. The float32 weights are the master weights: autocast rounds copies.

    Examples
    --------
    >>> Trainer(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), half=False)(torch.zeros(4, 1, 28, 28)).shape
    torch.Size([4, 10])
    """

    def __init__(self, network: nn.Module, *, half: bool):
        super().__init__()
        self.network, self.half = network, half

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) -> logits (B, classes), float32."""
        if not self.training:
            return self.network(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            return self.network(mirrored_and_moved(x)).float()


def mirrored_and_moved(x: Tensor, *, by: int = 2) -> Tensor:
    """Each image mirrored with probability one half and moved by up to `by` pixels each way, black moving in.

    Randomness is torch's global generator, which `training.fit` seeds and restores.

    Examples
    --------
    >>> mirrored_and_moved(torch.ones(3, 1, 28, 28)).shape
    torch.Size([3, 1, 28, 28])
    """
    batch, _, height, width = x.shape
    x = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, x.flip(-1), x)
    x = nn.functional.pad(x, (by, by, by, by))
    rows = torch.arange(height) + torch.randint(0, 2 * by + 1, (batch, 1))  # (B, H)
    columns = torch.arange(width) + torch.randint(0, 2 * by + 1, (batch, 1))  # (B, W)
    return x[torch.arange(batch)[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def train(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    recipe: Recipe,
    seed: int,
    checkpoint: Path | None = None,
    progress: bool = True,
    half: bool | None = None,
) -> History:
    """Train `network` in place by the recipe; resumes from `checkpoint`, and returns at once when it is complete.

    Parameters
    ----------
    network : nn.Module
    x, y : Tensor
        (N, 1, 28, 28) and (N,).
    epochs, lr :
        Of this training.
    recipe : Recipe
    seed : int
        Orders the images and moves them.
    checkpoint : Path, optional
    progress : bool
    half : bool, optional
        bf16 or not; by default as the recipe says.

    Returns
    -------
    History
    """

    def optimizer(parameters: Iterable[nn.Parameter]) -> SGD:
        return SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)

    def schedule(update: SGD, steps: int) -> LambdaLR:
        rise = max(1, steps // 5)
        return LambdaLR(update, lambda step: min((step + 1) / rise, (steps - step) / max(1, steps - rise)))

    network.to(memory_format=torch.channels_last)  # the layout that the kernels of training are fastest in
    trainer = Trainer(network, half=recipe.half if half is None else half)
    options = {"optimizer": optimizer, "schedule": schedule, "batch_size": recipe.batch_size, "seed": seed}
    history = fit(trainer, x, y, epochs=epochs, checkpoint=checkpoint, progress=progress, **options)
    network.to(memory_format=torch.contiguous_format)
    return history
