r"""Cross-layer equalisation: give the channels of a tensor equal ranges without changing the network.

A ReLU lets a positive factor through, so a channel may be multiplied by f where it is written and divided by f
where it is read:

.. math:: W^{(2)}\, \mathrm{relu}(W^{(1)} x + b) = (W^{(2)} F^{-1})\, \mathrm{relu}(F W^{(1)} x + F b),
   \qquad F = \mathrm{diag}(f),\; f > 0

One grid must serve all channels of a tensor. A channel a hundred times larger than its neighbours decides that
grid, and leaves two or three levels to them; after equalisation all use the whole grid. Two choices of f:

- *without data*, :math:`f_c = \sqrt{r^{(2)}_c / r^{(1)}_c}`: :math:`r^{(1)}_c` is the range of the weights that write
  channel c, :math:`r^{(2)}_c` of those that read it, and both become :math:`\sqrt{r^{(1)}_c r^{(2)}_c}`. Repeated until
  nothing changes. M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight
  Equalization and Bias Correction", ICCV, 2019 (section 4.1; their s is 1 / f).
- *with data*, :math:`f_c = R_c^{1 - \alpha} / A_c^{\alpha}`: A is the range of the activation as a share of the largest
  in its tensor, R the largest share that the channel has in the weights of one output of a reader. With a scale
  for every output channel, the weights that write c do not care about f; the activation wants
  :math:`\alpha = 1`, the readers want :math:`\alpha = 0`. The exponent is the idea of G. Xiao, J. Lin, M. Seznec,
  H. Wu, J. Demouth, S. Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
  Models", ICML, 2023.

A factor passes through ReLU, leaky ReLU, pooling, flattening, concatenation (each branch has factors of its own)
and addition (all that is added shares its factors). It does not pass through hard-swish, nor through ReLU6,
whose clip would move: what they read keeps f = 1. It is *not* an approximation: as a float network nothing changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn

from ._channels import FIXED, Names, columns
from .calibration import calibration_batches
from .graph import QuantizationError, plan, prepare
from .graph.ops import kind

_SMALLEST = (
    1e-4  # of the largest range in its tensor: a channel seen to be nearly dead may be less so on other data
)
_ROUNDS = 100  # at most; the data-free form needs about as many as layers stand behind each other


def equalize(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor] | None = None,
    *,
    strength: float = 0.5,
) -> fx.GraphModule:
    """A copy of the network that computes the same, and whose channels have ranges that are easier to quantize.

    Parameters
    ----------
    model : nn.Module
        A graph from `prepare`; with calibration data also a plain module. Not changed.
    calibration : Tensor or iterable of Tensor, optional
        (N, ...), or batches: the ranges of activations are taken from them. Without, from the weights.
    strength : float
        alpha, in [0, 1]; only with data.

    Returns
    -------
    fx.GraphModule
        To be given to `bias_correction`, `adaround`, or `quantize_static`. A dead channel (range 0) keeps its
        factor 1.

    Raises
    ------
    QuantizationError
        A ValueError: a network that cannot be quantized, or a plain module without calibration data.
    ValueError
        For a strength outside [0, 1].

    References
    ----------
    Nagel et al., ICCV 2019; Xiao et al., ICML 2023.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> model[0].weight = nn.Parameter(torch.tensor([[1.0, 1.0], [100.0, 100.0]]))
    >>> model[2].weight = nn.Parameter(torch.ones(1, 2))
    >>> x = torch.rand(16, 2)
    >>> equal = equalize(model, x, strength=1.0)
    >>> equal.get_submodule("0").weight.detach().round().tolist()
    [[100.0, 100.0], [100.0, 100.0]]
    >>> torch.allclose(equal(x), model(x), rtol=1e-4)
    True
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength!r}: it must lie in [0, 1]")
    if calibration is None:
        if not isinstance(model, fx.GraphModule):
            raise QuantizationError(
                "equalize needs calibration data, or a graph from prepare(model, example_input)"
            )
        graph = copy.deepcopy(model)
    else:
        batches = calibration_batches(calibration)
        graph = copy.deepcopy(prepare(model, batches[0]))
    names = Names(graph)
    layers = [_Layer(node, graph, names) for node in graph.graph.nodes if _has_weights(node, graph)]
    with torch.no_grad():
        if calibration is not None:
            written = _activation_ranges(graph, names, batches)
            read = _largest([(layer.read, layer.shares()) for layer in layers], names.count)
            _scale(layers, _factors(read, written, strength))
            return graph
        for _ in range(_ROUNDS):
            written = _largest([(layer.written, layer.magnitudes().amax(1)) for layer in layers], names.count)
            read = _largest([(layer.read, layer.magnitudes()) for layer in layers], names.count)
            factors = torch.where((written > 0) & (read > 0), (read / written).sqrt(), 1.0)
            factors[FIXED] = 1.0
            _scale(layers, factors)
            if (factors - 1).abs().max() < 1e-3:
                break
    return graph


