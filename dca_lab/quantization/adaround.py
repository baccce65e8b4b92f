"""AdaRound for a network: each layer's weights are rounded so that its output stays the same.

    for each layer:  codes = argmin || f(y~(codes)) - f(y) ||^2,   y~ on the quantized inputs, y on the float ones

The layers are rounded in order, each reading what the rounded ones before it deliver while it aims at what the
float network gives: so a layer also makes up for the errors of its inputs (the "asymmetric reconstruction" of the
paper). That is why it helps even at 8 bits, where the rounding of the weights alone would hardly matter.

M. Nagel, R. A. Amjad, M. van Baalen, C. Louizos, T. Blankevoort, "Up or Down? Adaptive Rounding for
Post-Training Quantization", ICML, 2020. It is *not* training: no label is used, and no weight moves further than
to its other neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from ._checks import is_whole
from ._lockstep import lockstep
from ._rows import input_rows, output_rows, weight_rows
from .adaptive_rounding import round_adaptively
from .calibration import calibration_batches
from .graph import prepare
from .graph.functions import apply
from .graph.ops import describe
from .layer_codes import bias_codes
from .static import quantize_static
from .steps import Step

_KEPT = 16384  # output positions of a layer that take part


def adaround(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    reference: fx.GraphModule | None = None,
    iterations: int = 500,
    lr: float = 0.05,
    regularisation: float = 0.3,
    seed: int = 0,
    **options: Any,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Integer weights for every layer, chosen by what the layers give out on calibration data.

    Parameters
    ----------
    model : nn.Module
        Plain, or a graph from `prepare` (or `equalize`); not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), or batches; as for `quantize_static`.
    reference : fx.GraphModule, optional
        The graph whose outputs are to be matched, when `model` was changed for the quantized network's sake
        (`refit`); default: `model` itself.
    iterations, lr, regularisation : int, float, float
        As for `round_adaptively`, for each layer. A bar shows the layers when it takes long.
    seed : int
        Chooses the output positions that are looked at.
    **options
        Of `quantize_static`, such as ``weight_bits=4``: the same as in the call that follows.

    Returns
    -------
    dict
        Name of each layer -> (int8 weights, float32 scales (O,)), for ``quantize_static(..., weight_codes=)``.

    Raises
    ------
    QuantizationError, ValueError
        As `quantize_static`; and for settings out of range.

    References
    ----------
    Nagel et al., ICML 2020.

    Examples
    --------
    >>> x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    >>> codes = adaround(model, x, weight_bits=3, iterations=20)
    >>> {name: int8.shape for name, (int8, scale) in codes.items()}
    {'_0': torch.Size([4, 1, 3, 3]), '_3': torch.Size([3, 144])}
    >>> quantize_static(model, x, weight_bits=3, weight_codes=codes)(x).shape
    torch.Size([16, 3])
    """
    if not is_whole(iterations):
        raise ValueError(f"iterations={iterations!r}: give a whole number above zero")
    for name, value in {"iterations": iterations, "lr": lr, "regularisation": regularisation}.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r}: it must be above zero")
    batches = calibration_batches(calibration)
    graph = prepare(model, batches[0])
    static = quantize_static(graph, batches, **options)
    nodes = {node.name: node for node in graph.graph.nodes}
    generator = torch.Generator().manual_seed(seed)
    chosen = {}

    def revise(step: Step, x: Tensor, target: Tensor) -> Step:
        layer, source = graph.get_submodule(nodes[step.name].target), static.grids[step.inputs[0]]
        scale = step.weight_scale
        bias = None if step.bias is None else (step.bias * (scale.double() * source.scale)).float()
        x, target = input_rows(step, x), output_rows(step, target)  # (groups, R, K), (groups, R, O / groups)
        kept = torch.randperm(x.shape[1], generator=generator)[:_KEPT]
        codes = round_adaptively(
            weight_rows(step, layer.weight.detach()),
            scale.reshape(len(x), -1),
            x[:, kept],
            target[:, kept],
            bits=step.weight_bits,
            bias=None if bias is None else bias.reshape(len(x), -1),
            activation=_activation(nodes[step.name], graph),
            iterations=iterations,
            lr=lr,
            regularisation=regularisation,
            generator=generator,
        ).reshape(step.weight.shape)
        chosen[step.name] = codes, scale
        rounded = bias_codes(step.name, bias, codes, scale, input_scale=source.scale)
        return replace(step, weight=codes, bias=rounded)

    float_graph = graph if reference is None else prepare(reference, batches[0])
    lockstep(float_graph, static, torch.cat(batches), revise, title="adaptive rounding")
    return chosen


def _activation(node: fx.Node, graph: fx.GraphModule) -> Callable[[Tensor], Tensor] | None:
    """The elementwise function that alone reads a layer."""
    if len(node.users) != 1:
        return None
    reader = next(iter(node.users))
    if reader.op == "output":
        return None
    op, settings = describe(reader, graph)
    if op == "relu":
        return torch.relu
    if op == "lookup":
        return lambda y: apply(settings["function"], y, settings["arguments"])
    return None
