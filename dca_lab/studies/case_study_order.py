"""Prune, then quantize, or quantize, then prune: the same three steps in another order.

    P  cut to half the parameters     Q  round each weight to b bits, one scale an output channel     F  fine-tune

Once Q has chosen the scales, they are kept: whoever quantizes first prunes and fine-tunes *on that grid* (with a
straight-through gradient; Y. Bengio, N. Leonard, A. Courville, arXiv:1308.3432, 2013). So P-Q differs from Q-P by what
P does to the ranges and by what Q does to the choice of channels; P-F-Q, P-Q-F and Q-P-F show where training
belongs. Only weights are rounded here, since activations have no order to speak of; batch-norm is measured again at the
end of each. It is *not* the int8 file of the case study, whose activations are integers too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dca_lab import pruning
from dca_lab.pruning.graph.importance import IMPORTANCE
from dca_lab.quantization import fake_quantize_ste, weight_params
from dca_lab.training import evaluate

from .case_study_cut import cut

Scales = dict[str, Tensor]


class OnGrid(nn.Module):
    """A parametrization: the layer sees its weight rounded to a fixed grid, the optimizer the float behind it.

    Examples
    --------
    >>> OnGrid(torch.ones(2, 1), 4)(torch.tensor([[0.4], [3.7]])).tolist()
    [[0.0], [4.0]]
    """

    def __init__(self, scale: Tensor, bits: int):
        super().__init__()
        self.register_buffer("scale", scale)
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """The nearest values of the grid; gradients pass."""
        return fake_quantize_ste(weight, self.scale, bits=self.bits, symmetric=True, signed=True)


def scales_of(network: nn.Module, bits: int) -> Scales:
    """One scale an output channel for each convolution and linear layer: the largest weight is the last level.

    Examples
    --------
    >>> scales_of(nn.Sequential(nn.Conv2d(1, 8, 3)), 4)["0"].shape
    torch.Size([8, 1, 1, 1])
    """
    return {name: weight_params(layer.weight, bits=bits)[0].clone() for name, layer in _layers(network)}


def round_weights(network: nn.Module, scales: Scales, bits: int) -> nn.Module:
    """Round every weight to its grid, in place.

    Examples
    --------
    >>> layer = nn.Sequential(nn.Linear(3, 2))
    >>> codes = round_weights(layer, scales_of(layer, 4), 4)[0].weight / scales_of(layer, 4)["0"]
    >>> bool((codes - codes.round()).abs().max() < 1e-4)
    True
    """
    with torch.no_grad():
        for name, layer in _layers(network):
            layer.weight.copy_(OnGrid(scales[name], bits)(layer.weight))
    return network


def cut_rounded(
    network: nn.Module, scales: Scales, budget: float, *, multiple: int = 16
) -> tuple[nn.Module, Scales]:
    """Cut a rounded network, and its scales with it: the surviving integers are the ones that were there.

    The second cut is of a copy whose weights *are* the scales, with the scores of the first.

    Returns
    -------
    (nn.Module, dict of str to Tensor)
    """
    scores: dict[tuple[str, ...], Tensor] = {}

    def score(group: pruning.Group) -> Tensor:
        return scores.setdefault(group.layers, IMPORTANCE["group"](group))

    small = cut(network, budget, multiple=multiple, importance=score)
    carrier = copy.deepcopy(network)
    with torch.no_grad():
        for name, layer in _layers(carrier):
            layer.weight.copy_(scales[name].expand_as(layer.weight))
    carrier = cut(carrier, budget, multiple=multiple, importance=score)
    return small, {
        n: layer.weight.detach().flatten(1)[:, 0].reshape(_column(layer)) for n, layer in _layers(carrier)
    }


def finetune_on_grid(
    network: nn.Module, scales: Scales, bits: int, tune: Callable[[nn.Module], object]
) -> nn.Module:
    """Fine-tune with the rounding inside, in place: the weights end on the grid they began on."""
    for name, layer in _layers(network):
        parametrize.register_parametrization(layer, "weight", OnGrid(scales[name], bits))
    tune(network)
    for _, layer in _layers(network):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return network


def compare_orders(
    original: nn.Module,
    tune: Callable[[nn.Module], object],
    x: Tensor,
    test: tuple[Tensor, Tensor],
    *,
    bits: Sequence[int],
    budget: float = 0.5,
    multiple: int = 16,
) -> dict[str, dict[str, float]]:
    """The accuracy of each order of the same steps.

    Parameters
    ----------
    original : nn.Module
        Trained; not changed.
    tune : callable
        ``tune(network)`` fine-tunes in place.
    x : Tensor
        Images on which batch-norm is measured again.
    test : (Tensor, Tensor)
    bits : sequence of int
        Of Q: the orders are compared for each.
    budget, multiple :
        Of P, and of the channel counts.

    Returns
    -------
    dict of str to dict
        By bits, then by order: "PQ", "QP", "PFQ", "PQF", "QPF".
    """

    def accuracy(network: nn.Module) -> float:
        return evaluate(pruning.reestimate_batchnorm(network, x), *test)

    pruned = cut(original, budget, multiple=multiple)
    tuned = copy.deepcopy(pruned)
    tune(tuned)
    found = {}
    for b in bits:
        grid, later = scales_of(pruned, b), scales_of(tuned, b)
        first = scales_of(original, b)
        rounded = round_weights(copy.deepcopy(original), first, b)
        small, left = cut_rounded(rounded, first, budget, multiple=multiple)
        found[str(b)] = {
            "PQ": accuracy(round_weights(copy.deepcopy(pruned), grid, b)),
            "QP": accuracy(copy.deepcopy(small)),
            "PFQ": accuracy(round_weights(copy.deepcopy(tuned), later, b)),
            "PQF": accuracy(finetune_on_grid(copy.deepcopy(pruned), grid, b, tune)),
            "QPF": accuracy(finetune_on_grid(small, left, b, tune)),
        }
    return found


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, m) for n, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def _column(layer: nn.Module) -> tuple[int, ...]:
    """The shape in which one number an output channel meets the layer's weight."""
    return (len(layer.weight), *[1] * (layer.weight.dim() - 1))