class _Layer:
    """A layer with weights, and the names of the channels that it writes (O,) and reads (O, I / groups)."""

    def __init__(self, node: fx.Node, graph: fx.GraphModule, names: Names):
        self.module = graph.get_submodule(node.target)
        self.written = names.of[node]
        groups = getattr(self.module, "groups", 1)
        self.read = columns(self.module.weight, names.read[node], groups)

    def magnitudes(self) -> Tensor:
        """The largest weight of each output channel for each input channel: (O, I / groups)."""
        weight = self.module.weight
        return weight.flatten(2).abs().amax(2) if weight.dim() > 2 else weight.abs()

    def shares(self) -> Tensor:
        """The same relative to the largest of the row; depthwise filters have nothing to share with: 0."""
        size = self.magnitudes()
        if size.shape[1] == 1:
            return torch.zeros_like(size)
        return size / size.amax(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)


def _has_weights(node: fx.Node, graph: fx.GraphModule) -> bool:
    return node.op == "call_module" and kind(node, graph) in ("conv2d", "linear")


def _largest(sizes: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """For each name the largest of its sizes: (count,); 0 for a name that has none."""
    found = torch.zeros(count)
    for names, size in sizes:
        found.scatter_reduce_(0, names.flatten(), size.flatten(), "amax")
    return found


def _activation_ranges(graph: fx.GraphModule, names: Names, batches: list[Tensor]) -> Tensor:
    """For each name the largest |activation| as a share of the largest in its tensor: (count,)."""
    watched = {layer.observed for layer in plan(graph)[1]}
    ranges: dict[fx.Node, Tensor] = {}

    class Watching(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Tensor:
            value = super().run_node(n)
            if n in watched:
                size = value.abs().amax([axis for axis in range(value.dim()) if axis != names.axis[n]])
                ranges[n] = torch.maximum(ranges[n], size) if n in ranges else size
            return value

    for batch in batches:
        Watching(graph).run(batch)
    tiny = torch.finfo(torch.float32).tiny
    return _largest(
        [(names.of[n], size / size.max().clamp(min=tiny)) for n, size in ranges.items()], names.count
    )


def _factors(read: Tensor, written: Tensor, strength: float) -> Tensor:
    """f for every name, from R and A."""
    a = written.clamp(min=_SMALLEST)
    factors = torch.where(read > 0, read.clamp(min=_SMALLEST) ** (1 - strength) / a**strength, 1 / a)
    factors[written == 0] = 1.0
    factors[FIXED] = 1.0
    return factors


def _scale(layers: list[_Layer], factors: Tensor) -> None:
    """Multiply what writes a channel, and divide what reads it."""
    for layer in layers:
        write, read = factors[layer.written], factors[layer.read]
        weight, bias = layer.module.weight, layer.module.bias
        ratio = write[:, None] / read  # (O, I / groups)
        weight.mul_(ratio.reshape(*ratio.shape, *[1] * (weight.dim() - 2)))
        if bias is not None:
            bias.mul_(write)
