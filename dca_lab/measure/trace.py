"""Watch one forward pass: which layer ran, with how many MACs, how many bytes, for how long.

Two witnesses, since neither sees all. *Forward hooks* see layers (`Conv2d`, `Linear`, `GRU`, ...). Attention
computed as ``F.scaled_dot_product_attention`` or ``q @ k.mT`` is not a layer, so a *function mode* sees each
such call and gives it the name of the layer that made it. Inside a layer that has a formula the function mode
is silent: nothing counts twice.

What this is *not*: a view into compiled code. A custom kernel called through ``torch.ops`` is not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ._running import call, evaluating, nbytes, require_module, tensors_in
from .formulas import FUNCTIONS, UNCOUNTED, function_macs, layer_formula

# the order in which the formulas expect operands that were passed by name
_ORDER = "input query self key value other weight mat1 batch1 mat mat2 batch2 vec tensor".split()


@dataclass(frozen=True)
class LayerCost:
    """What one execution of one layer cost.

    Attributes
    ----------
    name : str
        Qualified name in the model; a bare function has its caller's name before it
        (``blocks.0.attention.matmul``).
    kind : str
        Class of the layer, or name of the function.
    macs : int
    weight_bytes, activation_bytes : int
        Parameters and buffers; inputs and outputs: each moved once.
    seconds : float
        Of this execution, by the clock given to `trace`.
    """

    name: str
    kind: str
    macs: int
    weight_bytes: int
    activation_bytes: int
    seconds: float

    @property
    def flops(self) -> int:
        """Two operations a MAC."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Weights and activations together."""
        return self.weight_bytes + self.activation_bytes

    @property
    def intensity(self) -> float:
        """FLOP per byte; 0.0 where nothing moves."""
        return self.flops / self.bytes if self.bytes else 0.0


class _Watch(TorchFunctionMode):
    """Collects `LayerCost` rows from hooks and from torch functions while it is active."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.rows: list[LayerCost] = []
        self._clock = clock
        self._running: list[str] = []  # the layers that are in their forward now, outermost first
        self._started: list[float] = []
        self._depth, self._silence = 0, None

    def listen(self) -> None:
        """See functions again, after a layer that was counted as a whole."""
        if self._silence is not None:
            self._silence.__exit__(None, None, None)
            self._silence = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in FUNCTIONS and name not in UNCOUNTED:
            return func(*args, **kwargs)
        start = self._clock()
        output = func(*args, **kwargs)
        seconds = self._clock() - start
        operands = args + tuple(kwargs[key] for key in _ORDER if key in kwargs)
        tensors = list(tensors_in(operands))
        weights = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
        moved = [tensor for tensor in tensors if not isinstance(tensor, nn.Parameter)]
        label = ".".join(part for part in (*self._running[-1:], name) if part)
        macs = function_macs(name, operands, output)
        self.rows.append(LayerCost(label, name, macs, nbytes(weights), nbytes([moved, output]), seconds))
        return output

    def before(self, name: str, counted: bool) -> Callable:
        """Pre-hook: remember the name; read the clock last, so that it times the layer and not the hook."""

        def hook(layer: nn.Module, args: tuple, kwargs: dict) -> None:
            self._running.append(name)
            self._depth += counted
            if counted and self._silence is None:
                # in a layer with a formula the mode is off: nothing counts twice, and nothing is slowed down
                self._silence = torch._C.DisableTorchFunction()
                self._silence.__enter__()
            self._started.append(self._clock())

        return hook

    def after(self, name: str, formula: Callable | None) -> Callable:
        """Hook: read the clock first, then count."""

        def hook(layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            seconds = self._clock() - self._started.pop()
            self._running.pop()
            self._depth -= formula is not None
            if formula is None or self._depth:  # or a part of a larger layer that has its own formula
                return
            self.listen()
            inputs, kind = args + tuple(kwargs.values()), type(layer).__name__
            weights = nbytes([list(layer.parameters()), list(layer.buffers())])
            if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
                weights = nbytes(output)  # only the rows that were looked up are read
            macs = formula(layer, inputs, output)
            self.rows.append(LayerCost(name, kind, macs, weights, nbytes([inputs, output]), seconds))

        return hook


def trace(
    model: nn.Module,
    example_input: Any,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[LayerCost]:
    """Run `model` once in evaluation mode, without gradients; return the cost of each layer that multiplies.

    Parameters
    ----------
    model : nn.Module
        Left as it was: training mode, hooks and parameters.
    example_input : Tensor or tuple of Tensor
        A tuple is passed as several arguments.
    clock : callable
        Seconds; read immediately before and after each layer.

    Returns
    -------
    list of LayerCost
        In the order of execution; a layer that runs twice appears twice.

    Raises
    ------
    ValueError
        If `model` is not a module, or multiplies with a function that has no formula.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> rows = trace(model, torch.zeros(3, 8))
    >>> [(row.name, row.macs, row.weight_bytes, row.activation_bytes) for row in rows]
    [('0', 96, 144, 144), ('2', 24, 40, 72)]
    """
    require_module(model)
    watch, handles = _Watch(clock), []
    try:
        for name, layer in model.named_modules():
            formula = layer_formula(layer)
            before, after = watch.before(name, formula is not None), watch.after(name, formula)
            handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(layer.register_forward_hook(after, with_kwargs=True))
        with evaluating(model), torch.no_grad(), watch:
            call(model, example_input)
    finally:
        watch.listen()  # the model may have failed inside a layer
        for handle in handles:
            handle.remove()
    return watch.rows
