"""The roofline: how fast could this layer run here, at best?

A layer does F floating-point operations on B bytes. A machine with peak P FLOP/s and bandwidth W bytes/s
needs

    seconds >= max(F / P, B / W)                 attainable FLOP/s <= min(P, W * F / B)

F / B is the arithmetic intensity. Left of the ridge P / W memory is the limit, right of it arithmetic. The
bound of a model is the sum over its layers; the share of it that the model reaches, bound / measured seconds,
says how much a better kernel could still win.

B counts weights, inputs and outputs once each, as if every layer read and wrote them exactly once and
everything between the layers (activations, normalisation) were fused and free. W is that of the smallest
cache that holds the model's working set.

What this is *not*: a law of nature. It is a bound for *this* algorithm in fp32: Winograd convolutions need
fewer operations than F, a fused kernel moves fewer bytes than B, and can pass 100%.

References
----------
Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
CACM 52(4), 2009.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import nn

from ._running import threads_set_to
from .latency import latency
from .machine import Machine, machine
from .trace import LayerCost, trace


@dataclass(frozen=True)
class LayerPoint:
    """One layer in the plot: `intensity` in FLOP per byte, `attained` and `attainable` in FLOP/s."""

    name: str
    kind: str
    intensity: float
    attained: float
    attainable: float
    flops: int
    bytes: int
    seconds: float


def arithmetic_intensity(model: nn.Module, example_input: Any) -> float:
    """FLOP per byte moved: weights, inputs and outputs of every layer that multiplies, each moved once.

    Parameters
    ----------
    model : nn.Module
    example_input : Tensor or tuple of Tensor
        A larger batch reuses the weights and raises the intensity.

    Returns
    -------
    float
        0.0 for a model that multiplies nothing.

    Raises
    ------
    ValueError
        As `trace`.

    Examples
    --------
    >>> import torch
    >>> one = arithmetic_intensity(nn.Linear(1000, 1000, bias=False), torch.zeros(1, 1000))
    >>> round(one, 3)                    # two operations for each 4-byte weight
    0.499
    """
    rows = trace(model, example_input)
    moved = sum(row.bytes for row in rows)
    return sum(row.flops for row in rows) / moved if moved else 0.0


def _working_set(rows: list[LayerCost]) -> int:
    """Bytes that a repeated pass touches: all weights, and the activations around the largest layer."""
    weights = {row.name: row.weight_bytes for row in rows}
    return sum(weights.values()) + max((row.activation_bytes for row in rows), default=0)


def _seconds_bound(row: LayerCost, here: Machine, working_set: int) -> float:
    return max(row.flops / here.peak_flops, row.bytes / here.bandwidth_at(working_set))


def bound(model: nn.Module, example_input: Any, machine: Machine | None = None) -> float:
    """Least seconds to expect of one forward pass on one core: the roofline summed over the layers.

    Parameters
    ----------
    model : nn.Module
    example_input : Tensor or tuple of Tensor
    machine : Machine, optional
        Default: this machine, measured once and remembered (`machine.machine`).

    Returns
    -------
    float
        Seconds.

    Examples
    --------
    >>> import torch
    >>> m = Machine("a", "b", peak_flops=1e6, bandwidth=1e9, levels=((1 << 30, 1e9),))
    >>> bound(nn.Linear(1000, 500, bias=False), torch.zeros(1, 1000), m)      # 1e6 FLOP at 1e6 FLOP/s
    1.0
    """
    here = machine or _this_machine()
    rows = trace(model, example_input)
    working_set = _working_set(rows)
    return sum(_seconds_bound(row, here, working_set) for row in rows)


def share_of_bound(
    model: nn.Module,
    example_input: Any,
    machine: Machine | None = None,
    *,
    seconds: float | None = None,
    repeats: int = 15,
) -> float:
    """Share of the bound that a model reaches: ``bound / seconds``; 1.0 would be perfect kernels and nothing
    between them.

    Parameters
    ----------
    model, example_input, machine
        As `bound`.
    seconds : float, optional
        Measured seconds of one pass on one core, for a pass that ran elsewhere (another runtime, the same
        layers). Default: the median `latency` of `model` over `repeats` rounds.

    Raises
    ------
    ValueError
        If `seconds` is not positive.
    """
    if seconds is None:
        seconds = latency({"model": model}, example_input, repeats=repeats).median("model")
    if not seconds > 0:
        raise ValueError(f"seconds={seconds!r}: give the measured seconds of one forward pass")
    return bound(model, example_input, machine) / seconds


def layer_points(
    model: nn.Module,
    example_input: Any,
    machine: Machine | None = None,
    *,
    repeats: int = 15,
) -> list[LayerPoint]:
    """Every layer as a point of the roofline plot, timed in its place in the network, on one core.

    Parameters
    ----------
    model, example_input, machine
        As `bound`.
    repeats : int
        Passes; each layer's seconds are the median over them.

    Returns
    -------
    list of LayerPoint
        In the order of execution, layers with at least one MAC.

    Notes
    -----
    A layer of a few microseconds is timed with the cost of its own call: its point lies lower than its
    kernel.
    """
    here = machine or _this_machine()
    with threads_set_to(1):
        trace(model, example_input)  # warm-up
        passes = [trace(model, example_input, clock=time.process_time) for _ in range(max(1, repeats))]
    working_set = _working_set(passes[0])
    points = []
    for rows in zip(*passes, strict=True):
        row, seconds = rows[0], median(each.seconds for each in rows)
        if row.macs and seconds > 0:
            roof = row.flops / _seconds_bound(row, here, working_set)
            attained = row.flops / seconds
            points.append(
                LayerPoint(row.name, row.kind, row.intensity, attained, roof, row.flops, row.bytes, seconds)
            )
    return points


def _this_machine() -> Machine:
    return machine()
