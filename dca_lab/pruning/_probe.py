"""Looking at a model without leaving a trace: mode, gradients, buffers, weights and random state stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def unchanged(model: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Run in train or eval mode; each module's own mode and torch's random state come back afterwards."""
    modes = {module: module.training for module in model.modules()}
    with torch.random.fork_rng(devices=[]):
        try:
            model.train(training)
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def batches(x: Tensor, y: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, y) in pieces of at most ``batch_size`` rows."""
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x and y must have as many rows, at least one; got {len(x)} and {len(y)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    for start in range(0, len(x), batch_size):
        yield x[start : start + batch_size], y[start : start + batch_size]


def copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leaves with the same values that collect gradients in place of the model's own parameters."""
    return {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}


def call(model: nn.Module, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The model's output with other weights, on copies of its buffers: batch-norm statistics do not move."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return torch.func.functional_call(model, {**buffers, **weights}, (x,))


def mean_gradients(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss,
    batch_size: int,
    training: bool = False,
) -> dict[str, Tensor]:
    """The gradient of the mean loss over all rows, for each weight; zero where the loss does not reach."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with unchanged(model, training=training), torch.enable_grad():
        for inputs, targets in batches(x, y, batch_size):
            leaves = copies(weights)
            value = loss(call(model, leaves, inputs), targets)
            gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(leaves, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient * (len(inputs) / len(x))
    return total
