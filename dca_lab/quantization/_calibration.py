"""What each linear layer receives on calibration data, summed up batch by batch so that no activation is kept.

    Hessian   H = sum over tokens of x x^T     (I, I)   the layer's squared error is tr(D H D^T), D = W - Wq
    mean      sum |x_j| / tokens               (I,)     what AWQ calls salience
    largest   max |x_j|                        (I,)     what SmoothQuant divides by

`calibration.py` observes the activations *between* the layers of a traced graph; this file looks at the inputs of
``nn.Linear`` with hooks, so any model will do, and integer tokens are welcome as calibration data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dca_lab.training.evaluation import mode

_BATCH = 16
Observe = Callable[[str, Tensor], None]


def input_batches(calibration: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The calibration examples, (N, ...) or batches of them, as a list of batches; ValueError when there is none."""
    if not isinstance(calibration, Iterable):
        found = type(calibration).__name__
        raise ValueError(f"calibration is {found}: give examples (N, ...), or an iterable of batches")
    batches = list(calibration.split(_BATCH)) if isinstance(calibration, Tensor) else list(calibration)
    wrong = [type(batch).__name__ for batch in batches if not isinstance(batch, Tensor)]
    if wrong:
        raise ValueError(f"calibration must hold tensors of examples (no labels), not {wrong[0]}")
    batches = [batch for batch in batches if batch.numel()]
    if not batches:
        raise ValueError("calibration is empty: give some dozens of typical examples")
    return batches


def linear_layers(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Linear]:
    """The linear layers by name, all or those that are named; ValueError for a name that is none."""
    every = {name: each for name, each in model.named_modules() if type(each) is nn.Linear}
    chosen = list(every) if names is None else list(names)
    unknown = [name for name in chosen if name not in every]
    if unknown or not chosen:
        raise ValueError(f"no nn.Linear is called {unknown}; there are: {', '.join(every) or 'none'}")
    return {name: every[name] for name in chosen}


@contextmanager
def observed(layers: dict[str, nn.Linear], observe: Observe) -> Iterator[None]:
    """Inside, every call of a layer hands its input to ``observe(name, x)``."""

    def hook(name: str) -> Callable:
        return lambda module, args: observe(name, args[0])

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rows_of(name: str, x: Tensor) -> Tensor:
    """(..., I) -> (tokens, I) in float64; ValueError when a value is not finite."""
    rows = x.detach().reshape(-1, x.shape[-1]).double()
    if not torch.isfinite(rows).all():
        raise ValueError(f"layer {name!r} receives NaN or infinity on the calibration data")
    return rows


def checked_hessian(hessian: Tensor, inputs: int) -> Tensor:
    """X^T X (I, I) in float64; ValueError when the shape is another one or a value is not finite."""
    if tuple(hessian.shape) != (inputs, inputs):
        raise ValueError(f"hessian must be X^T X of shape {(inputs, inputs)}, not {tuple(hessian.shape)}")
    hessian = hessian.detach().double()
    if not torch.isfinite(hessian).all():
        raise ValueError("the hessian contains NaN or infinity: look at the calibration data")
    return hessian


@dataclass
class InputStatistics:
    """What one layer received: see the formulas at the top of the file."""

    hessian: Tensor
    total: Tensor
    largest: Tensor
    tokens: int = 0

    @property
    def mean(self) -> Tensor:
        """Mean |x| of each input channel, (I,)."""
        return self.total / self.tokens

    def update(self, rows: Tensor) -> None:
        """Take (tokens, I) more into account."""
        self.hessian += rows.T @ rows
        self.total += rows.abs().sum(0)
        self.largest = torch.maximum(self.largest, rows.abs().amax(0))
        self.tokens += len(rows)


def input_statistics(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    layers: Iterable[str] | None = None,
) -> dict[str, InputStatistics]:
    """Statistics of the inputs of each linear layer, in one pass in evaluation mode.

    Examples
    --------
    >>> found = input_statistics(nn.Sequential(nn.Linear(3, 2)), torch.ones(5, 3))
    >>> found["0"].hessian.shape, found["0"].mean.tolist(), found["0"].tokens
    (torch.Size([3, 3]), [1.0, 1.0, 1.0], 5)
    """
    chosen, found = linear_layers(model, layers), {}

    def observe(name: str, x: Tensor) -> None:
        rows = rows_of(name, x)
        if len(rows) == 0:
            return
        if name not in found:
            zeros = rows.new_zeros(rows.shape[1])
            found[name] = InputStatistics(zeros.new_zeros(len(zeros), len(zeros)), zeros.clone(), zeros)
        found[name].update(rows)

    with mode(model, training=False), torch.no_grad(), observed(chosen, observe):
        for batch in input_batches(calibration):
            model(batch)
    if silent := [name for name in chosen if name not in found]:
        raise ValueError(f"never called on the calibration data: {silent}; leave them out of layers=")
    return found


class _EnoughSeenError(Exception):
    """Thrown out of the forward pass when all that is asked for has been seen."""


def next_hessians(model: nn.Module, batches: list[Tensor], pending: Iterable[str]) -> dict[str, Tensor]:
    """Hessians of the pending layers that the model calls first and that share one input, as q, k and v do.

    The pass stops at the next pending layer that reads something else: what it reads depends on the layers that
    are about to change.
    """
    chosen, found = linear_layers(model, pending), {}
    shared: list[Tensor] = []  # the input of the first pending layer, in this batch

    def observe(name: str, x: Tensor) -> None:
        if not shared:
            shared.append(x)
        if x is not shared[0] and name not in found:
            raise _EnoughSeenError
        rows = rows_of(name, x)
        found[name] = found.get(name, 0) + rows.T @ rows

    with mode(model, training=False), torch.no_grad(), observed(chosen, observe):
        for batch in batches:
            shared.clear()
            try:
                model(batch)
            except _EnoughSeenError:
                pass
    if not found:
        raise ValueError(f"never called on the calibration data: {list(chosen)}; leave them out of layers=")
    return found
