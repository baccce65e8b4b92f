"""Train a network of the results table in torch: `training.fit` with shifted digits, the schedule, perhaps a teacher.

    loss = cross-entropy                                                          without a teacher
    loss = (cross-entropy + T^2 KL(softmax(teacher / T) || softmax(logits / T))) / 2     with one

G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, 2015. The teacher is an
ONNX file: it answers each newly shifted digit once an epoch, several times faster than the same network in eager mode.
What this is *not*: a second training loop; that is `training.fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dca_lab.training import fit
from dca_lab.training.losses import cross_entropy

from .results_recipe import Recipe, digits, learning_rate, shifted

EXAMPLE = torch.zeros(2, 1, 28, 28)


class Autocast(nn.Module):
    """A network whose products are computed in 16 bits while its weights stay float32.

    Examples
    --------
    >>> Autocast(Strided(4))(EXAMPLE).dtype
    torch.float32
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.bfloat16):
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Float32 logits of x."""
        with torch.autocast("cpu", self.dtype):
            logits = self.network(x)
        return logits.float()


class Strided(nn.Module):
    """The document's network without its pooling: 5x5 filters that move by two pixels, and so leave a quarter of the map.

    Examples
    --------
    >>> Strided(8)(EXAMPLE).shape
    torch.Size([2, 10])
    """

    def __init__(self, filters: int):
        super().__init__()
        self.conv = nn.Conv2d(1, filters, 5, stride=2)
        self.fc = nn.Linear(filters * 12 * 12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of x (B, 1, 28, 28)."""
        return self.fc(torch.flatten(F.relu(self.conv(x)), 1))


def tensors(recipe: Recipe) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The digits as torch takes them: x (N, 1, 28, 28) float32 in [0, 1], y (N,) int64."""
    x, y, x_test, y_test = (torch.from_numpy(part) for part in digits(recipe))
    return x[:, None], y, x_test[:, None], y_test


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    recipe: Recipe,
    seed: int,
    epochs: int,
    lr: float,
    teacher: Callable[[Tensor], Tensor] | None = None,
    after: Callable[[int, nn.Module], object] | None = None,
    stop: int | None = None,
) -> float:
    """Train in place by the recipe.

    Parameters
    ----------
    model : nn.Module
    x, y : Tensor
        (N, 1, 28, 28) and (N,).
    recipe : Recipe
    seed : int
        Orders and shifts the digits.
    epochs, lr
        Of this training.
    teacher : callable, optional
        Gives the logits that the network shall learn, besides the labels.
    after : callable, optional
        ``after(epoch, model)`` after each epoch.
    stop : int, optional
        End after so many epochs of the schedule: how a chapter repeats the first one.

    Returns
    -------
    float
        CPU seconds, the shifts and the teacher's answers included, `after` not.
    """
    generator = np.random.default_rng(seed)
    stop = epochs if stop is None else stop
    total = epochs * -(-len(x) // recipe.batch_size)
    current, targets = torch.empty_like(x), y
    if teacher is not None:  # column 0 holds the label, the others the teacher's logits
        targets = torch.empty(len(y), 11)
    seconds = -time.process_time()

    def next_epoch() -> None:
        moved = shifted(x[:, 0].numpy(), recipe.shift, generator)
        current.copy_(torch.from_numpy(moved)[:, None])
        if teacher is not None:
            targets[:, 0] = y
            targets[:, 1:] = torch.cat([teacher(batch) for batch in current.split(256)])

    def distil(logits: Tensor, target: Tensor) -> Tensor:
        label, T = target[:, 0].long(), recipe.temperature
        soft = F.kl_div(
            F.log_softmax(logits / T, 1),
            F.log_softmax(target[:, 1:] / T, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (cross_entropy(logits, label) + T * T * soft) / 2

    def on_epoch(epoch: int, network: nn.Module) -> None:
        nonlocal seconds
        paused = time.process_time()
        if after is not None:
            after(epoch, network)
        seconds -= time.process_time() - paused
        if epoch < stop:
            next_epoch()

    def schedule(optimizer: torch.optim.Optimizer, _: int) -> torch.optim.lr_scheduler.LambdaLR:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, total, lr) / lr)

    next_epoch()
    options = {"loss": distil} if teacher is not None else {}
    options |= {"batch_size": recipe.batch_size, "lr": lr, "seed": seed, "schedule": schedule}
    fit(model, current, targets, epochs=stop, on_epoch=on_epoch, **options)
    return seconds + time.process_time()


def timed_step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """One training step of `model` on this batch, as a function without arguments: what `measure.latency` takes."""
    optimizer = torch.optim.Adam(model.train().parameters(), fused=True)

    def run() -> None:
        with torch.inference_mode(False), torch.enable_grad():
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run
