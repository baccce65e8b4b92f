"""How many bits each tensor gets in training for integers: the rule of kept layers, written out.

A kept layer has bits of its own for its weights and for what it reads. A tensor that several layers read has them
only where all of its readers are kept, since it lies on one grid. It is *not* a choice by measurement: that is
:mod:`dca_lab.quantization.mixed_bits`, whose result can be given as ``keep``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from dca_lab.quantization._checks import check_bits
from dca_lab.quantization.graph import Planned
from dca_lab.quantization.graph.plan import KEEPS_GRID, layer_names


def kept_layers(
    keep: str | Mapping[str, int], graph: fx.GraphModule, layers: list[Planned]
) -> dict[str, int]:
    """Bits, by the step's name, of the layers with bits of their own; errors as `prepare_qat` documents them."""
    steps = [p.name for p in layers if p.module is not None]
    if keep == "first and last":
        return {steps[0]: 8, steps[-1]: 8} if steps else {}
    if not isinstance(keep, Mapping):
        raise ValueError(f"keep={keep!r}: 'first and last', or a dict of layer -> bits ({{}} for none)")
    names = layer_names(graph, layers) | {"input": "input"}
    for name in keep:
        if name not in names:
            raise ValueError(f"keep names {name!r}, which is none of {', '.join(sorted(names))}")
    return {names[name]: check_bits(f"keep[{name!r}]", value) for name, value in keep.items()}


def grid_bits(
    gridded: list[Planned],
    layers: list[Planned],
    kept: Mapping[str, int],
    activation_bits: int,
) -> dict[str, int]:
    """Bits of each grid, by the step's name: those of its readers, where all of them are kept."""

    def readers(name: str) -> set[str]:
        found: set[str] = set()
        for p in layers:
            if name in p.inputs:
                passes_on = p.op in KEEPS_GRID or p.op == "cat"
                found |= readers(p.name) if passes_on else {p.name}
        return found

    bits = {}
    for p in gridded:
        names = set().union(*(readers(q.name) for q in gridded if q.observed is p.observed))
        special = names and names <= set(kept)
        bits[p.name] = max(kept[name] for name in names) if special else activation_bits
    return bits | ({"input": kept["input"]} if "input" in kept else {})
