"""Post-training static quantization: a float network and some hundred examples become a network of integers.

    trace and fold -> watch the activations -> choose grids -> round weights and biases -> steps

Every tensor between the input and the last layer lies on a grid that is fixed beforehand ("static"), so that
inference needs integers only. The last layer's sums are not rounded again: scaled, they are the logits.
R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper",
arXiv:1806.08342, 2018; M. Nagel et al., "A White Paper on Neural Network Quantization", arXiv:2106.08295,
2021. It is *not* training (`qat`), and rounds to nearest: better roundings come in through `weight_codes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ._checks import check_bits
from .calibration import calibration_batches, choose_grids, observer_factory
from .graph import Planned, QuantizationError, plan, prepare
from .graph.functions import apply
from .graph.plan import KEEPS_GRID, layer_names
from .layer_codes import bias_codes, checked_codes, layer_codes
from .model import StaticModel
from .observers import Observer
from .steps import Grid, Step

__all__ = ["StaticModel", "quantize_static"]


def quantize_static(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    weight_bits: int | Mapping[str, int] = 8,
    activation_bits: int = 8,
    observer: str | type[Observer] | Callable[..., Observer] = "mse",
    per_channel: bool = True,
    reduce_range: bool = False,
    weight_codes: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> StaticModel:
    """Quantize a trained network.

    Parameters
    ----------
    model : nn.Module
        Plain, or a graph from `prepare`; not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches; a few hundred typical inputs, float32.
    weight_bits : int or mapping
        2 to 8; or by the name of the layer ("layer1.0.conv1"), 8 for those that are not named.
    activation_bits : int
        2 to 8.
    observer : str or class
        Chooses the ranges of activations: a name of `OBSERVERS`, or a class called with ``bits=``.
    per_channel : bool
        One weight scale an output channel; otherwise one a layer.
    reduce_range : bool
        Weights of at most 7 bits, +-63: pairs of products then fit 16 bits (see `saturation`).
    weight_codes : mapping, optional
        Name of a layer -> (int8 weights, scales): integers chosen elsewhere, taken as they are.
    grids : mapping, optional
        Name of a step, or "input" -> `Grid`: taken instead of calibration.

    Returns
    -------
    StaticModel

    Raises
    ------
    QuantizationError
        A ValueError: a layer that cannot be quantized, or calibration data that are empty, not finite, or do not fit.
    ValueError
        For settings out of range, and names that are no layer.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> static = quantize_static(model, torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    >>> [(step.name, step.op, step.relu) for step in static.steps]
    [('_0', 'conv2d', True), ('_3', 'flatten', False), ('_4', 'linear', False)]
    >>> static.steps[0].weight.dtype, static.steps[0].bias.dtype, static.steps[-1].grid
    (torch.int8, torch.int32, None)
    """
    activation_bits = check_bits("activation_bits", activation_bits)
    observer_factory(observer)
    batches = calibration_batches(calibration)
    graph = prepare(model, batches[0])
    source, layers = plan(graph)
    if not layers:
        raise QuantizationError("the network has no layer: there is nothing to quantize")
    names = layer_names(graph, layers)
    bits = _bits(weight_bits, names, reduce_range)
    codes = {names[n]: v for n, v in _known(weight_codes, names, "weight_codes").items()}
    chosen = dict(_known(grids, {layer.name: layer.name for layer in [source, *layers]}, "grids"))
    missing = [p for p in [source, *layers] if p.name not in chosen and p.needs_grid]
    chosen |= choose_grids(graph, missing, batches, observer=observer, bits=activation_bits)
    steps: list[Step] = []
    for layer in layers:
        _check_ceiling(layer, chosen)
        if layer.op in KEEPS_GRID:
            chosen[layer.name] = chosen[layer.inputs[0]]
        steps.append(_step(layer, chosen, codes.get(layer.name), bits.get(layer.name, 8), per_channel))
    return StaticModel(steps, chosen["input"], batches[0].shape[1:])


def _step(
    layer: Planned,
    grids: Mapping[str, Grid],
    codes: tuple[Tensor, Tensor] | None,
    bits: int,
    per_channel: bool,
) -> Step:
    grid = None if layer.is_output and layer.module is not None else grids[layer.name]
    if layer.op == "lookup":
        attributes = layer.attributes | {"table": _table(layer, grids[layer.inputs[0]], grid)}
        return Step(layer.name, "lookup", layer.inputs, grid, attributes=attributes)
    if layer.module is None:
        return Step(layer.name, layer.op, layer.inputs, grid, relu=layer.relu, attributes=layer.attributes)
    weight, bias, scale_x = layer.module.weight, layer.module.bias, grids[layer.inputs[0]].scale
    if not torch.isfinite(weight).all() or (bias is not None and not torch.isfinite(bias).all()):
        raise QuantizationError(f"layer {layer.name!r} has weights that are NaN or infinite")
    if codes is not None:
        weight, scale = checked_codes(layer.name, codes, weight, bits)
    else:
        weight, scale = layer_codes(weight, bias, input_scale=scale_x, bits=bits, per_channel=per_channel)
    bias = bias_codes(layer.name, bias, weight, scale, input_scale=scale_x)
    attributes = layer.attributes
    return Step(layer.name, layer.op, layer.inputs, grid, weight, scale, bias, layer.relu, attributes, bits)


def _table(layer: Planned, source: Grid, grid: Grid) -> Tensor:
    """The function of each level of the input, as a level of the output: uint8, (2^bits,)."""
    x = source.dequantize(torch.arange(source.highest + 1))
    return grid.quantize(apply(layer.attributes["function"], x, layer.attributes["arguments"]))


def _check_ceiling(layer: Planned, grids: Mapping[str, Grid]) -> None:
    """Refuse a given grid on which a ReLU6 would let values above 6 through: 6 must round to its last level."""
    grid = grids.get(layer.name)
    if grid is not None and grid.range[1] - grid.scale / 2 > layer.ceiling:
        raise ValueError(
            f"grids[{layer.name!r}] ends at {grid.range[1]:.4g}, but a ReLU6 follows and only the end of the grid "
            "clamps: give a grid that ends at 6 or below"
        )


def _known(given: Mapping | None, names: Mapping[str, str], what: str) -> Mapping:
    for name in given or {}:
        if name not in names:
            raise ValueError(f"{what} names {name!r}, which is none of {', '.join(sorted(names))}")
    return given or {}


def _bits(
    weight_bits: int | Mapping[str, int], names: Mapping[str, str], reduce_range: bool
) -> dict[str, int]:
    """Bits of each layer's weights by the step's name."""
    if isinstance(weight_bits, Mapping):
        given = {names[name]: bits for name, bits in _known(weight_bits, names, "weight_bits").items()}
        bits = dict.fromkeys(names.values(), 8) | given
    else:
        bits = dict.fromkeys(names.values(), weight_bits)
    bits = {name: check_bits("weight_bits", count, f"for layer {name!r}") for name, count in bits.items()}
    return {name: min(count, 7) if reduce_range else count for name, count in bits.items()}
