"""Ask a trained network: its logits, its accuracy.

    accuracy = share of labels equal to argmax(logits)

Both run in evaluation mode (dropout off, batch-norm with its running statistics), without gradients, and put
every module's mode back. They are *not* metrics for unbalanced classes or texts: those chapters use
scikit-learn on `predict`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Sets training or evaluation mode, and on leaving gives each module the mode that it had.

    Examples
    --------
    >>> model = nn.Dropout()
    >>> with mode(model, training=False):
    ...     model(torch.ones(3))
    tensor([1., 1., 1.])
    >>> model.training
    True
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in before:
            module.training = flag


def predict(model: nn.Module, x: Tensor, *, batch_size: int = 512) -> Tensor:
    """The model's output on all of x, batch by batch.

    Parameters
    ----------
    model : nn.Module
    x : Tensor
        (N, ...), N at least 1.
    batch_size : int
        Examples at a time; the result does not depend on it beyond rounding.

    Returns
    -------
    Tensor
        (N, ...): logits, detached.

    Raises
    ------
    ValueError
        When x is empty or the batch size is below 1.

    Examples
    --------
    >>> predict(nn.Linear(4, 3), torch.zeros(7, 4), batch_size=5).shape
    torch.Size([7, 3])
    """
    if len(x) == 0:
        raise ValueError("there is nothing to predict: x holds no example")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    with mode(model, training=False), torch.no_grad():
        return torch.cat([model(batch) for batch in x.split(batch_size)])


def evaluate(model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 512) -> float:
    """The accuracy of the model.

    Parameters
    ----------
    model : nn.Module
        Returns logits with the classes last: (B, C), or (B, T, V).
    x : Tensor
        (N, ...), N at least 1.
    y : Tensor
        Labels: (N,), or (N, T), int64.
    batch_size : int
        Examples at a time.

    Returns
    -------
    float
        In [0, 1]: the share of labels that are predicted.

    Raises
    ------
    ValueError
        When x is empty, the lengths differ, or labels and logits do not belong together.

    Examples
    --------
    >>> evaluate(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 0]))
    0.6666666666666666
    """
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y has {len(y)} labels: they must be as many")
    if len(x) == 0:
        raise ValueError("there is nothing to evaluate: x holds no example")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    right = 0
    with mode(model, training=False), torch.no_grad():
        for batch, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            logits = model(batch)
            if logits.shape[:-1] != labels.shape:
                raise ValueError(
                    f"logits {tuple(logits.shape)} need labels {tuple(logits.shape[:-1])}, "
                    f"not {tuple(labels.shape)}: accuracy is for integer class labels",
                )
            right += int((logits.argmax(-1) == labels).sum())
    return right / y.numel()
