r"""Quantization-aware training: let the network feel its grids while it can still adapt.

    prepare_qat -> fit -> convert

:func:`prepare_qat` puts every weight, bias and activation on the grid that it will have in integers, with the
straight-through gradient (:mod:`dca_lab.quantization.ste`), and with steps that learn ("lsq", see
:mod:`dca_lab.quantization.lsq`) or stay ("ste"). The result is a module like any other: ``fit`` trains it.
:func:`convert` hands the integers and grids that it ended with to ``quantize_static``: no rounding is left that
training has not seen, so both give the same predictions but for ties.

The grids stand where :func:`dca_lab.quantization.graph.plan` says. Batch-norm is folded before training: the
simplest way that is right, since the folded weights are what gets rounded. By convention the first and the last
layer keep 8 bits, as in the LSQ paper: they read raw pixels and write the logits, and in most networks hold few of
the weights. Where they hold most of them, a figure with kept layers flatters; ``keep`` is a parameter for this.

B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018 (section 3); S. K. Esser et al., "Learned Step Size Quantization", ICLR 2020.

What this file is *not*: training from scratch. Start from a trained network; and without batch-norm's statistics a
deep one may need a smaller learning rate.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dca_lab.quantization._checks import check_bits
from dca_lab.quantization.calibration import calibration_batches, choose_grids
from dca_lab.quantization.graph import Planned, plan, prepare
from dca_lab.quantization.graph.ops import describe
from dca_lab.quantization.lsq import FirstStepObserver, LearnedStep
from dca_lab.quantization.model import StaticModel
from dca_lab.quantization.qat_bits import grid_bits, kept_layers
from dca_lab.quantization.qat_layers import QuantizedLayer
from dca_lab.quantization.static import quantize_static
from dca_lab.quantization.steps import Grid

METHODS = ("lsq", "ste")
STARTS = ("error", "paper")


class FakeQuantized(nn.Module):
    """A network whose tensors pass through their grids; made by :func:`prepare_qat`.

    Attributes
    ----------
    network : fx.GraphModule
        The folded network, its layers as :class:`QuantizedLayer`, with ``grid_...`` behind the others.
    grids : dict[str, str]
        Step of the integer model, or "input" -> the name of its grid in `network`.
    example : Tensor
        One input, (1, ...).
    """

    def __init__(self, network: fx.GraphModule, grids: dict[str, str], example: Tensor):
        super().__init__()
        self.network, self.grids = network, grids
        self.register_buffer("example", example, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of x."""
        return self.network(x)

    @property
    def bits(self) -> dict[str, int]:
        """Bits of each layer's weights, and of each activation's grid, by name."""
        layers = {n: m.grid.bits for n, m in self.network.named_modules() if isinstance(m, QuantizedLayer)}
        return layers | {f"grid of {n}": getattr(self.network, key).bits for n, key in self.grids.items()}


