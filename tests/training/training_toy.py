"""A tiny problem for the tests of training: everything that a resumed run could forget is in it."""

import torch
from torch import nn


class Toy(nn.Sequential):
    """Batch-norm has buffers, dropout draws from the global generator."""

    def __init__(self, seed: int = 0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Linear(6, 12),
                nn.BatchNorm1d(12),
                nn.ReLU(),
                nn.Dropout(0.3),
                nn.Linear(12, 3),
            )


def data(n: int = 50, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 6) and labels in 0..2 that a linear layer can learn."""
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].argmax(1)


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether all weights and buffers are equal bit by bit."""
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
