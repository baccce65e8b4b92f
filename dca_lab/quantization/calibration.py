"""Calibration: run the float network on real examples, and choose each activation's grid from what is seen.

    grid = affine_params(observer.range()),      one observer an activation, unsigned levels with zero among them

The tensors observed are those of the plan: at the end of a chain that hands levels through, cut to what their
reader distinguishes. R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A
whitepaper", arXiv:1806.08342, 2018. It is *not* training: no weight changes, no label is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from tqdm.auto import tqdm

from dca_lab.progress import hidden

from .affine import affine_params
from .graph import Planned, QuantizationError
from .observers import OBSERVERS, Observer
from .steps import Grid

_BATCH = 64


def calibration_batches(calibration: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The calibration examples in batches, checked.

    Parameters
    ----------
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches (B, ...); float32, finite, at least one example.

    Raises
    ------
    QuantizationError
        Says what is wrong with them.

    Examples
    --------
    >>> [len(batch) for batch in calibration_batches(torch.zeros(100, 3))]
    [64, 36]
    """
    if isinstance(calibration, Tensor):
        if calibration.dim() < 2:
            raise QuantizationError(
                f"calibration has shape {tuple(calibration.shape)}: give examples (N, ...), the batch first"
            )
        batches = list(calibration.split(_BATCH))
    elif isinstance(calibration, Iterable):
        batches = list(calibration)
    else:
        found = type(calibration).__name__
        raise QuantizationError(f"calibration is {found}: give examples (N, ...), or an iterable of batches")
    if not all(isinstance(batch, Tensor) for batch in batches):
        found = next(type(batch).__name__ for batch in batches if not isinstance(batch, Tensor))
        raise QuantizationError(f"calibration must hold tensors of examples (no labels), not {found}")
    batches = [batch.detach() for batch in batches if len(batch)]
    if not batches:
        raise QuantizationError("calibration is empty: give some hundred typical examples")
    for batch in batches:
        if batch.dtype != torch.float32:
            raise QuantizationError(f"calibration must be float32, not {batch.dtype}")
        if batch.shape[1:] != batches[0].shape[1:]:
            shapes = f"{tuple(batches[0].shape[1:])} and {tuple(batch.shape[1:])}"
            raise QuantizationError(f"calibration examples differ in shape: {shapes}")
        if not torch.isfinite(batch).all():
            raise QuantizationError("calibration holds NaN or infinite values: leave these examples out")
    return batches


def observer_factory(observer: str | type[Observer] | Callable[..., Observer]) -> Callable[..., Observer]:
    """What makes an observer: looked up by its name, or given.

    Examples
    --------
    >>> observer_factory("minmax").__name__
    'MinMaxObserver'
    """
    if isinstance(observer, str):
        if observer not in OBSERVERS:
            raise ValueError(f"there is no observer {observer!r}: choose one of {', '.join(OBSERVERS)}")
        return OBSERVERS[observer]
    if not callable(observer):
        raise ValueError(f"observer={observer!r}: give a name or a class with update(x) and range()")
    return observer


def choose_grids(
    graph: fx.GraphModule,
    layers: Sequence[Planned],
    batches: Sequence[Tensor],
    *,
    observer: str | type[Observer] | Callable[..., Observer],
    bits: int,
) -> dict[str, Grid]:
    """A grid for each of the planned layers, by name.

    Parameters
    ----------
    graph : fx.GraphModule
        From `prepare`.
    layers : sequence of Planned
        Those that need a grid.
    batches : sequence of Tensor
        From `calibration_batches`.
    observer : str or class
        As for `quantize_static`; called with ``bits=``.
    bits : int

    Examples
    --------
    >>> from torch import nn
    >>> from .graph import plan, prepare
    >>> graph = prepare(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.zeros(1, 2))
    >>> source, _ = plan(graph)
    >>> choose_grids(graph, [source], [torch.tensor([[0.0, 255.0]])], observer="minmax", bits=8)
    {'input': Grid(scale=1.0, zero_point=0, bits=8)}
    """
    make = observer_factory(observer)
    if not layers:  # every grid was given: nothing to watch
        return {}
    watched: dict[str, tuple[Planned, Any]] = {layer.name: (layer, make(bits=bits)) for layer in layers}
    readers: dict[fx.Node, list[tuple[Planned, Any]]] = {}
    for layer, watcher in watched.values():
        readers.setdefault(layer.observed, []).append((layer, watcher))
    runner = _Watching(graph, readers)
    with torch.no_grad():
        for batch in tqdm(batches, desc="calibration", unit="batch", leave=False, delay=2, disable=hidden()):
            runner.run(batch)
    found = {}
    for name, (_, watcher) in watched.items():
        scale, zero_point = affine_params(*watcher.range(), bits)
        found[name] = Grid(float(scale), int(zero_point), bits)
    return found


class _Watching(fx.Interpreter):
    """Runs the graph and shows the observed tensors to their observers."""

    def __init__(self, graph: fx.GraphModule, readers: dict[fx.Node, list[tuple[Planned, Any]]]):
        super().__init__(graph)
        self.readers = readers

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for layer, watcher in self.readers.get(n, ()):
            if not torch.isfinite(value).all():
                raise QuantizationError(
                    f"layer {layer.name!r} gives NaN or infinite values on the calibration data"
                )
            watcher.update(value.clamp(*layer.matters))
        return value