def prepare_qat(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor],
    *,
    weight_bits: int = 4,
    activation_bits: int = 4,
    method: str = "lsq",
    keep: str | Mapping[str, int] = "first and last",
    start: str = "error",
) -> FakeQuantized:
    """A copy of a trained network that computes on grids and can be trained.

    Parameters
    ----------
    model : nn.Module
        As for ``quantize_static``; not changed.
    calibration : Tensor or iterable of Tensor
        (N, ...), float32: where the activations' grids start. A few hundred inputs.
    weight_bits, activation_bits : int
        2 to 8. Weights lie on symmetric levels (2 bits: -1, 0, 1), activations on unsigned ones with a zero point.
    method : {"lsq", "ste"}
        Learn the steps with the weights, or keep them. Steps of 8 bits are kept in any case: Adam moves a
        parameter by about the learning rate whatever its gradient, many times what so fine a step is.
    keep : "first and last", or mapping of str to int
        Layers with bits of their own, for their weights and for what they read: 8 bits for the first and the
        last, or names as in ``quantize_static`` -> bits; "input" names the grid of the input alone. An
        activation that several layers read has such bits only if all of them are kept. ``{}`` keeps none.
    start : {"error", "paper"}
        First steps: those of least squared error, or 2 mean|v| / sqrt(Q_P).

    Returns
    -------
    FakeQuantized
        In evaluation mode it is what post-training quantization with these steps gives; ``fit`` improves it.

    Raises
    ------
    ValueError
        Settings out of range, a name that is no layer; errors of ``quantize_static`` (QuantizationError).

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    >>> qat = prepare_qat(model, x, weight_bits=2, activation_bits=3)
    >>> qat.bits
    {'0': 8, '2': 2, '4': 8, 'grid of input': 8, 'grid of _0': 3, 'grid of _2': 8}
    >>> convert(qat)(x).shape
    torch.Size([64, 3])
    """
    weight_bits = check_bits("weight_bits", weight_bits)
    activation_bits = check_bits("activation_bits", activation_bits)
    if method not in METHODS or start not in STARTS:
        raise ValueError(
            f"method is one of {METHODS} and start one of {STARTS}, not {method!r} and {start!r}"
        )
    batches = calibration_batches(calibration)
    graph = prepare(model, batches[0])
    source, layers = plan(graph)
    kept = kept_layers(keep, graph, layers)
    gridded = [p for p in [source, *layers] if p.needs_grid]
    bits = grid_bits(gridded, layers, kept, activation_bits)
    observer = FirstStepObserver if start == "paper" else "mse"
    first: dict[str, Grid] = {}
    for width in sorted(set(bits.values())):
        some = [p for p in gridded if bits[p.name] == width]
        first |= choose_grids(graph, some, batches, observer=observer, bits=width)
    _plain_relu(graph, {p.name for p in layers})
    for p in gridded:
        key, grid = _key(p), first[p.name]
        if not hasattr(graph, key):  # branches that only a concatenation reads share their grid
            learned = method == "lsq" and grid.bits < 8
            options = {"bits": grid.bits, "zero_point": grid.zero_point, "learned": learned, "batched": True}
            graph.add_submodule(key, LearnedStep(torch.tensor(grid.scale), **options))
            _insert_after(graph, p.observed, key)
    keys = {p.name: _key(p) for p in gridded}
    for p in layers:  # what keeps its input's levels has its input's grid
        keys.setdefault(p.name, keys[p.inputs[0]])
        if p.module is not None:
            width = kept.get(p.name, weight_bits)
            target = next(n.target for n in graph.graph.nodes if n.name == p.name)
            options = {"learned": method == "lsq" and width < 8, "paper_start": start == "paper"}
            layer = QuantizedLayer(p.module, getattr(graph, keys[p.inputs[0]]), bits=width, **options)
            graph.set_submodule(target, layer)
    graph.recompile()
    return FakeQuantized(graph, {p.name: _key(p) for p in gridded}, batches[0][:1].clone())


def convert(qat: FakeQuantized) -> StaticModel:
    """The integer network that a trained :class:`FakeQuantized` stands for.

    Parameters
    ----------
    qat : FakeQuantized
        Not changed. No calibration data are needed: training has fixed every grid.

    Returns
    -------
    StaticModel
        Weights in 2 to 8 bits with the learned steps as scales, int32 biases, the learned grids. ``simulate``
        gives the outputs of ``qat`` but for float32 ties, ``integers`` runs without floats, and ``save_static``
        packs the bits.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> x = torch.rand(64, 6, generator=torch.Generator().manual_seed(0))
    >>> static = convert(prepare_qat(model, x, weight_bits=2, activation_bits=2, keep={}))
    >>> static.weight_bits, static.grids["_0"].bits, int(static.steps[0].weight.abs().max())
    ({'_0': 2, '_2': 2}, 2, 1)
    """
    if not isinstance(qat, FakeQuantized):
        raise ValueError(f"convert takes what prepare_qat returned, not {type(qat).__name__}")
    plain = copy.deepcopy(qat.network)
    grids = {name: _grid(getattr(plain, key)) for name, key in qat.grids.items()}
    codes, bits = {}, {}
    for name, module in list(plain.named_modules()):
        if isinstance(module, QuantizedLayer):
            codes[name] = module.codes(), module.grid.scale.detach().flatten()
            bits[name] = module.grid.bits
            plain.set_submodule(name, module.layer)
    for node in list(plain.graph.nodes):
        if node.op == "call_module" and node.target in qat.grids.values():
            node.replace_all_uses_with(node.args[0])
            plain.graph.erase_node(node)
    plain.delete_all_unused_submodules()
    plain.recompile()
    return quantize_static(plain, qat.example, weight_bits=bits, weight_codes=codes, grids=grids)


def _grid(step: LearnedStep) -> Grid:
    return Grid(float(step.scale.detach()), step.zero_point, step.bits)


def _key(layer: Planned) -> str:
    return f"grid_{layer.observed.name}"


def _insert_after(graph: fx.GraphModule, node: fx.Node, key: str) -> None:
    with graph.graph.inserting_after(node):
        new = graph.graph.call_module(key, (node,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)


def _plain_relu(graph: fx.GraphModule, steps: set[str]) -> None:
    """A ReLU6 that a layer takes in becomes a ReLU: the learned range of the grid is its ceiling."""
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "output") or node.name in steps:
            continue
        if describe(node, graph)[1].get("function") == "relu6":
            node.op, node.target, node.args, node.kwargs = "call_function", F.relu, (node.args[0],), {}
